//! What a recipe tries on images before it chooses.

use std::path::Path;
use std::time::Duration;

use headstart::cache::CacheSettings;
use headstart::config::{Precision, TrainConfig};
use headstart::dataset::Grouping;
use headstart::image::FitName;
use headstart::recipe::{Chosen, Opened, Pace, RecipeName, Tried, start};
use headstart::{Control, Result};

use crate::support::{png, write};

const BUDGET: Option<Duration> = Some(Duration::from_secs(600));
const PACE: Pace = Pace { forward: 1e11, training: 1e11 };

fn opened(data: &str) -> Opened {
    let start = start(data, Some("resnet20"));
    let config = TrainConfig { precision: Precision::F32, threads: 1, ..start };
    Opened::new(config, None, &mut |_| Control::Continue).unwrap()
}

fn tried(opened: &Opened, name: RecipeName, budget: Option<Duration>) -> Result<Option<Tried>> {
    let cache = CacheSettings::none();
    let mut go_on = |_| Ok(Control::Continue);
    opened.try_images(name, budget, &PACE, &cache, &mut |_| Control::Continue, &mut go_on)
}

fn choose(opened: Opened, tried: &Tried) -> Chosen {
    opened.choose(RecipeName::Auto, BUDGET, &PACE, Some(tried)).unwrap()
}

#[test]
fn a_recipe_splits_by_class_with_few_images_and_with_groups() {
    let place = tempfile::tempdir().unwrap();
    for class in 0..5u8 {
        for i in 0..6 + class / 4 {
            let name = format!("c{class}/bed{class}-{}/{i}.png", i % 3);
            write(place.path(), &name, &png(4, 4, [class, i, 9]));
        }
    }
    for (group, least) in [(None, 5), (Some(Grouping::Folder), 2)] {
        let start = start(place.path().to_str().unwrap(), Some("resnet20"));
        let config = TrainConfig { threads: 1, group: group.clone(), ..start };
        let opened = Opened::new(config, None, &mut |_| Control::Continue).unwrap();
        let chosen = opened.choose(RecipeName::Auto, BUDGET, &PACE, None).unwrap();
        assert!(chosen.recipe.config.stratify, "{group:?}");
        let test = chosen.data.test.unwrap().class_counts();
        assert!(test.iter().filter(|&&count| count > 0).count() >= least, "{group:?}: {test:?}");
    }
}

#[test]
fn mirrored_digits_are_no_digits_and_mirrored_textures_are_textures() {
    for (data, flips) in [("sample", false), ("synthetic:3x400x32", true)] {
        let opened = opened(data);
        let tried = tried(&opened, RecipeName::Auto, BUDGET).unwrap().unwrap();
        assert_eq!(tried.flips, flips, "{data}: {tried:?}");
        assert!(tried.fit.is_none() && tried.fits.is_empty(), "{data}: {tried:?}");
        let recipe = choose(opened, &tried).recipe;
        let augment: Vec<String> = recipe.config.augment.iter().map(|a| a.to_string()).collect();
        assert_eq!(augment.contains(&"flip".to_string()), flips, "{augment:?}");
        assert!(augment.iter().any(|change| change.starts_with("resized-crop")), "{augment:?}");
        let said = recipe.reasons.iter().any(|(_, why)| why.contains("mirror images are of"));
        assert_eq!(said, !flips, "{recipe:?}");
        assert_eq!(recipe.reasons.iter().any(|(flags, _)| flags.contains(",flip")), flips);
        recipe.config.check().unwrap();
    }
}

#[test]
fn nothing_is_tried_where_there_is_no_time_or_nothing_to_choose() {
    let opened = opened("synthetic:3x400x32");
    let second = Some(Duration::from_secs(1));
    assert_eq!(tried(&opened, RecipeName::Auto, second).unwrap(), None);
    assert_eq!(tried(&opened, RecipeName::Article, None).unwrap(), None);
    // Square images, and no augmentation.
    assert_eq!(tried(&opened, RecipeName::Quick, BUDGET).unwrap(), None);
    // Stopped.
    let (name, cache) = (RecipeName::Auto, CacheSettings::none());
    let mut stop = |_| Ok(Control::Stop);
    let found =
        opened.try_images(name, BUDGET, &PACE, &cache, &mut |_| Control::Continue, &mut stop);
    assert_eq!(found.unwrap(), None);
}

/// 64x32 pixels of grey noise with a square of the class's brightness at an end, or in the middle.
fn oblong(path: &Path, class: usize, number: usize, at_the_end: bool) {
    let mut state = ((class * 1000 + number) as u32).wrapping_mul(2654435761) + 1;
    let mut random = || {
        state = state.wrapping_mul(1664525).wrapping_add(1013904223);
        (state >> 24) as u8
    };
    let mut image = image::RgbImage::from_fn(64, 32, |_, _| image::Rgb([100 + random() / 5; 3]));
    let (left, top) = (if at_the_end { 2 } else { 26 }, 4 + u32::from(random()) % 16);
    for (x, y) in (0..8).flat_map(|x| (0..8).map(move |y| (x, y))) {
        let value = if class == 0 { 160 } else { 80 };
        image.put_pixel(left + x, top + y, image::Rgb([value + random() / 8; 3]));
    }
    image.save(path).unwrap();
}

#[test]
fn what_lies_at_the_ends_is_not_cut_off() {
    let place = tempfile::tempdir().unwrap();
    for class in 0..2 {
        let folder = place.path().join(format!("class{class}"));
        std::fs::create_dir(&folder).unwrap();
        for number in 0..200 {
            oblong(&folder.join(format!("{number}.bmp")), class, number, true);
        }
    }
    let opened = opened(place.path().to_str().unwrap());
    let tried = tried(&opened, RecipeName::Auto, BUDGET).unwrap().unwrap();
    assert_eq!(tried.fits.len(), 3);
    assert_eq!(tried.fits[2].0, "crop", "{tried:?}");
    assert_ne!(tried.fit, Some(FitName::Crop));
    assert!(tried.fits[0].1 * 2.0 < tried.fits[2].1, "{tried:?}");
    let recipe = choose(opened, &tried).recipe;
    assert_eq!(recipe.config.fit, tried.fit);
    recipe.config.check().unwrap();
}
