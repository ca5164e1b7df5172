//! What `headstart train` prints at its end when it trained on the data inside the program.

use headstart::dataset::SAMPLE;
use headstart::history::PhaseName;
use headstart::run::Finished;
use headstart::summary::grouped;

/// Prints on stderr what was done and what to do next, unless the data was the user's own.
pub fn print(finished: &Finished) {
    let Finished { config, data, accuracies, folder, .. } = finished;
    if config.data != SAMPLE {
        return;
    }
    let images = grouped(data.train.len());
    let start = match config.weights.as_str() {
        "none" => "randomly initialised".to_string(),
        weights => format!("with the weights {weights}"),
    };
    eprintln!("\nwhat was done: {}, {start}, on {images} handwritten digits", config.model);
    for (phase, accuracy) in accuracies {
        let what = match (phase, &config.fine_tune_at) {
            (PhaseName::Head, _) => "a new head over the frozen net".to_string(),
            (PhaseName::FineTune | PhaseName::FineTuneAgain(_), Some(layer)) => {
                format!("the net from {layer} on")
            }
            _ => "everything".to_string(),
        };
        eprintln!("  trained {what}: test accuracy {accuracy:.4}");
    }
    let file = |name: &str| folder.join(name).display().to_string();
    eprintln!(
        "pictures: {}, {}, {}",
        file("accuracy.png"),
        file("loss.png"),
        file("confusion_matrix.png")
    );
    let best = file("weights/best.safetensors");
    eprintln!("what to do next:");
    for (what, command) in [
        ("use it", format!("headstart predict {best} IMAGE.png")),
        ("evaluate it", format!("headstart evaluate {best} --data sample")),
        ("CIFAR-10 with ResNet-50", "headstart train --data cifar10 --fine-tune-at 100".into()),
        ("your own photos", PHOTOS.into()),
    ] {
        eprintln!("  {:<25}{command}", format!("{what}:"));
    }
    eprintln!("the last two download what they need, once; photos has a folder for each class");
}

const PHOTOS: &str = "headstart train --data photos --test-split 0.1 --fine-tune-at 100";
