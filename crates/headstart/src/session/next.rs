//! What can be done with a finished run, as commands with its own names.

use std::path::Path;

use crate::data::dataset::Subset;
use crate::session::config::{TrainConfig, shell_words};

/// What to do next with the run in `folder`, each with its command. `held_out` are images that were not trained on, with the
/// name of their split; where one of them is a file, the commands name it, else they have `IMAGE` in its place.
pub fn next(
    folder: &Path,
    config: &TrainConfig,
    held_out: Option<(&str, &Subset)>,
) -> Vec<(String, String)> {
    let best = folder.join("weights/best.safetensors").display().to_string();
    let file = held_out.and_then(|(_, subset)| {
        let names = (0..subset.len()).map(|i| Path::new(&config.data).join(subset.name(i)));
        names.take(1).find(|path| path.is_file())
    });
    let image = file.map_or("IMAGE".to_string(), |path| path.display().to_string());
    let word = |text: &str| shell_words(&[text.to_string()]);
    let (model, image, data) = (word(&best), word(&image), word(&config.data));
    let mut split = String::new();
    if config.test_split > 0.0 {
        split += &format!(" --test-split {}", config.test_split);
    }
    if held_out.is_some_and(|(name, _)| name == "validation") {
        split += &format!(" --split validation --validation-split {}", config.validation_split);
    }
    if !split.is_empty() && config.seed != TrainConfig::default().seed {
        split += &format!(" --seed {}", config.seed);
    }
    let run = word(&folder.display().to_string());
    let name = folder.file_name().map_or("model".into(), |name| name.to_string_lossy());
    let (onnx, seen) = (word(&format!("{name}.onnx")), word(&format!("{name}-seen.png")));
    [
        ("classify images", format!("headstart predict {model} {image}")),
        ("see where it looks", format!("headstart explain-image {model} {image} --out {seen}")),
        ("evaluate it", format!("headstart evaluate {model} --data {data}{split}")),
        ("use it elsewhere", format!("headstart export {model} --format onnx --out {onnx}")),
        ("make this page again", format!("headstart report {run}")),
    ]
    .map(|(what, command)| (what.to_string(), command))
    .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::job::open_data;

    #[test]
    fn commands_have_real_names_quoted_for_a_shell() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("my photos");
        let pixel = crate::data::image::Rgb8::new(8, 8, vec![9; 192]).unwrap();
        let png = crate::data::image::picture::png(&pixel).unwrap();
        for class in ["a", "b"] {
            std::fs::create_dir_all(data.join(class)).unwrap();
            for i in 0..10 {
                std::fs::write(data.join(class).join(format!("{i}.png")), &png).unwrap();
            }
        }
        let config = TrainConfig {
            data: data.display().to_string(),
            test_split: 0.2,
            seed: 7,
            ..TrainConfig::default()
        };
        let images = open_data(&config).unwrap();
        let test = images.test.as_ref().unwrap();
        let list = next(Path::new("runs/it's"), &config, Some(("test", test)));
        let commands: Vec<&str> = list.iter().map(|c| c.1.as_str()).collect();
        let model = "'runs/it'\\''s/weights/best.safetensors'";
        assert!(commands[0].starts_with(&format!("headstart predict {model} '")), "{commands:?}");
        let image = commands[0].rsplit_once(" '").unwrap().1.trim_end_matches('\'');
        assert!(Path::new(image).is_file(), "{image}");
        assert!(commands[2].ends_with("my photos' --test-split 0.2 --seed 7"), "{commands:?}");
        let sample = next(Path::new("runs/train"), &TrainConfig::sample(), None);
        assert_eq!(sample[0].1, "headstart predict runs/train/weights/best.safetensors IMAGE");
        assert_eq!(sample[4].1, "headstart report runs/train");
    }
}
