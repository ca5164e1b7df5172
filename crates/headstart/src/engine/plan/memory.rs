//! Lifetimes to offsets: buffers that are never alive at the same time share memory.

use super::{BufferSpec, Place, Plan, Request, Step};
use crate::error::{Error, Result};
use crate::memory::room_for;
use crate::net::graph::Graph;

/// Fails where images, feature maps and gradients of a batch, none of them sharing memory, are more than a slice can hold.
pub(super) fn check(plan: &Plan, graph: &Graph) -> Result<()> {
    let batch = plan.request.batch;
    let sources = plan.request.sources.iter().map(|&node| graph.nodes[node].shape.elements());
    let mut each = plan.buffers.iter().map(|buffer| buffer.elements).chain(sources);
    let bytes = each.try_fold(0usize, |sum, elements| {
        let floats = elements.checked_mul(batch)?.checked_add(plan.alignment / size_of::<f32>())?;
        sum.checked_add(floats.checked_mul(size_of::<f32>())?)
    });
    if bytes.is_some_and(|bytes| isize::try_from(bytes).is_ok()) {
        return Ok(());
    }
    let expected = "images and feature maps of at most 2^63 bytes";
    let found = format!("more, for a batch of {batch}");
    Err(Error::invalid("plan", expected, found, LOWER))
}

/// Fails where a buffer is larger than a page; it names the batch of which none is.
pub(super) fn check_page(plan: &Plan, graph: &Graph) -> Result<()> {
    let bytes = |buffer: &BufferSpec, batch: usize| buffer.floats(batch) * size_of::<f32>();
    let source = |&node: &usize| graph.nodes[node].shape.elements() * plan.dtypes[node].bytes();
    let sources = plan.request.sources.iter().map(source);
    let each = plan.buffers.iter().filter(|b| b.first != usize::MAX).map(|b| bytes(b, 1));
    let largest = each.chain(sources).max();
    let (largest, batch) = (largest.unwrap_or(0), plan.request.batch);
    if largest.saturating_mul(batch) <= plan.page {
        return Ok(());
    }
    let expected =
        format!("at most {} MB a feature map, the device's limit", plan.page / 1_000_000);
    let found = format!("{} MB for a batch of {batch}", largest.saturating_mul(batch) / 1_000_000);
    let hint = match plan.page / largest.max(1) {
        0 => "lower --image-size".to_string(),
        fits => format!("--batch-size {fits} fits"),
    };
    Err(Error::invalid("plan", expected, found, hint))
}

/// What makes a plan smaller.
const LOWER: &str = "lower --batch-size or --image-size";

impl Plan {
    /// Fails where images and arena are more than all memory of this process.
    ///
    /// # Errors
    /// In that case alone; it names what they take and what there is, and says to lower the batch or the image size.
    pub fn check_memory(&self, graph: &Graph) -> Result<()> {
        self.check_memory_or(graph, LOWER)
    }

    /// The same with a hint of its own.
    pub(crate) fn check_memory_or(&self, graph: &Graph, hint: &str) -> Result<()> {
        let Request { batch, sources, .. } = &self.request;
        let source = |&node: &usize| graph.nodes[node].shape.elements() * self.dtypes[node].bytes();
        let each: usize = sources.iter().map(source).sum();
        let bytes = (each * batch + self.arena_bytes()) as u64;
        room_for(&format!("a batch of {batch} images in the net"), bytes, hint)
    }
}

/// Fills in when each buffer is used, and its offset.
pub(super) fn assign(plan: &mut Plan) {
    for at in 0..plan.steps.len() {
        for buffer in uses(plan, plan.steps[at]) {
            let spec = &mut plan.buffers[buffer];
            spec.first = spec.first.min(at);
            spec.last = spec.last.max(at);
        }
    }
    for i in 0..plan.request.outputs.len() {
        if let Some(Place::Buffer(buffer)) = plan.values[plan.request.outputs[i]] {
            plan.buffers[buffer].last = usize::MAX;
        }
    }
    // Largest first, each into the smallest gap between the neighbours in time that holds it.
    let line = plan.alignment / size_of::<f32>();
    let size = |b: BufferSpec| b.floats(plan.request.batch).next_multiple_of(line);
    let mut order: Vec<usize> =
        (0..plan.buffers.len()).filter(|&i| plan.buffers[i].first != usize::MAX).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(size(plan.buffers[i])), i));
    let mut placed: Vec<usize> = Vec::new();
    for i in order {
        let this = plan.buffers[i];
        let mut taken: Vec<(usize, usize)> = placed
            .iter()
            .map(|&j| plan.buffers[j])
            .filter(|other| other.first <= this.last && this.first <= other.last)
            .map(|other| (other.offset, other.offset + size(other)))
            .collect();
        taken.sort_unstable();
        let need = size(this);
        // The first place from there on that is not in two pages.
        let page = plan.page / size_of::<f32>();
        let fits = |from: usize| match page - from % page {
            left if left < need && need <= page => from + left,
            _ => from,
        };
        let (mut end, mut best) = (0, None::<(usize, usize)>);
        for (start, stop) in taken {
            let from = fits(end);
            if start >= from + need && best.is_none_or(|(gap, _)| start - end < gap) {
                best = Some((start - end, from));
            }
            end = end.max(stop);
        }
        let offset = best.map_or_else(|| fits(end), |(_, offset)| offset);
        plan.buffers[i].offset = offset;
        plan.arena = plan.arena.max(offset + need);
        placed.push(i);
    }
}

/// Buffers a step reads or writes.
fn uses(plan: &Plan, step: Step) -> Vec<usize> {
    let buffer = |place: Option<Place>| match place {
        Some(Place::Buffer(buffer)) => Some(buffer),
        _ => None,
    };
    let forward = matches!(step, Step::Forward { .. } | Step::Again { .. });
    let value = |node: usize| match forward {
        true => buffer(plan.values[node]),
        false => buffer(plan.kept(node)),
    };
    let output = |group: usize| value(plan.groups[group].output);
    let inputs = |group: usize| plan.groups[group].inputs.iter().filter_map(|&n| value(n));
    match step {
        Step::Forward { group } => {
            let g = &plan.groups[group];
            inputs(group).chain(output(group)).chain(g.residual.and_then(value)).collect()
        }
        Step::Again { group, output: to } => inputs(group).chain([to]).collect(),
        Step::Loss { group, output: to } => output(group).into_iter().chain([to]).collect(),
        Step::Mask { group, gradient } => output(group).into_iter().chain([gradient]).collect(),
        Step::Accumulate { from, to } | Step::Copy { from, to } => vec![from, to],
        Step::Unpool { group, gradient, output } => {
            inputs(group).chain([gradient, output]).collect()
        }
        Step::Kernel { group, gradient } => inputs(group).chain([gradient]).collect(),
        Step::Norm { group, gradient, output, .. } => {
            inputs(group).chain([gradient]).chain(output).collect()
        }
        Step::Input { group, gradient, output, mask, sums, .. } => {
            let x = plan.reads_input(group, mask).then(|| inputs(group));
            let normalised = sums.map(inputs);
            let read = x.into_iter().flatten().chain(normalised.into_iter().flatten());
            read.chain([gradient, output]).collect()
        }
    }
}
