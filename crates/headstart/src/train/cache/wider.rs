//! Features of an earlier layer in place of those of a whole net: a net that was fine-tuned from some layer on is still,
//! below it, the net whose features training cached.

use headstart_kernels::element::Values;

use super::element::{Tensors, decode};
use super::fill::{Progress, Sink};
use super::folder::{About, entries};
use super::{Emit, Frozen, Hash, Layout, Runner, Store, key, store};
use crate::control::Control;
use crate::engine::execute::{Execute, Input};
use crate::engine::inference::executor;
use crate::engine::plan::{Plan, Request, is_cut};
use crate::error::Result;
use crate::net::graph::NodeId;
use crate::net::model::Model;

/// An entry of an earlier layer, and the rest of the net.
pub(super) struct Wider {
    store: Store,
    layout: Layout,
    /// From the entry's layers to the features that are wanted.
    rest: Box<dyn Execute>,
    batch: usize,
    pub about: About,
}

impl Wider {
    /// The entry of the latest layers from which `frozen`'s features follow, bit for bit, and which has half of the
    /// images at `missing` or more. What cannot be read is passed over.
    pub fn find(
        frozen: &Frozen,
        model: &Model,
        images: &[Hash],
        missing: &[usize],
    ) -> Option<Wider> {
        let (root, graph) = (frozen.settings.folder.as_ref()?, &model.net.graph);
        let mut found: Vec<(Vec<NodeId>, String, About)> = Vec::new();
        for entry in entries(root).ok()? {
            let name = entry.path.file_name()?.to_string_lossy().into_owned();
            let layers: Option<Vec<NodeId>> =
                entry.about.layers.iter().map(|layer| graph.find(layer)).collect();
            if let Some(nodes) = layers.filter(|nodes| !nodes.is_empty() && *nodes != frozen.nodes)
                && entry.about.model == model.card.architecture
            {
                found.push((nodes, name, entry.about));
            }
        }
        found.sort_by(|a, b| b.0.iter().max().cmp(&a.0.iter().max()));
        found.into_iter().find_map(|(nodes, name, about)| {
            let store = open(frozen, model, &nodes, &name)?;
            let have = missing.iter().filter(|&&i| store.has(&images[i])).count();
            if have * 2 < missing.len() {
                return None;
            }
            let (device, batch) = (&frozen.device, frozen.batch);
            let rest = executor(model, device, batch, &nodes, &frozen.nodes).ok()?;
            Some(Wider { layout: layout(frozen, model, &nodes)?, store, rest, batch, about })
        })
    }

    /// Bytes of a row.
    pub fn row_bytes(&self) -> usize {
        self.layout.row_bytes()
    }

    /// Gives `sink` the features of those images at `missing` that the entry has; positions of the others, or `None` if
    /// it was stopped.
    pub fn serve(
        &mut self,
        images: &[Hash],
        missing: &[usize],
        sink: &mut Sink<'_>,
        (progress, emit): (&mut Progress, &mut Emit<'_>),
    ) -> Result<Option<Vec<usize>>> {
        let (mut row, mut inputs) = (vec![0; self.layout.row_bytes()], Vec::new());
        let mut outputs = vec![Values::default(); self.rest.plan().request.outputs.len()];
        let mut left = Vec::new();
        for some in missing.chunks(self.batch) {
            let mut at = Vec::new();
            self.layout.tensors[..].fit(some.len(), &mut inputs);
            for &i in some {
                if !self.store.read(&images[i], &mut row) {
                    left.push(i);
                    continue;
                }
                let bytes = self.layout.split(&row);
                for ((input, bytes), (_, n)) in
                    inputs.iter_mut().zip(bytes).zip(&self.layout.tensors)
                {
                    decode(bytes, input, at.len() * n);
                }
                at.push(i);
            }
            if at.is_empty() {
                continue;
            }
            self.layout.tensors[..].fit(at.len(), &mut inputs);
            let inputs: Vec<Input<'_>> = inputs.iter().map(Input::from).collect();
            self.rest.forward(&inputs, at.len())?;
            for (i, output) in outputs.iter_mut().enumerate() {
                self.rest.read(i, output)?;
            }
            let stops = sink(&at, &outputs)? == Control::Stop;
            if progress.add(at.len(), emit)? == Control::Stop || stops {
                return Ok(None);
            }
        }
        Ok(Some(left))
    }
}

/// The entry of that name, if it is of `model`'s `nodes`, and a whole run cut there gives the same bits.
fn open(frozen: &Frozen, model: &Model, nodes: &[NodeId], name: &str) -> Option<Store> {
    let (root, device) = (frozen.settings.folder.as_ref()?, &frozen.device);
    let (sources, outputs, dtype) = (vec![0], frozen.nodes.clone(), device.dtype());
    let request = Request { batch: frozen.batch, sources, outputs, trainable: None, dtype };
    if !is_cut(&model.net.graph, &request, nodes).unwrap_or(false) {
        return None;
    }
    let layout = layout(frozen, model, nodes)?;
    // Most entries of other weights are told by the first half of the key, which needs no plan.
    if !name.starts_with(&store::half(&key::fixed(model, nodes, &layout, device))) {
        return None;
    }
    let mut runner = Runner::new(model, device, 1, nodes, &[]).ok()?;
    let key = key::key(model, nodes, &layout, device, &mut *runner.executor).ok()?;
    match store::name(&key) == name {
        true => Store::open_to_read(root, &key, &layout).ok()?,
        false => None,
    }
}

/// What a row of the features of `nodes` holds.
fn layout(frozen: &Frozen, model: &Model, nodes: &[NodeId]) -> Option<Layout> {
    let (graph, dtype) = (&model.net.graph, frozen.device.dtype());
    let (sources, outputs) = (vec![0], nodes.to_vec());
    let request = Request { batch: 1, sources, outputs, trainable: None, dtype };
    let plan = Plan::new(graph, request).ok()?;
    let tensors = nodes.iter().map(|&n| (plan.dtypes[n], graph.nodes[n].shape.elements()));
    Some(Layout { tensors: tensors.collect() })
}
