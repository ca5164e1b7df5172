//! Folds that are trained by gradient steps: each is a run.

use super::{Answer, Fold, Shared, measured, tell};
use crate::control::Control;
use crate::data::dataset::Dataset;
use crate::error::{Error, Result};
use crate::session::run::{Ended, Event, Job, Teller};

/// The answers of every fold; `None` if the listener stopped it.
pub fn answers(
    shared: &Shared<'_>,
    teller: &mut Teller<'_>,
) -> Result<Option<Vec<(Fold, Answer)>>> {
    let Shared { config, options, data, .. } = *shared;
    let mut found = Vec::with_capacity(options.folds);
    for fold in 0..options.folds {
        let rows = shared.rows(fold)?;
        let part = |rows: &[usize]| (!rows.is_empty()).then(|| data.train.select(rows));
        let own = Dataset {
            train: data.train.select(&rows.1.train),
            validation: part(&rows.1.test),
            test: part(&rows.0),
            skipped: Vec::new(),
            warnings: Vec::new(),
            ..data.clone()
        };
        // Goes with what is in it when the fold is done.
        let passing;
        let folder = match &options.runs {
            Some(runs) => runs.join(format!("fold{}", fold + 1)),
            None => {
                passing = tempfile::tempdir().map_err(Error::io("create", std::env::temp_dir()))?;
                passing.path().join("run")
            }
        };
        let job = Job::new(config.clone()).on(own).out(folder, false);
        let job = job.cache(options.cache.clone()).pictures(options.runs.is_some());
        let ended = job.run(&mut |event| match event {
            Event::Data(_) => Control::Continue,
            // All folds begin from the same model.
            Event::Model { .. } if fold > 0 => Control::Continue,
            event => teller.tell(event),
        })?;
        let Ended::Finished(finished) = ended else { return Ok(None) };
        let best_epoch = finished.best_epoch();
        let answer = Answer { probabilities: finished.probabilities, l2: None, best_epoch };
        let measured = measured(shared, fold, &rows, &answer);
        if tell(shared, &measured, teller) == Control::Stop {
            return Ok(None);
        }
        found.push((measured, answer));
    }
    Ok(Some(found))
}
