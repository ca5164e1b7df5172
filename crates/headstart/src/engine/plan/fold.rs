//! Fuses nodes into groups that run as one pass: frozen batch norm into the convolution before it,
//! residual and ReLU into epilogues, pixel normalisation with upsampling and padding.

use super::Request;
use crate::error::{Error, Result};
use crate::net::graph::{Graph, NodeId, Op};
use crate::net::preprocess::ChannelMap;

/// What a group computes before its residual and ReLU.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Main {
    /// Pixel map, upsampling and zeros around, in this order.
    Frame {
        /// Pixel map.
        map: Option<ChannelMap>,
        /// Upsampling factor.
        factor: usize,
        /// Zeros on each side.
        padding: usize,
    },
    /// Convolution or dense layer.
    Conv {
        /// The layer.
        node: NodeId,
        /// A batch norm folded into its kernel and bias.
        norm: Option<NodeId>,
        /// Upsampling factor of its input, before the zeros.
        upsample: usize,
        /// Zeros around its input, beside those of the layer itself.
        padding: usize,
    },
    /// Batch norm as a pass of its own.
    Norm {
        /// The layer.
        node: NodeId,
        /// Whether it uses and tracks the statistics of the batch.
        training: bool,
    },
    /// Nothing: the group is only a ReLU.
    Identity,
    /// Sum of two inputs.
    Add,
    /// Maximum over windows.
    MaxPool(Pool),
    /// Mean over height and width.
    Average,
    /// Dropout while training.
    Dropout {
        /// The layer.
        node: NodeId,
        /// Fraction that is zeroed.
        rate: f32,
    },
    /// Softmax.
    Softmax,
}

/// A max pooling.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pool {
    /// The layer.
    pub node: NodeId,
    /// Zeros around its input.
    pub padding: usize,
}

/// Nodes that run as one pass over memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// What it computes first.
    pub main: Main,
    /// Nodes whose values it reads, the residual aside.
    pub inputs: Vec<NodeId>,
    /// Node whose value is added.
    pub residual: Option<NodeId>,
    /// Whether a ReLU follows.
    pub relu: bool,
    /// The max pooling it ends in.
    pub pool: Option<Pool>,
    /// Node whose value it produces.
    pub output: NodeId,
}

/// The groups that compute the outputs (and, for training, the graph's last node).
pub(super) fn groups(graph: &Graph, request: &Request) -> Result<Vec<Group>> {
    let needed = needed(graph, request)?;
    let mut consumers = vec![Vec::new(); graph.nodes.len()];
    for (id, node) in graph.nodes.iter().enumerate() {
        if needed[id] && !request.sources.contains(&id) {
            node.inputs.iter().for_each(|&i| consumers[i].push(id));
        }
    }
    let mut fuser = Fuser { graph, request, consumers, done: vec![false; graph.nodes.len()] };
    let mut alias: Vec<NodeId> = (0..graph.nodes.len()).collect();
    request.sources.iter().for_each(|&s| fuser.done[s] = true);
    let mut groups = Vec::new();
    for id in 0..graph.nodes.len() {
        // A mean that is asked for follows at once, so that the map it is of need not stay in memory.
        let mut next = Some(id);
        while let Some(id) = next.take().filter(|&id| needed[id] && !fuser.done[id]) {
            let Some(mut group) = fuser.group(id) else {
                alias[id] = alias[graph.nodes[id].inputs[0]];
                continue;
            };
            let resolve = |n: &mut NodeId| *n = alias[*n];
            group.inputs.iter_mut().for_each(resolve);
            group.residual.iter_mut().for_each(resolve);
            next = fuser.mean_of(group.output);
            groups.push(group);
        }
    }
    Ok(groups)
}

/// Nodes between the sources and the outputs.
fn needed(graph: &Graph, request: &Request) -> Result<Vec<bool>> {
    let mut needed = vec![false; graph.nodes.len()];
    request.outputs.iter().for_each(|&o| needed[o] = true);
    if request.trainable.is_some() {
        needed[graph.output()] = true;
    }
    for id in (0..graph.nodes.len()).rev() {
        if !needed[id] || request.sources.contains(&id) {
            continue;
        }
        if graph.nodes[id].inputs.is_empty() {
            let expected = "outputs that follow from the sources".to_string();
            let found = format!("layer {} that needs the images", graph.nodes[id].name);
            return Err(Error::invalid("plan", expected, found, ""));
        }
        graph.nodes[id].inputs.iter().for_each(|&i| needed[i] = true);
    }
    Ok(needed)
}

struct Fuser<'a> {
    graph: &'a Graph,
    request: &'a Request,
    consumers: Vec<Vec<NodeId>>,
    /// Nodes that an earlier group computes.
    done: Vec<bool>,
}

impl Fuser<'_> {
    fn trains(&self, id: NodeId) -> bool {
        self.request.trainable.as_ref().is_some_and(|t| t[id])
    }

    /// The only reader of `id`, if nothing else needs its value.
    fn next(&self, id: NodeId) -> Option<NodeId> {
        match self.consumers[id][..] {
            [next] if !self.request.outputs.contains(&id) => Some(next),
            _ => None,
        }
    }

    /// The mean of a node's map, if it is asked for and not there yet.
    fn mean_of(&self, map: NodeId) -> Option<NodeId> {
        let mean = |&&id: &&NodeId| {
            self.op(id) == Op::GlobalAveragePool && self.graph.nodes[id].inputs == [map]
        };
        self.request.outputs.iter().find(mean).copied().filter(|&id| !self.done[id])
    }

    fn op(&self, id: NodeId) -> Op {
        self.graph.nodes[id].op
    }

    /// The group that starts at `id`, or `None` where `id` changes nothing.
    fn group(&mut self, id: NodeId) -> Option<Group> {
        let inputs = self.graph.nodes[id].inputs.clone();
        let mut group = Group {
            main: Main::Identity,
            inputs,
            residual: None,
            relu: false,
            pool: None,
            output: id,
        };
        match self.op(id) {
            Op::Input(_) => return None,
            Op::Normalize(_) | Op::Upsample { .. } | Op::ZeroPadding { .. } => {
                self.frame(&mut group);
            }
            Op::Conv2D { .. } | Op::Dense { .. } => self.conv(&mut group, id, 1, 0),
            Op::BatchNorm { .. } => {
                group.main = Main::Norm { node: id, training: self.trains(id) };
                self.finish(&mut group);
                // Normalised again on the way into the pooling, it need not be stored.
                if self.trains(id) && group.residual.is_none() {
                    self.pool(&mut group);
                }
            }
            Op::Add => {
                group.main = Main::Add;
                self.rectify(&mut group);
            }
            Op::Relu => group.relu = true,
            Op::MaxPool { .. } => group.main = Main::MaxPool(Pool { node: id, padding: 0 }),
            Op::GlobalAveragePool => group.main = Main::Average,
            Op::Dropout { rate } => {
                if self.request.trainable.is_none() && !self.request.outputs.contains(&id) {
                    self.done[id] = true;
                    return None;
                }
                group.main = Main::Dropout { node: id, rate };
            }
            Op::Softmax => group.main = Main::Softmax,
        }
        self.done[id] = true;
        Some(group)
    }

    /// Makes `node` the group's last.
    fn take(&mut self, group: &mut Group, node: NodeId) {
        group.output = node;
        self.done[node] = true;
    }

    /// A convolution with a frozen batch norm after it, a residual and a ReLU.
    fn conv(&mut self, group: &mut Group, id: NodeId, upsample: usize, padding: usize) {
        let mut norm = None;
        if let Some(next) = self.next(id).filter(|&n| matches!(self.op(n), Op::BatchNorm { .. }))
            && !self.trains(next)
            && !self.trains(id)
        {
            norm = Some(next);
            self.take(group, next);
        }
        group.main = Main::Conv { node: id, norm, upsample, padding };
        self.finish(group);
    }

    /// The convolution that is the only reader of normalised pixels which the node `id` upsamples, and the zeros
    /// between.
    fn enlarged(&self, id: NodeId) -> Option<(NodeId, usize)> {
        let normalised = matches!(self.op(self.graph.nodes[id].inputs[0]), Op::Normalize(_));
        let next = self.next(id).filter(|_| normalised)?;
        let (conv, padding) = match self.op(next) {
            Op::ZeroPadding { padding } => (self.next(next)?, padding),
            _ => (next, 0),
        };
        matches!(self.op(conv), Op::Conv2D { .. }).then_some((conv, padding))
    }

    /// Normalize, then Upsample, then ZeroPadding, as far as they follow each other; upsampling of
    /// normalised pixels joins the convolution that follows, padding before a max pooling joins the
    /// pooling, and before a 3x3 convolution the convolution.
    fn frame(&mut self, group: &mut Group) {
        let (mut map, mut factor, mut padding) = (None, 1, 0);
        let mut rank = 0;
        let mut at = Some(group.output);
        while let Some(id) = at {
            let this = match self.op(id) {
                Op::Normalize(preprocess) if rank < 1 => {
                    map = Some(preprocess.channel_map());
                    1
                }
                Op::Upsample { factor: f } if rank < 2 => {
                    if f > 1
                        && let Some((conv, padding)) = self.enlarged(id)
                    {
                        if rank == 0 {
                            self.done[self.graph.nodes[conv].inputs[0]] = true;
                            self.take(group, conv);
                            self.conv(group, conv, f, padding);
                            if self.request.trainable.is_none() && group.residual.is_none() {
                                self.pool(group);
                            }
                            return;
                        }
                        break;
                    }
                    factor = f;
                    2
                }
                Op::ZeroPadding { padding: p } if rank < 3 => {
                    let pool = self.next(id).filter(|&n| matches!(self.op(n), Op::MaxPool { .. }));
                    if let (0, Some(node)) = (rank, pool) {
                        group.main = Main::MaxPool(Pool { node, padding: p });
                        self.take(group, node);
                        return;
                    }
                    let conv = self.next(id).filter(|&n| {
                        matches!(self.op(n), Op::Conv2D { kernel: 3, padding: 0, .. })
                    });
                    if let (0, Some(node)) = (rank, conv) {
                        self.take(group, node);
                        self.conv(group, node, 1, p);
                        return;
                    }
                    padding = p;
                    3
                }
                _ => break,
            };
            rank = this;
            self.take(group, id);
            at = self.next(id);
        }
        group.main = Main::Frame { map, factor, padding };
    }

    /// Takes a residual and a ReLU into the group, where they follow and are ready.
    fn finish(&mut self, group: &mut Group) {
        if let Some(next) = self.next(group.output)
            && self.op(next) == Op::Add
        {
            let inputs = &self.graph.nodes[next].inputs;
            let other = if inputs[0] == group.output { inputs[1] } else { inputs[0] };
            if other != group.output && self.done[other] {
                group.residual = Some(other);
                self.take(group, next);
            }
        }
        self.rectify(group);
    }

    /// Takes a max pooling into the group, with the padding before it.
    fn pool(&mut self, group: &mut Group) {
        let Some(next) = self.next(group.output) else { return };
        let (node, padding) = match self.op(next) {
            Op::ZeroPadding { padding } => (self.next(next), padding),
            _ => (Some(next), 0),
        };
        if let Some(node) = node.filter(|&n| matches!(self.op(n), Op::MaxPool { .. })) {
            self.done[next] = true;
            self.take(group, node);
            group.pool = Some(Pool { node, padding });
        }
    }

    fn rectify(&mut self, group: &mut Group) {
        if let Some(next) = self.next(group.output)
            && self.op(next) == Op::Relu
        {
            self.take(group, next);
            group.relu = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::preprocess::Preprocess;
    use crate::net::resnet::{Net, Recipe, Surroundings};
    use headstart_kernels::element::DType;

    fn stem(name: &str, upsample: usize, training: bool) -> (Graph, Vec<Group>) {
        let recipe = Recipe::named(name).unwrap();
        let (preprocess, classes) = (Some(Preprocess::Caffe), Some(10));
        let around = Surroundings { height: 32, width: 32, preprocess, upsample, classes };
        let graph = (*Net::new(&recipe, &around).unwrap().graph).clone();
        let trainable = training.then(|| vec![true; graph.nodes.len()]);
        let outputs = vec![graph.output()];
        let request = Request { batch: 1, sources: vec![0], outputs, trainable, dtype: DType::F32 };
        let groups = groups(&graph, &request).unwrap();
        (graph, groups)
    }

    fn names<'g>(graph: &'g Graph, groups: &[Group]) -> Vec<&'g str> {
        groups.iter().take(3).map(|g| &graph.nodes[g.output].name[..]).collect()
    }

    #[test]
    fn the_stem_takes_enlargement_and_pooling_in() {
        let (graph, groups) = stem("resnet50", 7, false);
        assert_eq!(names(&graph, &groups)[..2], ["normalize", "pool1_pool"]);
        let Main::Conv { upsample, padding, norm, .. } = groups[1].main else { panic!() };
        assert_eq!((upsample, padding, norm.is_some(), groups[1].relu), (7, 3, true, true));
        assert_eq!(groups[1].pool.map(|p| p.padding), Some(1));
        assert_eq!(groups[0].main_frame(), (1, 0));
    }

    #[test]
    fn in_training_the_batch_norm_takes_the_pooling_in() {
        let (graph, groups) = stem("resnet50", 7, true);
        assert_eq!(names(&graph, &groups), ["normalize", "conv1_conv", "pool1_pool"]);
        assert!(matches!(groups[1].main, Main::Conv { upsample: 7, norm: None, .. }));
        assert!(matches!(groups[2].main, Main::Norm { training: true, .. }));
        assert!(groups[2].relu && groups[2].pool.is_some());
    }

    #[test]
    fn images_that_are_not_enlarged_are_framed() {
        let (graph, groups) = stem("resnet50", 1, false);
        assert_eq!(names(&graph, &groups), ["conv1_pad", "conv1_relu", "pool1_pool"]);
        assert_eq!(groups[0].main_frame(), (1, 3));
        assert!(groups.iter().all(|g| g.pool.is_none()));
    }

    #[test]
    fn what_is_asked_for_is_a_value_of_its_own() {
        let (graph, _) = stem("resnet50", 7, false);
        let pad = graph.nodes.iter().position(|n| n.name == "conv1_pad").unwrap();
        let relu = graph.nodes.iter().position(|n| n.name == "conv1_relu").unwrap();
        let outputs = vec![pad, relu, graph.output()];
        let request =
            Request { batch: 1, sources: vec![0], outputs, trainable: None, dtype: DType::F32 };
        let groups = groups(&graph, &request).unwrap();
        assert_eq!(names(&graph, &groups), ["conv1_pad", "conv1_relu", "pool1_pool"]);
        assert_eq!(groups[0].main_frame(), (7, 3));
    }

    impl Group {
        fn main_frame(&self) -> (usize, usize) {
            let Main::Frame { factor, padding, .. } = self.main else { panic!("{self:?}") };
            (factor, padding)
        }
    }
}
