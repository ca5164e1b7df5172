//! Features of a whole net, up to its head, for whatever reads them: computed once per image, whichever command is first.

use headstart_kernels::element::{Slice, Values};

use super::fill::{Sink, Wanted};
use super::{CacheSettings, Emit, Frozen};
use crate::control::Control;
use crate::data::dataset::Subset;
use crate::engine::device::Device;
use crate::engine::execute::Input;
use crate::engine::inference::{self, executor, read_floats, with_fewer};
use crate::error::Result;
use crate::measure::events::Event;
use crate::net::graph::NodeId;
use crate::net::model::Model;
use crate::train::collective::Collective;

/// Images with the name of the part of the data that they are.
pub type Seen<'s> = (&'static str, &'s Subset);

/// A net whose features are read from the cache and added to it. Results are those of the net without a cache, bit for
/// bit.
///
/// The entry of a whole net is small, a few kilobytes an image, and is written whatever the weights are: the next command
/// over the same images and weights reads it. Features of earlier layers, which are a hundred times as large, are written
/// by training alone. Where training cached them for a net that was fine-tuned from there on, and the whole net's are
/// missing, the rest of the net runs over them, and nothing is written.
///
/// ```
/// use headstart::cache::{CacheSettings, DISK, Whole};
/// use headstart::{Control, Dataset, Device, Model};
///
/// let data = Dataset::load("synthetic:3x20x32")?;
/// let model = Model::builder("resnet20").weights("cifar10").build(&data)?;
/// let folder = tempfile::tempdir()?;
/// let cache = CacheSettings { memory: 0, folder: Some(folder.path().into()), disk: DISK };
/// let device = Device::cpu(0)?;
/// let mut whole = Whole::new(&model, &data.name, &device, 32, &cache);
/// let mut go_on = |_event| Ok(Control::Continue);
/// let features = whole.pooled(("train", &data.train), &mut go_on)?.unwrap();
/// assert_eq!(features.len(), 64 * data.train.len());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Whole<'a> {
    model: &'a Model,
    data: &'a str,
    device: &'a Device,
    batch: usize,
    cache: &'a CacheSettings,
    frozen: Option<Frozen>,
    /// The processes among which the images are shared, if there are several.
    among: Option<&'a mut (dyn Collective + 'static)>,
}

impl<'a> Whole<'a> {
    /// `model`, `batch` images at a time; `data` is the name of the data set, which `headstart cache list` shows.
    pub fn new(
        model: &'a Model,
        data: &'a str,
        device: &'a Device,
        batch: usize,
        cache: &'a CacheSettings,
    ) -> Whole<'a> {
        Whole { model, data, device, batch, cache, frozen: None, among: None }
    }

    /// The same among several processes: each computes a part, and all get all. All have to make the same calls.
    #[must_use]
    pub fn among(self, collective: &'a mut (dyn Collective + 'static)) -> Whole<'a> {
        let several = collective.size() > 1;
        Whole { among: several.then_some(collective), ..self }
    }

    /// What the head reads, `[images, features]` row-major; `None` if `emit` stopped it.
    ///
    /// # Errors
    /// If an image cannot be read, there is no plan for the net, or `emit` fails.
    pub fn pooled(&mut self, seen: Seen<'_>, emit: &mut Emit<'_>) -> Result<Option<Vec<f32>>> {
        self.values(seen, self.model.pooled(), emit)
    }

    /// Means over height and width of each stage's last layer, `[images, channels]` each; the last is what the head reads.
    ///
    /// # Errors
    /// As [`Whole::pooled`].
    pub fn stages(&mut self, seen: Seen<'_>, emit: &mut Emit<'_>) -> Result<Option<Vec<Vec<f32>>>> {
        let count = seen.1.len();
        let mut all: Vec<Vec<f32>> = Vec::new();
        let mut sink = |at: &[usize], values: &[Values]| {
            all.resize(values.len(), Vec::new());
            for (to, from) in all.iter_mut().zip(values) {
                scatter(from.as_slice(), at, count, to);
            }
            Ok(Control::Continue)
        };
        let control = self.visit(seen, true, &mut sink, emit)?;
        // The features come first, and are the last stage's.
        let by = all.len().min(1);
        all.rotate_left(by);
        Ok((control == Control::Continue).then_some(all))
    }

    /// Values of `node`, which is the pooling or follows from it, `[images, elements]` row-major.
    ///
    /// # Errors
    /// As [`Whole::pooled`].
    pub fn values(
        &mut self,
        seen: Seen<'_>,
        node: NodeId,
        emit: &mut Emit<'_>,
    ) -> Result<Option<Vec<f32>>> {
        let Whole { model, device, batch, .. } = *self;
        let ((split, subset), pooled) = (seen, model.pooled());
        if self.cache.folder.is_none() && self.among.is_none() {
            return plain(model, seen, node, device, batch, emit);
        }
        let mut head = match node == pooled {
            true => None,
            false => Some(executor(model, device, batch, &[pooled], &[node])?),
        };
        let (count, mut all) = (subset.len(), Vec::new());
        let mut sink = |at: &[usize], values: &[Values]| {
            match &mut head {
                None => scatter(values[0].as_slice(), at, count, &mut all),
                Some(head) => {
                    head.forward(&[Input::from(&values[0])], at.len())?;
                    scatter(Slice::F32(&read_floats(&mut **head, 0)?), at, count, &mut all);
                }
            }
            Ok(Control::Continue)
        };
        let control = self.visit((split, subset), false, &mut sink, emit)?;
        Ok((control == Control::Continue).then_some(all))
    }

    /// Gives `sink` the features of every image, and the means of stages if they are wanted.
    fn visit(
        &mut self,
        (split, subset): Seen<'_>,
        means: bool,
        sink: &mut Sink<'_>,
        emit: &mut Emit<'_>,
    ) -> Result<Control> {
        let Whole { model, data, device, batch, cache, .. } = *self;
        let mut frozen = match self.frozen.take() {
            Some(frozen) => frozen,
            None => {
                let means = means || cache.folder.is_some();
                let nodes = [model.pooled()];
                let make = |batch| Frozen::with_means(model, &nodes, means, device, batch, cache);
                with_fewer(batch, make)?.0
            }
        };
        let sink = Some(&mut *sink as _);
        let among = self.among.as_deref_mut();
        let wanted = Wanted { data, split, subset, sink, means, wider: !means, among };
        let filled = frozen.fill(model, wanted, emit)?;
        self.frozen = Some(frozen);
        Ok(filled.map_or(Control::Stop, |filled| filled.control))
    }
}

/// Values of a node without any cache.
fn plain(
    model: &Model,
    (split, subset): Seen<'_>,
    node: NodeId,
    device: &Device,
    batch: usize,
    emit: &mut Emit<'_>,
) -> Result<Option<Vec<f32>>> {
    let (start, total, mut failed) = (std::time::Instant::now(), subset.len(), None);
    let mut progress = |done| {
        let seconds = start.elapsed().as_secs_f64();
        emit(Event::Features { split, done, total, seconds }).unwrap_or_else(|error| {
            failed = Some(error);
            Control::Stop
        })
    };
    let values = inference::values(model, subset, node, device, batch, &mut progress)?;
    failed.map_or(Ok(values), Err)
}

/// Copies the values of the images at `at`, in that order in `values`, to their places among those of `count` images.
fn scatter(values: Slice<'_>, at: &[usize], count: usize, all: &mut Vec<f32>) {
    let (values, each) = (values.to_f32(), values.len() / at.len().max(1));
    all.resize(each * count, 0.0);
    for (row, &i) in values.chunks_exact(each.max(1)).zip(at) {
        all[i * each..][..each].copy_from_slice(row);
    }
}
