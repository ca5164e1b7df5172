//! What can be done with a finished run, as commands with its own names.

use std::path::Path;

use headstart_kernels::element::DType;

use crate::data::dataset::Subset;
use crate::engine::device::Device;
use crate::session::config::{DeviceChoice, Precision, TrainConfig, shell_words};
use crate::session::job;

/// How the run in `folder`, which was stopped, goes on.
pub fn go_on(folder: &Path) -> (String, String) {
    let run = shell_words(&[folder.display().to_string()]);
    ("go on with the run".into(), format!("headstart train --resume {run}"))
}

/// What to do next with the run in `folder`, each with its command. `held_out` are images that were not trained on; where
/// the first of them is a file, the commands name it, else they have `IMAGE` in its place.
pub fn next(
    folder: &Path,
    config: &TrainConfig,
    held_out: Option<&Subset>,
) -> Vec<(String, String)> {
    let first = held_out.filter(|subset| !subset.is_empty()).map(|subset| subset.path(0));
    let file = first.filter(|path| Path::new(&**path).is_file());
    let word = |text: &str| shell_words(&[text.to_string()]);
    let run = word(&folder.display().to_string());
    let image = file.map_or("IMAGE".to_string(), |path| word(&path));
    let data = word(&config.data);
    // What a reader's command would choose by itself, and this run did not.
    let own = |device: Device| (config.precision.dtype(device.compute()), device.dtype());
    let device = match config.device {
        device @ DeviceChoice::Gpu(_) => format!(" --device {device}"),
        _ => String::new(),
    };
    let precision = match job::device(1, Precision::Auto, DeviceChoice::Cpu).map(own) {
        Ok((DType::F16, _)) => " --precision f16".to_string(),
        Ok((own, auto)) if own != auto => format!(" --precision {}", own.name()),
        _ => String::new(),
    };
    let name = folder.file_name().map_or("model".into(), |name| name.to_string_lossy());
    let (onnx, seen) = (word(&format!("{name}.onnx")), word(&format!("{name}-seen.png")));
    [
        ("classify images", format!("headstart predict {run} {image}{precision}{device}")),
        (
            "see where it looks",
            format!("headstart explain-image {run} {image}{device} --out {seen}"),
        ),
        ("evaluate it", format!("headstart evaluate {run} --data {data}{precision}{device}")),
        ("use it elsewhere", format!("headstart export {run} --format onnx --out {onnx}")),
        ("make its page again", format!("headstart report {run}")),
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
        let data = data.display().to_string();
        let config = TrainConfig { data, test_split: 0.2, ..TrainConfig::default() };
        let images = open_data(&config).unwrap();
        let test = images.test.as_ref().unwrap();
        let list = next(Path::new("runs/it's"), &config, Some(test));
        let commands: Vec<&str> = list.iter().map(|c| c.1.as_str()).collect();
        let run = "'runs/it'\\''s'";
        assert!(commands[0].starts_with(&format!("headstart predict {run} '")), "{commands:?}");
        let image = commands[0].rsplit_once(" '").unwrap().1.trim_end_matches('\'');
        assert!(Path::new(image).is_file(), "{image}");
        assert!(commands[2].ends_with("my photos'"), "{commands:?}");
        let sample = next(Path::new("runs/train"), &TrainConfig::sample(), None);
        assert_eq!(sample[0].1, "headstart predict runs/train IMAGE");
        assert_eq!(sample[4].1, "headstart report runs/train");
        let (device, precision) = (DeviceChoice::Gpu(Some(1)), Precision::F16);
        let half = TrainConfig { device, precision, ..TrainConfig::sample() };
        let list = next(Path::new("runs/train"), &half, None);
        assert_eq!(list[0].1, "headstart predict runs/train IMAGE --precision f16 --device gpu:1");
        let seen = "headstart explain-image runs/train IMAGE --device gpu:1 --out train-seen.png";
        assert_eq!(list[1].1, seen);
    }
}
