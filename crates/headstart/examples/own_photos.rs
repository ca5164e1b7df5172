//! A classifier of one's own photos: a folder with a folder of images per class becomes one model file.
//!
//!     cargo run --release --example own_photos -- PHOTOS [WEIGHTS [MODEL]]
//!
//! WEIGHTS are a file for MODEL (resnet50, if not given); without one, ImageNet's are downloaded, once.
//! A photo of every class is classified in the end, as an application would do it.

use std::path::PathBuf;

use headstart::Device;
use headstart::config::TrainConfig;
use headstart::events::Event;
use headstart::inference::Control;
use headstart::job::{build_model, open_data};
use headstart::model::Model;
use headstart::trainer::{Phase, Settings, Trainer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let photos = arguments.next().ok_or("usage: own_photos PHOTOS [WEIGHTS [MODEL]]")?;
    let mut config =
        TrainConfig { data: photos.clone(), test_split: 0.2, ..TrainConfig::default() };
    if let Some(weights) = arguments.next() {
        config.weights = weights;
    }
    if let Some(model) = arguments.next() {
        config.model = model;
    }

    // The photos, a fifth held out for testing; files that are no images are left out, and named.
    let data = open_data(&config)?;
    println!("{}", data.describe());
    for skipped in &data.skipped {
        println!("skipped {}: {}", skipped.name, skipped.reason);
    }

    // The net with its weights and a new head, which learns over the frozen net.
    let (mut model, loaded) = build_model(&config, &data)?;
    if let Some(loaded) = loaded {
        println!("{loaded}");
    }
    let device = Device::cpu(config.threads)?;
    let mut trainer = Trainer::new(&mut model, &data, device, Settings::default())?;
    let mut watch = |event: &Event| {
        if let Event::Epoch(e) = event {
            println!("epoch {}: loss {:.4}, validation {:?}", e.epoch, e.loss, e.val_accuracy);
        }
        Control::Continue
    };
    trainer.fit(&Phase::head(10, 1e-3), &mut watch)?;
    if let Some(report) = trainer.evaluate(&mut watch)? {
        println!("{report}");
    }
    model.save("photos.safetensors")?;

    // The file is all an application needs: classes, image size and preprocessing lie in it.
    let model = Model::open("photos.safetensors")?;
    for file in one_of_each(&photos)? {
        match model.predict(&file) {
            Ok(classes) => println!("{}: {}", file.display(), classes[0]),
            Err(error) => println!("{}: {error}", file.display()),
        }
    }
    Ok(())
}

/// The first file of every folder in `photos`.
fn one_of_each(photos: &str) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for class in std::fs::read_dir(photos)? {
        let class = class?.path();
        if class.is_dir() {
            files.extend(std::fs::read_dir(class)?.flatten().map(|e| e.path()).min());
        }
    }
    files.sort();
    Ok(files)
}
