//! Training over several processes: what they have to agree on, and what each does for the others.
//!
//! A process computes the replicas of a batch that it owns, its part of the features and of the validation images, and
//! everything else as the others do, so that all have the same weights, epochs and decisions. What could differ, the
//! clock and the wish to stop, is that of process 0, or of any.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::run::{Held, Run};
use super::{Trainer, checkpoint};
use crate::control::{Control, UntilStop};
use crate::data::batch::Portion;
use crate::data::image::Decode;
use crate::engine::gradients::StepResult;
use crate::error::{Error, Result};
use crate::measure::macro_f1::ClassCounts;
use crate::measure::metrics::Totals;
use crate::net::weights::model_file::{ModelCard, bytes};
use crate::train::cache::Keeping;
use crate::train::collective::{own_replicas, share};

/// Asks a callback whether to continue. Among several processes its wish to stop is noted, and all stop at the next point
/// where they talk to each other.
pub(super) struct Told {
    until: UntilStop,
    wish: Option<Arc<AtomicBool>>,
}

impl Told {
    pub fn ask(&mut self, callback: impl FnOnce() -> Control) -> Control {
        let control = self.until.ask(callback);
        match &self.wish {
            None => control,
            Some(wish) => {
                wish.fetch_or(control == Control::Stop, Ordering::Relaxed);
                Control::Continue
            }
        }
    }
}

/// What every process tells the others from time to time.
#[derive(Clone, Copy, Debug, PartialEq)]
struct News {
    stop: bool,
    /// Seconds of the run.
    spent: f64,
}

const NEWS: usize = 9;

impl News {
    fn encode(self) -> Vec<u8> {
        [&[u8::from(self.stop)][..], &self.spent.to_le_bytes()].concat()
    }

    fn decode(bytes: &[u8]) -> Result<(News, &[u8])> {
        match bytes.split_first_chunk::<NEWS>() {
            Some((&[stop, spent @ ..], rest)) => {
                Ok((News { stop: stop != 0, spent: f64::from_le_bytes(spent) }, rest))
            }
            None => Err(garbled(bytes)),
        }
    }
}

fn garbled(bytes: &[u8]) -> Error {
    let hint = "all processes have to run the same program";
    Error::invalid("message of a process", "another length", format!("{} bytes", bytes.len()), hint)
}

impl Trainer<'_> {
    /// Whether there are other processes.
    pub(super) fn several(&self) -> bool {
        self.collective.size() > 1
    }

    /// Whether the replicas of a batch are shared among processes. One replica cannot be, so that every process computes it.
    pub(super) fn shares_batches(&self) -> bool {
        self.several() && self.settings.replicas > 1
    }

    /// The replicas that this process computes.
    pub(super) fn own_replicas(&self) -> Range<usize> {
        match self.shares_batches() {
            true => own_replicas(self.settings.replicas, &*self.collective),
            false => 0..self.settings.replicas,
        }
    }

    /// Which images of every batch they have.
    pub(super) fn portion(&self) -> Portion {
        let own = self.own_replicas();
        match self.shares_batches() {
            true => Portion { from: own.start, to: own.end, of: self.settings.replicas },
            false => Portion::WHOLE,
        }
    }

    /// For asking a callback.
    pub(super) fn told(&self) -> Told {
        let wish = self.several().then(|| Arc::clone(&self.wish));
        Told { until: UntilStop::default(), wish }
    }

    fn news(&self) -> News {
        let spent = self.spent_before + self.started.elapsed().as_secs_f64();
        News { stop: self.wish.load(Ordering::Relaxed), spent }
    }

    /// Takes over what all processes told, and returns what they sent besides.
    fn hear<'m>(&mut self, all: &'m [Vec<u8>]) -> Result<(Control, Vec<&'m [u8]>)> {
        let mut stops = false;
        let mut rests = Vec::new();
        for (rank, bytes) in all.iter().enumerate() {
            let (news, rest) = News::decode(bytes)?;
            stops |= news.stop;
            if rank == 0 {
                self.clock = Some(news.spent);
            }
            rests.push(rest);
        }
        Ok((if stops { Control::Stop } else { Control::Continue }, rests))
    }

    /// `own` for one process alone; for several, whether any of them was told to stop by now. All have to ask.
    ///
    /// # Errors
    /// If another process cannot be reached.
    pub fn agree(&mut self, own: Control) -> Result<Control> {
        if !self.several() {
            return Ok(own);
        }
        self.wish.fetch_or(own == Control::Stop, Ordering::Relaxed);
        let all = self.collective.gather(&self.news().encode())?;
        Ok(self.hear(&all)?.0)
    }

    /// The bytes that process 0 has; the others' own are not used.
    ///
    /// # Errors
    /// As [`Trainer::agree`].
    pub(super) fn of_first(&mut self, own: Vec<u8>) -> Result<Vec<u8>> {
        if !self.several() {
            return Ok(own);
        }
        let own = if self.collective.rank() == 0 { own } else { Vec::new() };
        Ok(self.collective.gather(&own)?.into_iter().next().unwrap_or_default())
    }

    /// A path that process 0 knows.
    ///
    /// # Errors
    /// As [`Trainer::agree`].
    pub fn path_of_first(&mut self, own: PathBuf) -> Result<PathBuf> {
        if !self.several() {
            return Ok(own);
        }
        let bytes = self.of_first(own.as_os_str().as_encoded_bytes().to_vec())?;
        match self.collective.rank() {
            0 => Ok(own),
            _ => Ok(String::from_utf8_lossy(&bytes).into_owned().into()),
        }
    }

    /// Numbers of process 0.
    pub(super) fn numbers_of_first<const N: usize>(&mut self, own: [f64; N]) -> Result<[f64; N]> {
        let bytes = self.of_first(own.map(f64::to_le_bytes).concat())?;
        let (numbers, _) = bytes.as_chunks::<8>();
        let numbers: Vec<f64> = numbers.iter().map(|b| f64::from_le_bytes(*b)).collect();
        numbers.try_into().map_err(|_| garbled(&bytes))
    }

    /// Whether it is so in all processes.
    pub(super) fn all(&mut self, own: bool) -> Result<bool> {
        if !self.several() {
            return Ok(own);
        }
        Ok(self.collective.gather(&[u8::from(own)])?.iter().all(|b| b == &[1]))
    }

    /// Where features are cached: nowhere, if a process has no room for them.
    pub(super) fn agree_keeping(&mut self, own: Keeping) -> Result<Keeping> {
        Ok(if self.all(own != Keeping::Nowhere)? { own } else { Keeping::Nowhere })
    }

    /// Those of `total` images that this process computes something of, in batches of `batch`.
    pub(super) fn own_images(&self, total: usize, batch: usize) -> Range<usize> {
        let batches = share(total.div_ceil(batch), self.collective.rank(), self.collective.size());
        (batches.start * batch).min(total)..(batches.end * batch).min(total)
    }

    /// Joins what the processes computed of their [`Trainer::own_images`].
    pub(super) fn join_values(&mut self, own: Vec<f32>) -> Result<Vec<f32>> {
        if !self.several() {
            return Ok(own);
        }
        let all = self.collective.gather(&bytes(&own))?.concat();
        let (values, _) = all.as_chunks::<4>();
        Ok(values.iter().map(|b| f32::from_le_bytes(*b)).collect())
    }

    /// Fails in all processes unless they have the same images, weights and `others`, each a name and what it is.
    ///
    /// # Errors
    /// In that case, with the first process that differs and the name of what does; if an image cannot be read.
    pub fn check_same(&mut self, others: &[(&str, String)]) -> Result<()> {
        if !self.several() {
            return Ok(());
        }
        let (images, weights) = ("images", "weights");
        // By what is in the images, not by times of files.
        let print = checkpoint::fingerprint(self.data, Decode::Reduced, &self.device)?;
        let mut own: Vec<(&str, String)> = others.to_vec();
        own.push((images, print));
        own.push((weights, self.model.parameters.fingerprint()));
        let text: Vec<String> = own
            .iter()
            .map(|(name, value)| format!("{name}\t{}", value.replace('\n', "; ")))
            .collect();
        let all = self.collective.gather(text.join("\n").as_bytes())?;
        let lines = |bytes: &[u8]| -> Vec<(String, String)> {
            let text = String::from_utf8_lossy(bytes).into_owned();
            let pairs = text.lines().filter_map(|line| line.split_once('\t'));
            pairs.map(|(name, value)| (name.to_string(), value.to_string())).collect()
        };
        let first = lines(&all[0]);
        for (rank, bytes) in all.iter().enumerate().skip(1) {
            let theirs = lines(bytes);
            let mut pairs = first.iter().zip(&theirs);
            if let Some((a, b)) = pairs.find(|(a, b)| a != b) {
                return Err(self.other(rank, a, b));
            }
        }
        Ok(())
    }

    /// The error where process `rank` has another value than process 0.
    fn other(&self, rank: usize, first: &(String, String), theirs: &(String, String)) -> Error {
        let name = &first.0;
        let (expected, found, hint) = match name.as_str() {
            "images" => (
                "the images of process 0".to_string(),
                checkpoint::others(&first.1, &theirs.1),
                "all processes read the same data set: a shared folder, or a copy of it on every machine",
            ),
            "weights" => (
                "the weights of process 0".to_string(),
                "others".to_string(),
                "all processes read the same weights: the same file on every machine",
            ),
            "instructions" => (
                first.1.clone(),
                theirs.1.clone(),
                "HEADSTART_ISA, the same for all processes, names instructions that every machine has; results depend on them",
            ),
            _ => {
                let (a, b) = difference(&first.1, &theirs.1);
                (a, b, "start all processes with the same program and the same flags")
            }
        };
        Error::invalid(format!("{name} of process {rank}"), expected, found, hint)
    }

    /// Gives all processes the model of process 0.
    pub(super) fn share_model(&mut self) -> Result<()> {
        if !self.several() {
            return Ok(());
        }
        let model = &*self.model;
        let failed = |e: serde_json::Error| {
            Error::invalid("card of a model", "one that fits JSON", e.to_string(), "")
        };
        let card = serde_json::to_vec(&model.card).map_err(failed)?;
        let values = model.parameters.tensors.iter().flat_map(|t| bytes(&t.values)).collect();
        let (card, values) = (self.of_first(card)?, self.of_first(values)?);
        self.model.card = serde_json::from_slice::<ModelCard>(&card).map_err(failed)?;
        let (all, _) = values.as_chunks::<4>();
        let mut all = all.iter().map(|b| f32::from_le_bytes(*b));
        for value in self.model.parameters.tensors.iter_mut().flat_map(|t| &mut t.values) {
            *value = all.next().ok_or_else(|| garbled(&values))?;
        }
        Ok(())
    }
}

/// The first part of two lists of settings that differs.
fn difference(a: &str, b: &str) -> (String, String) {
    let mut pairs = a.split("; ").zip(b.split("; "));
    match pairs.find(|(a, b)| a != b) {
        Some((a, b)) => (a.to_string(), b.to_string()),
        None => (a.to_string(), b.to_string()),
    }
}

impl Run<'_, '_> {
    /// Stop, if this process or any other was told to.
    pub fn agreed(&mut self, own: Control) -> Result<Control> {
        self.trainer.agree(own)
    }

    /// The mean loss and the number of correct predictions of all replicas of all processes, and whether any process was told to
    /// stop.
    pub fn together(&mut self, own: &[StepResult]) -> Result<(StepResult, Control)> {
        let trainer = &mut *self.trainer;
        if !trainer.several() {
            return Ok((mean(own.iter().copied()), Control::Continue));
        }
        let encode = |r: &StepResult| {
            let numbers = [u64::from(r.loss.to_bits()), r.correct as u64, r.count as u64];
            numbers.map(u64::to_le_bytes).concat()
        };
        let mut message = trainer.news().encode();
        message.extend(own.iter().flat_map(encode));
        let all = trainer.collective.gather(&message)?;
        let (control, rests) = trainer.hear(&all)?;
        if !trainer.shares_batches() {
            return Ok((mean(own.iter().copied()), control));
        }
        let mut results = Vec::new();
        for process in rests {
            let (numbers, rest) = process.as_chunks::<8>();
            let (replicas, odd) = numbers.as_chunks::<3>();
            if !rest.is_empty() || !odd.is_empty() {
                return Err(garbled(process));
            }
            results.extend(replicas.iter().map(|replica| {
                let [bits, correct, count] = replica.map(u64::from_le_bytes);
                let loss = f32::from_bits(bits as u32);
                StepResult { loss, correct: correct as usize, count: count as usize }
            }));
        }
        Ok((mean(results), control))
    }

    /// The metrics of the validation images from those of each process's batches, each a mean loss, correct predictions and
    /// images, in order; and whether any process was told to stop.
    pub fn held(
        &mut self,
        own: Vec<(f64, usize, usize)>,
        mut counts: ClassCounts,
    ) -> Result<(Held, Control)> {
        let mut totals = Totals::default();
        let trainer = &mut *self.trainer;
        if !trainer.several() {
            own.iter().for_each(|&(loss, correct, count)| totals.add(loss, correct, count));
            return Ok((Held { totals, macro_f1: counts.macro_f1() }, Control::Continue));
        }
        let mut message = trainer.news().encode();
        message.extend((own.len() as u64).to_le_bytes());
        let numbers = own
            .iter()
            .flat_map(|&(loss, correct, count)| [loss.to_bits(), correct as u64, count as u64]);
        message.extend(numbers.chain(counts.numbers()).flat_map(u64::to_le_bytes));
        let all = trainer.collective.gather(&message)?;
        let own_rank = trainer.collective.rank();
        let (control, rests) = trainer.hear(&all)?;
        for (rank, bytes) in rests.into_iter().enumerate() {
            let numbers: Vec<u64> =
                bytes.as_chunks::<8>().0.iter().map(|b| u64::from_le_bytes(*b)).collect();
            let (&batches, rest) = numbers.split_first().ok_or_else(|| garbled(bytes))?;
            let at = (batches as usize).saturating_mul(3);
            let (batches, others) = rest.split_at_checked(at).ok_or_else(|| garbled(bytes))?;
            for &[loss, correct, count] in batches.as_chunks::<3>().0 {
                totals.add(f64::from_bits(loss), correct as usize, count as usize);
            }
            if rank != own_rank {
                counts.merge(others.iter().copied());
            }
        }
        Ok((Held { totals, macro_f1: counts.macro_f1() }, control))
    }
}

/// The mean loss and the number of correct predictions of replicas.
fn mean(results: impl IntoIterator<Item = StepResult> + Clone) -> StepResult {
    let mut all = results.clone().into_iter();
    if let (Some(one), None) = (all.next(), all.next()) {
        return one;
    }
    let (mut loss, mut correct, mut count) = (0.0, 0, 0);
    for replica in results {
        loss += f64::from(replica.loss) * replica.count as f64;
        correct += replica.correct;
        count += replica.count;
    }
    StepResult { loss: (loss / count as f64) as f32, correct, count }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_come_back() {
        let news = News { stop: true, spent: 1.5 };
        let message = [news.encode(), vec![7]].concat();
        assert_eq!(News::decode(&message).unwrap(), (news, &[7][..]));
        assert!(News::decode(&message[..8]).is_err());
    }

    #[test]
    fn settings_that_differ_are_named() {
        let (a, b) = ("epochs = 1; seed = 2", "epochs = 1; seed = 3");
        assert_eq!(difference(a, b), ("seed = 2".to_string(), "seed = 3".to_string()));
    }
}
