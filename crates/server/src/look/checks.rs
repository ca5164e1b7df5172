//! What is found in a data set: by looking at every image, and by heads that are fitted over a net's features.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::StatusCode;
use headstart::dataset::{DataOptions, Dataset, Limits};
use headstart::evaluate::tuned_on;
use headstart::events::Event;
use headstart::inspect::{Inspection, check_labels, inspect};
use headstart::job::open_with;
use headstart::label_issues::LabelOptions;
use headstart::{Control, Result};

use super::{Check, Checked, Look, Opened, locked, spawn};
use crate::answer::{Refusal, said};
use crate::models::Served;

/// Kinds of findings, in the order in which the page has them.
pub const KINDS: [&str; 5] = ["suspected", "conflicts", "duplicates", "blank", "tiny"];

impl Look {
    /// Begins to look at every image, which decodes all of them, once somebody wants to know what is found.
    pub(super) fn begin_looking(self: &Arc<Look>, opened: &Arc<Opened>) {
        let mut state = locked(&self.state);
        if std::mem::replace(&mut state.looking, true) {
            return;
        }
        drop(state);
        let (own, opened) = (Arc::clone(self), Arc::clone(opened));
        // Not waited for at the end: it cannot be stopped.
        let _ = spawn(move || own.look_through(&opened));
    }

    /// Looks at every image: duplicates, and those of one colour or few pixels.
    fn look_through(&self, opened: &Opened) {
        // It may be opened again meanwhile, with other images at these positions.
        let is_it = |state: &super::State| matches!(&state.opened, Some(Ok(now)) if std::ptr::eq(&raw const **now, opened));
        let mut progress = |done, total| {
            let mut state = locked(&self.state);
            if is_it(&state) {
                state.looked = (done, total);
            }
        };
        let Ok(inspection) = inspect(&opened.data, 0, &mut progress) else { return };
        let found = kinds(opened, &inspection);
        let mut state = locked(&self.state);
        if !is_it(&state) {
            return;
        }
        state.found.extend(found);
        state.groups = groups(opened, &inspection);
        state.inspection = Some(Arc::new(inspection));
        state.looked.0 = state.looked.1;
    }

    /// Begins a check of the labels as they are now, by a model's features.
    ///
    /// # Errors
    /// If one is running, or the images are still looked at.
    pub(super) fn begin_check(
        self: &Arc<Look>,
        opened: &Arc<Opened>,
        served: &Arc<Served>,
    ) -> std::result::Result<(), Refusal> {
        let mut state = locked(&self.state);
        if state.check.running.is_some() {
            let message = "the head is being fitted already";
            return Err(Refusal::new(StatusCode::CONFLICT, message, ""));
        }
        let Some(inspection) = state.inspection.clone() else {
            let (done, total) = state.looked;
            let message = format!("the images are being looked at: {done} of {total}");
            return Err(Refusal::busy(message, 1));
        };
        state.check.running = Some("opening the images".into());
        state.check.failed = None;
        drop(state);
        let (own, opened, served) = (Arc::clone(self), Arc::clone(opened), Arc::clone(served));
        let thread = spawn(move || {
            let checked = own.check(&opened, &inspection, &served);
            let mut state = locked(&own.state);
            state.check.running = None;
            match checked {
                Ok(Some((checked, suggested))) => {
                    let suspected = suggested.keys().copied().collect();
                    state.found.insert("suspected", suspected);
                    state.check.suggested = suggested;
                    state.check.results.push(checked);
                }
                Ok(None) => {}
                Err(error) => state.check.failed = Some(said(&error)),
            }
        });
        match thread {
            Ok(thread) => locked(&self.threads).push(thread),
            Err(error) => {
                let mut state = locked(&self.state);
                state.check.running = None;
                state.check.failed = Some(error.to_string());
            }
        }
        Ok(())
    }

    fn check(
        &self,
        opened: &Opened,
        inspection: &Inspection,
        served: &Served,
    ) -> Result<Option<(Checked, Suggested)>> {
        let options = DataOptions {
            validation_split: 0.0,
            empty_classes: true,
            limits: Limits { decoded_bytes: 0, ..Limits::default() },
            ..DataOptions::default()
        };
        let data: Dataset = open_with(&self.source, &options, &mut |_| Control::Continue)?;
        let mut emit = |event: Event| {
            let word = match event {
                Event::Features { done, total, .. } => {
                    format!("features of {done} of {total} images")
                }
                Event::CrossValidating { done, total } => format!("head {done} of at most {total}"),
                _ => String::new(),
            };
            if !word.is_empty() {
                locked(&self.state).check.running = Some(word);
            }
            Ok(if self.stopped() { Control::Stop } else { Control::Continue })
        };
        let (device, options) = (&self.device, LabelOptions::default());
        let found = check_labels(
            &served.model,
            &data,
            inspection,
            device,
            &self.cache,
            options,
            &mut emit,
        )?;
        let Some(found) = found else { return Ok(None) };
        let positions: BTreeMap<&str, usize> =
            opened.names.iter().enumerate().map(|(at, name)| (name.as_str(), at)).collect();
        let folder = std::path::Path::new(&self.source);
        let suggested = found.issues.iter().filter_map(|issue| {
            let name = std::path::Path::new(&issue.image.name).strip_prefix(folder).ok();
            let name = name.map_or(issue.image.name.clone(), |name| name.display().to_string());
            Some((*positions.get(name.as_str())?, (issue.suggested_index, issue.probability)))
        });
        let suggested: Suggested = suggested.collect();
        let (table, _) = opened.corrected()?;
        let corrections = table.map_or(0, |table| table.rows().count());
        let (images, accuracy) = (found.images, found.accuracy);
        let tuned_on = tuned_on(&served.model, &data.train, &device.compute().threads)?;
        let suspected = suggested.len();
        Ok(Some((Checked { images, accuracy, suspected, tuned_on, corrections }, suggested)))
    }

    /// The check's state.
    pub(super) fn checked(&self) -> Check {
        locked(&self.state).check.clone()
    }
}

/// Classes that are suggested, with their probabilities, by position.
type Suggested = BTreeMap<usize, (usize, f32)>;

/// Positions of images by what was found.
fn kinds(opened: &Opened, found: &Inspection) -> Vec<(&'static str, Vec<usize>)> {
    let at = |member: &headstart::inspect::Member| opened.at(member.split, member.position);
    vec![
        ("blank", found.blank.iter().map(at).collect()),
        ("tiny", found.tiny.iter().map(at).collect()),
    ]
}

/// Positions of images that are there more than once, together.
fn groups(opened: &Opened, found: &Inspection) -> Vec<Vec<usize>> {
    let at = |member: &headstart::inspect::Member| opened.at(member.split, member.position);
    let all = found.exact_duplicates.iter().chain(&found.near_duplicates);
    all.map(|group| group.images.iter().map(at).collect()).collect()
}
