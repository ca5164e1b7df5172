//! Folds whose head alone is fitted, on features of the frozen net that are computed once.

use super::{Answer, Fold, Shared, measured, tell};
use crate::control::Control;
use crate::engine::logistic::LinearHead;
use crate::engine::logistic::team::Team;
use crate::error::Result;
use crate::measure::calibration::{calibrate, softmax};
use crate::net::model::Model;
use crate::net::weights::LoadReport;
use crate::session::run::{Event, Teller, Weights};
use crate::train::cache::{Part, Whole};
use crate::train::head_fit::{Seen, fit};
use crate::train::trainer::{INFERENCE_BATCH, Solver};

/// The answers of every fold; `None` if the listener stopped it.
pub fn answers(
    shared: &Shared<'_>,
    model: &Model,
    (solver, loaded): (Solver, Option<&LoadReport>),
    teller: &mut Teller<'_>,
) -> Result<Option<Vec<(Fold, Answer)>>> {
    let Shared { config, options, data, device, .. } = *shared;
    let weights = match loaded {
        Some(report) => Weights::Loaded { name: &config.weights, report },
        None => Weights::Random { from_scratch: false },
    };
    let event = Event::Model { model, weights, dtype: device.dtype(), train_size: None };
    if teller.tell(&event) == Control::Stop {
        return Ok(None);
    }
    let cache = options.cache.with_memory(config.cache_bytes());
    let mut whole = Whole::new(model, &data.name, device, INFERENCE_BATCH, &cache);
    let mut emit = |event| Ok(teller.tell(&Event::Training(&event)));
    let Some(features) = whole.pooled((Part::Train.name(), &data.train), &mut emit)? else {
        return Ok(None);
    };
    let width = features.len() / data.train.len().max(1);
    let gather = |rows: &[usize]| Seen {
        features: rows.iter().flat_map(|&i| &features[i * width..][..width]).copied().collect(),
        labels: rows.iter().map(|&i| data.train.label(i)).collect(),
    };
    let (compute, classes) = (device.compute(), data.classes.len());
    let class_weight = config.class_weight.as_ref();
    let mut found = Vec::with_capacity(options.folds);
    for fold in 0..options.folds {
        let rows = shared.rows(fold)?;
        let (train, validation) = (gather(&rows.1.train), gather(&rows.1.test));
        let mut progress = |event| Ok(teller.tell(&Event::Training(&event)));
        let weights = class_weight.map(|w| w.weights(&data.classes, &train.class_counts(classes)));
        let weights = weights.transpose()?.unwrap_or_default();
        let fitted =
            fit(&Team::alone(compute), &train, (classes, &weights), solver.l2, &mut progress)?;
        let Some((l2, head)) = fitted else { return Ok(None) };
        let own = gather(&rows.0).features;
        let probabilities = match config.calibrate && !validation.labels.is_empty() {
            true => {
                let logits = |head: &LinearHead, features| head.logits(compute, features);
                let values = logits(&head, &validation.features);
                let fit = calibrate(classes, &values, &validation.labels)?;
                softmax(classes, &logits(&head, &own), fit.stored().unwrap_or(1.0))
            }
            false => head.probabilities(compute, &own),
        };
        let answer = Answer { probabilities, l2: Some(l2), best_epoch: None };
        let measured = measured(shared, fold, &rows, &answer);
        if tell(shared, &measured, teller) == Control::Stop {
            return Ok(None);
        }
        found.push((measured, answer));
    }
    Ok(Some(found))
}
