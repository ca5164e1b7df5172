//! What `headstart train` prints at its end when it trained on the data inside the program.

use headstart::dataset::SAMPLE;
use headstart::run::Finished;
use headstart::summary::grouped;

/// Prints on stderr what was done and what to do next, unless the data was the user's own.
pub fn print(finished: &Finished) {
    let Finished { config, data, report, folder, .. } = finished;
    if config.data != SAMPLE {
        return;
    }
    let images = grouped(data.train.len());
    let start = match config.weights.as_str() {
        "none" => "randomly initialised".to_string(),
        weights => format!("with the weights {weights}"),
    };
    eprintln!("\nwhat was done: {}, {start}, on {images} handwritten digits", config.model);
    if let Some(report) = report {
        eprintln!("  {} accuracy of the model: {:.4}", report.split, report.accuracy);
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
