//! The article's job through the library: ResNet-50 with ImageNet weights on CIFAR-10, the head first,
//! then everything from layer 100 on.
//!
//!     cargo run --release --example cifar10 -- [DATA WEIGHTS.h5 [TRAINING_IMAGES]]
//!
//! Without arguments, data and weights are downloaded, once.

use std::sync::Arc;

use headstart::Compute;
use headstart::dataset::{self, DataOptions};
use headstart::events::Event;
use headstart::hub::{self, Hub, sources};
use headstart::image::Interpolation;
use headstart::inference::Control;
use headstart::model::Model;
use headstart::preprocess::Preprocess;
use headstart::run_folder::RunFolder;
use headstart::summary::Summary;
use headstart::trainer::{Phase, Settings, Trainer};
use headstart::weights::model_file::{ModelCard, VERSION};
use headstart::weights::{self, Scope};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (data, weights) = match (arguments.next(), arguments.next()) {
        (Some(data), Some(weights)) => (data.into(), weights.into()),
        _ => {
            let hub = Hub::from_env()?;
            let images = sources::data(sources::CIFAR10).ok_or("CIFAR-10 has no source")?;
            let weights = sources::weights("resnet50", sources::IMAGENET, false)?;
            let mut go_on = |_event: &hub::Event<'_>| Control::Continue;
            (hub.fetch(&images, &mut go_on)?, hub.fetch_any(&weights, &mut go_on)?)
        }
    };
    let limit = arguments.next().map(|n| n.parse()).transpose()?;

    // 1. The images, a tenth of the training images held out.
    let data = dataset::open(data, &DataOptions { limit, ..DataOptions::default() })?;
    println!("{}", data.describe());

    // 2. and 3. ResNet-50 with its ImageNet weights and a new head; images enlarged from 32 to 224.
    let card = ModelCard {
        version: VERSION,
        architecture: "resnet50".into(),
        classes: data.classes.clone(),
        height: 32,
        width: 32,
        interpolation: Interpolation::Nearest,
        upsample: 7,
        preprocess: Preprocess::Caffe,
        temperature: None,
        progress: None,
    };
    let mut model = Model::new(card, 42)?;
    println!("{}", model.load(&weights::read(weights)?, Scope::Base)?);
    let from = model.net.freeze_point("100")?;
    println!("{}", Summary::new(&model.net, &model.net.trainable(from)));

    // 4. to 6. Train the head over the frozen net; evaluate.
    let compute = Arc::new(Compute::new(0)?);
    let folder = RunFolder::create_next("runs/cifar10")?;
    let path = folder.path().to_path_buf();
    let mut trainer = Trainer::new(&mut model, &data, compute, Settings::default())?;
    trainer.record_in(folder);
    let mut watch = |event: &Event| {
        if let Event::Epoch(e) = event {
            println!("epoch {}: loss {:.4}, validation {:?}", e.epoch, e.loss, e.val_accuracy);
        }
        Control::Continue
    };
    trainer.fit(&Phase::head(5, 1e-4), &mut watch)?;
    if let Some(report) = trainer.evaluate(&mut watch)? {
        println!("{report}");
    }

    // 7. Fine-tune from layer 100 on; evaluate again; draw.
    trainer.fit(&Phase::fine_tune(from, 5, 1e-4), &mut watch)?;
    let report = trainer.evaluate(&mut watch)?;
    if let Some(report) = &report {
        println!("{report}");
    }
    headstart::report::draw(&path, &trainer.history, report.as_ref())?;

    // 8. What was learned, in one file.
    model.save("cifar10.safetensors", None, &[])?;
    Ok(())
}
