//! What `headstart train` prints at its end: what can be done with the model.

use crate::output::note;
use headstart::dataset::SAMPLE;
use headstart::next::next;
use headstart::page::held_out;
use headstart::run::Finished;
use headstart::summary::grouped;

/// Prints on stderr what to do next; before it, what was done, where that was on the data inside the program.
pub fn print(finished: &Finished) {
    let Finished { config, data, folder, .. } = finished;
    let sample = config.data == SAMPLE;
    if sample {
        done(finished);
    }
    note!("what to do next:");
    let mut commands = next(folder, config, held_out(data).map(|(_, subset)| subset));
    if sample {
        let cifar = "headstart train --data cifar10 --fine-tune-at 100";
        commands.push(("CIFAR-10 with ResNet-50".into(), cifar.into()));
        commands.push(("your own photos".into(), PHOTOS.into()));
    }
    for (what, command) in commands {
        note!("  {:<25}{command}", format!("{what}:"));
    }
    if sample {
        note!("the last two download what they need, once; photos has a folder for each class");
    }
}

fn done(finished: &Finished) {
    let Finished { config, data, report, folder, .. } = finished;
    let images = grouped(data.train.len());
    let start = match config.weights.as_str() {
        "none" => "randomly initialised".to_string(),
        weights => format!("with the weights {weights}"),
    };
    note!("\nwhat was done: {}, {start}, on {images} handwritten digits", config.model);
    if let Some(report) = report {
        note!("  {} accuracy of the model: {:.4}", report.split, report.accuracy);
    }
    let file = |name: &str| folder.join(name).display().to_string();
    note!(
        "pictures: {}, {}, {}",
        file("accuracy.png"),
        file("loss.png"),
        file("confusion_matrix.png")
    );
}

const PHOTOS: &str = "headstart train --data photos --recipe auto --budget 20m";
