//! Loading the tensors of a weight file into a net.

use std::collections::{HashMap, HashSet};
use std::fmt;

use super::{Format, Naming, Tensor, WeightFile, kinds};
use crate::error::{Error, Result};
use crate::nearest::nearest;
use crate::net::graph::{Node, NodeId, Op};
use crate::net::parameters::{Parameters, Role, layer_shapes};
use crate::net::resnet::Net;

/// Which tensors a load must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Those of the net without its head; the head is not changed.
    Base,
    /// All.
    All,
}

/// What a load did, tensor by tensor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Names found in the file and copied.
    pub applied: Vec<String>,
    /// Names of the net that were not loaded: those of the head, in [`Scope::Base`].
    pub missing: Vec<String>,
    /// Names of the file that the net does not use.
    pub unused: Vec<String>,
    /// Where the file has several copies of the net, the name of the one that was loaded: a moving average (EMA) if there is one.
    pub copy: Option<String>,
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |names: &[String]| match names {
            [] => String::new(),
            [.., _] if names.len() > 4 => {
                format!(" ({}, ... {})", names[..3].join(", "), names[names.len() - 1])
            }
            _ => format!(" ({})", names.join(", ")),
        };
        let count = self.applied.len();
        match self.missing.is_empty() {
            true => write!(f, "all {count} tensors loaded")?,
            false => {
                write!(f, "backbone loaded ({count} tensors); new head{}", list(&self.missing))?
            }
        }
        if let Some(copy) = &self.copy {
            write!(f, "; of several copies of the net one was taken: {copy}")?;
        }
        match self.unused.is_empty() {
            true => Ok(()),
            false => {
                write!(f, "; not used from the file: {}{}", self.unused.len(), list(&self.unused))
            }
        }
    }
}

/// Copies `file`'s tensors into `parameters` of `net`. Where the file's batch norms have another
/// epsilon than the net's, the moving variances are corrected by the difference, so that the net computes the same.
///
/// # Errors
/// If a tensor in scope is missing from the file or has another shape there, the file has convolutions
/// that the net does not have, or with its numbers the net has no answers; `parameters` are then unchanged.
pub fn apply(
    file: &WeightFile,
    net: &Net,
    parameters: &mut Parameters,
    scope: Scope,
) -> Result<LoadReport> {
    let (file, plan) = Match::of_one(file, net, scope)?;
    plan.check(file, net)?;
    for (&(to, at), name) in plan.pairs.iter().zip(&plan.report.applied) {
        let expected = || format!("parameters of the net, {name} among them");
        let target = parameters.tensors.get_mut(to).filter(|t| t.name == *name);
        let target = target.filter(|t| t.values.len() == file.tensors[at].values.len());
        let Some(target) = target else {
            return Err(Error::invalid("parameters", expected(), "others", ""));
        };
        target.values.copy_from_slice(&file.tensors[at].values);
    }
    for &(to, at) in &plan.pairs {
        if parameters.tensors[to].role == Role::MovingVariance {
            let layer = file.tensors[at].name.rsplit_once('/').map_or("", |(layer, _)| layer);
            if let Some(&epsilon) = file.epsilon.get(layer) {
                change_epsilon(net, parameters, to, epsilon);
            }
        }
    }
    Ok(plan.report)
}

/// Greatest variance of a batch norm that can be: a standard deviation of ten million, where pixels are below 256.
const GREATEST: f32 = 1e14;

/// Fails for variances of a batch norm that have no square root, with the epsilon that is added to them, or that nothing has.
fn check_variances(file: &WeightFile, have: &Tensor, op: &Op) -> Result<()> {
    let Op::BatchNorm { epsilon: own, .. } = *op else { return Ok(()) };
    let layer = have.name.rsplit_once('/').map_or("", |(layer, _)| layer);
    let epsilon = file.epsilon.get(layer).copied().unwrap_or(own);
    let bad = have.values.iter().copied().filter(|&v| v + epsilon <= 0.0 || v > GREATEST);
    let Some(worst) = bad.clone().max_by(|a, b| a.abs().total_cmp(&b.abs())) else {
        return Ok(());
    };
    let (limits, beyond) = match worst > 0.0 {
        true => (format!("variances of {GREATEST:e} at most"), "above it, up to"),
        false => ("variances of 0 or more".to_string(), "below it, down to"),
    };
    let expected = format!("{limits} in {}", have.name);
    let found = format!("{} of {} {beyond} {worst}", bad.count(), have.values.len());
    let hint = "a variance is a mean of squares, and its root divides: the net has no answer with these. The file is damaged, or \
                its weights were calculated from others (averaged, subtracted, quantised) as if they were kernels; take one that \
                training saved";
    Err(Error::format(&file.path, expected, found, hint))
}

/// Makes the batch norm whose variance is tensor `at` compute with its own epsilon what it would with
/// `epsilon`: `variance + epsilon` stays. Where that would give a negative variance, gamma is scaled instead.
fn change_epsilon(net: &Net, parameters: &mut Parameters, at: usize, epsilon: f32) {
    let node = parameters.tensors[at].node;
    let Op::BatchNorm { epsilon: own, .. } = net.graph.nodes[node].op else { return };
    let gamma = parameters.index(node, Role::Gamma);
    if epsilon == own {
        return;
    }
    for c in 0..parameters.tensors[at].values.len() {
        let variance = f64::from(parameters.tensors[at].values[c]);
        let sum = variance + f64::from(epsilon);
        if sum >= f64::from(own) {
            parameters.tensors[at].values[c] = (sum - f64::from(own)) as f32;
        } else if let Some(gamma) = gamma {
            let factor = ((variance + f64::from(own)) / sum).sqrt();
            parameters.tensors[gamma].values[c] *= factor as f32;
        }
    }
}

/// Which tensor of a file belongs to which tensor of a net.
pub(super) struct Match {
    /// Position among the net's parameters, position among the file's tensors.
    pairs: Vec<(usize, usize)>,
    report: LoadReport,
}

impl Match {
    /// Finds every tensor in scope: in the net that the file gives first, or else in one of its spares.
    ///
    /// # Errors
    /// As [`apply`], for the first.
    pub fn of_one<'f>(
        file: &'f WeightFile,
        net: &Net,
        scope: Scope,
    ) -> Result<(&'f WeightFile, Match)> {
        let first = match Match::new(file, net, scope) {
            Ok(found) => return Ok((file, found)),
            Err(error) => error,
        };
        let spares = file.spares.iter();
        let mut fits =
            spares.filter_map(|spare| Some((spare, Match::new(spare, net, scope).ok()?)));
        fits.next().ok_or(first)
    }

    /// Finds every tensor in scope.
    ///
    /// # Errors
    /// As [`apply`].
    pub fn new(file: &WeightFile, net: &Net, scope: Scope) -> Result<Match> {
        let last = net.base_output();
        let kinds = kinds::names(&net.graph);
        let by_name: HashMap<&str, usize> =
            file.tensors.iter().enumerate().map(|(i, t)| (t.name.as_str(), i)).collect();
        let (mut report, mut pairs) = (LoadReport::default(), Vec::new());
        let mut used = vec![false; file.tensors.len()];
        let nodes = 0..net.graph.nodes.len();
        let wanted =
            nodes.flat_map(|id| layer_shapes(&net.graph, id).into_iter().map(move |s| (id, s)));
        for (to, (node, (role, shape))) in wanted.enumerate() {
            let layer = &net.graph.nodes[node].name;
            let own = format!("{layer}/{}", role.name());
            if scope == Scope::Base && node > last {
                report.missing.push(own);
                continue;
            }
            let theirs = match (file.naming, kinds.get(&node)) {
                (Naming::Kinds, Some(kind)) => format!("{kind}/{}", role.name()),
                _ => own.clone(),
            };
            let at =
                by_name.get(theirs.as_str()).copied().or_else(|| other_head(file, net, node, role));
            let Some(at) = at else { return Err(absent((file, net, node), &own, &theirs, &shape)) };
            let have = &file.tensors[at];
            if have.shape != shape || have.values.len() != shape.iter().product::<usize>() {
                return Err(Error::format(
                    &file.path,
                    format!("{own} of shape {shape:?}"),
                    format!("shape {:?}", have.shape),
                    "the weights are of another architecture or another number of classes",
                ));
            }
            used[at] = true;
            pairs.push((to, at));
            report.applied.push(own);
        }
        let rest = || file.tensors.iter().zip(&used).filter(|(_, used)| !**used).map(|(t, _)| t);
        let whole = scope == Scope::All;
        let blocks = blocks(net);
        let of_net = |t: &Tensor| is_inside(t, &blocks, net);
        if let Some(t) = rest().find(|t| is_kernel(t, 4) || (whole && is_kernel(t, 2)) || of_net(t))
        {
            let hint = "the weights are of another architecture, which computes something else";
            let found = format!("{} of shape {:?} beside them", t.name, t.shape);
            return Err(Error::format(&file.path, "only layers that the net has", found, hint));
        }
        report.unused = rest().map(|t| t.name.clone()).chain(file.outside.clone()).collect();
        report.copy = file.copy.clone();
        Ok(Match { pairs, report })
    }

    /// Fails for numbers with which the net has no answers: some that are not finite, variances that nothing has.
    ///
    /// # Errors
    /// In that case.
    pub fn check(&self, file: &WeightFile, net: &Net) -> Result<()> {
        let nodes = 0..net.graph.nodes.len();
        let targets: Vec<(NodeId, Role)> = nodes
            .flat_map(|id| layer_shapes(&net.graph, id).into_iter().map(move |s| (id, s.0)))
            .collect();
        let mut variances = Vec::new();
        for &(to, at) in &self.pairs {
            let have = &file.tensors[at];
            if let Some(bad) = have.values.iter().find(|v| !v.is_finite()) {
                let expected = format!("finite numbers in {}", have.name);
                let hint = "training diverged before it was saved, or the file is damaged";
                return Err(Error::format(&file.path, expected, bad.to_string(), hint));
            }
            let (node, role) = targets[to];
            if role == Role::MovingVariance {
                check_variances(file, have, &net.graph.nodes[node].op)?;
                variances.push(have);
            }
        }
        let count = variances.len();
        if count > 0 && variances.iter().all(|have| have.values.iter().all(|&v| v == 0.0)) {
            let expected = "variances above 0 in the net's batch norms";
            let found = format!("0 in all {count} of them");
            let hint = "the statistics of the batches were lost when the file was made: take one that training saved";
            return Err(Error::format(&file.path, expected, found, hint));
        }
        Ok(())
    }
}

/// What stands before the names of the layers of the net's blocks: `layer1.0.`, `conv2_block1_`.
fn blocks(net: &Net) -> HashSet<&str> {
    let names = net.graph.nodes.iter().map(|node| node.name.as_str());
    names.filter_map(|name| Some(&name[..name_of_block(name)?])).collect()
}

/// Where the name of a layer's block ends, in PyTorch's and in Keras's names.
fn name_of_block(name: &str) -> Option<usize> {
    if name.starts_with("layer") {
        let mut dots = name.match_indices('.').map(|(dot, _)| dot + 1);
        return dots.nth(1);
    }
    let block = name.find("_block")? + "_block".len();
    name[block..].find('_').map(|end| block + end + 1)
}

/// Names of what profilers count beside the layers of a net.
const COUNTED: [&str; 4] = ["total_ops", "total_params", "total_flops", "num_batches_tracked"];

/// Whether a tensor that the net does not use is of one of its blocks or layers, which then compute something else. Zeros added
/// change nothing.
fn is_inside(t: &Tensor, blocks: &HashSet<&str>, net: &Net) -> bool {
    let (layer, role) = t.name.rsplit_once('/').unwrap_or((&t.name, ""));
    if COUNTED.iter().any(|name| t.name.ends_with(name)) {
        return false;
    }
    let is_own = |node: &Node| node.name == layer && matches!(node.op, Op::Conv2D { .. });
    if role == "bias" && net.graph.nodes.iter().any(is_own) {
        return t.values.iter().any(|&v| v != 0.0);
    }
    name_of_block(layer).is_some_and(|end| blocks.contains(&layer[..end]))
}

fn is_kernel(t: &Tensor, axes: usize) -> bool {
    t.shape.len() == axes && t.name.ends_with("/kernel")
}

/// The tensor of a head under another name: of the only dense layer that the file has.
fn other_head(file: &WeightFile, net: &Net, node: NodeId, role: Role) -> Option<usize> {
    if !matches!(net.graph.nodes[node].op, Op::Dense { .. }) {
        return None;
    }
    let layer = only_dense(file)?;
    let name = format!("{layer}/{}", role.name());
    file.tensors.iter().position(|t| t.name == name)
}

/// The name of the only dense layer that the file has.
pub(super) fn only_dense(file: &WeightFile) -> Option<&str> {
    let mut dense = file.tensors.iter().filter(|t| is_kernel(t, 2));
    let only = dense.next()?;
    dense.next().is_none().then(|| only.name.rsplit_once('/')).flatten().map(|(layer, _)| layer)
}

fn absent(
    (file, net, node): (&WeightFile, &Net, NodeId),
    own: &str,
    theirs: &str,
    shape: &[usize],
) -> Error {
    let names = || file.tensors.iter().map(|t| t.name.as_str());
    let near = nearest(theirs, names(), 1);
    let found = match near.first().and_then(|n| file.tensors.iter().find(|t| t.name == **n)) {
        Some(t) => format!("no such tensor; the nearest is {} of shape {:?}", t.name, t.shape),
        None if file.tensors.is_empty() => "no tensors".into(),
        None => format!("no such tensor among {}", file.tensors.len()),
    };
    let called = if own == theirs { String::new() } else { format!(" (there {theirs})") };
    let expected = format!("{own}{called} of shape {shape:?}");
    Error::format(&file.path, expected, found, why_absent(file, net, node))
}

/// What a file is probably, that lacks a tensor of layer `node`.
fn why_absent(file: &WeightFile, net: &Net, node: NodeId) -> &'static str {
    let has = |part: &str| file.listing.iter().any(|t| t.name.contains(part));
    let name = file.path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let layers: HashSet<&str> =
        file.tensors.iter().filter_map(|t| Some(t.name.rsplit_once('/')?.0)).collect();
    let own = net.graph.nodes.iter().filter(|n| matches!(n.op, Op::Conv2D { .. }));
    let there = own.clone().filter(|n| layers.contains(n.name.as_str())).count();
    if name.contains("-of-0") && file.format == Format::Safetensors {
        return "it is one of several parts: join them, such as with safetensors' load_file and save_file";
    }
    if has("weight_orig") || has("weight_mask") {
        return "the net was pruned: call torch.nn.utils.prune.remove on its layers before it is saved";
    }
    if has("parametrizations.") || has("weight_g") {
        return "its weights are parametrised: call torch.nn.utils.parametrize.remove_parametrizations (or \
                remove_weight_norm) before it is saved";
    }
    if there == 0 && (has("exp_avg") || has("momentum_buffer") || has("square_avg")) {
        return "it has an optimizer's state and no weights: take the file that has these";
    }
    if node > net.base_output() && 2 * there > own.count() {
        return "the file has the net without this head: train one (`headstart train --weights`), or take a file with it";
    }
    "the weights are of another net: choose the one that they are of"
}
