//! What `headstart train` says at its end when it trained on the data that ships with it.

use std::path::Path;

use headstart::config::TrainConfig;
use headstart::dataset::{Dataset, SAMPLE};
use headstart::history::PhaseName;
use headstart::summary::grouped;

/// Says on stderr what was done and how to go on from here, unless the data was the user's own.
pub fn print(config: &TrainConfig, data: &Dataset, accuracies: &[(PhaseName, f64)], run: &Path) {
    if config.data != SAMPLE {
        return;
    }
    let images = grouped(data.train.len());
    let start = match config.weights.as_str() {
        "none" => "random numbers".to_string(),
        weights => format!("the weights {weights}"),
    };
    eprintln!("\nwhat was done: {} from {start}, on {images} handwritten digits", config.model);
    for (phase, accuracy) in accuracies {
        let what = match (phase, &config.fine_tune_at) {
            (PhaseName::Head, _) => "a new head over the frozen net".to_string(),
            (PhaseName::FineTune, Some(layer)) => format!("the net from {layer} on"),
            _ => "everything".to_string(),
        };
        eprintln!("  trained {what}: test accuracy {accuracy:.4}");
    }
    let file = |name: &str| run.join(name).display().to_string();
    eprintln!(
        "pictures: {}, {}, {}",
        file("accuracy.png"),
        file("loss.png"),
        file("confusion_matrix.png")
    );
    let best = file("weights/best.safetensors");
    eprintln!("go on:");
    for (what, command) in [
        ("use it", format!("headstart predict {best} IMAGE.png")),
        ("evaluate it", format!("headstart evaluate {best} --data sample")),
        ("CIFAR-10 with this net", format!("headstart train --data {CIFAR10} {SMALL}")),
        ("CIFAR-10 as the article", format!("headstart train --data {CIFAR10} {ARTICLE}")),
        ("your own photos", format!("headstart train --data photos --test-split 0.1 {ARTICLE}")),
    ] {
        eprintln!("  {:<25}{command}", format!("{what}:"));
    }
    eprintln!(
        "CIFAR-10's file is at https://www.cs.toronto.edu/~kriz/cifar.html, WEIGHTS.h5 is Keras's"
    );
    eprintln!(
        "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5; photos has a folder for each class"
    );
}

/// The archive as its authors call it.
const CIFAR10: &str = "cifar-10-binary.tar.gz";
/// The net inside the program.
const SMALL: &str = "--model resnet20 --fine-tune-at conv3_block1_1_conv";
/// The article's settings, most of which are the defaults.
const ARTICLE: &str = "--weights WEIGHTS.h5 --fine-tune-at 100";
