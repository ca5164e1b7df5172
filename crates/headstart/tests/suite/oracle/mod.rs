//! An independent reference: every operation of a graph forward and backward in f64, by the
//! definitions, one image pixel at a time.

use headstart::graph::{Graph, NodeId, Op, Shape};
use headstart::parameters::{Parameters, Role};
use headstart::split::RandomState;
use headstart_kernels::element::{DType, Values};

pub struct Reference {
    /// Value of every node, `[count, ...]` row-major.
    pub values: Vec<Vec<f64>>,
    /// Gradient of the mean loss with respect to every node's value.
    pub grads: Vec<Vec<f64>>,
    /// Gradient with respect to every parameter.
    pub parameters: Vec<Vec<f64>>,
    /// Mean and biased variance of batch, of every batch norm in training mode.
    pub statistics: Vec<Option<(Vec<f64>, Vec<f64>)>>,
    pub loss: f64,
}

pub fn random(seed: u32, n: usize, low: f32, high: f32) -> Vec<f32> {
    let mut r = RandomState::new(seed);
    (0..n).map(|_| low + (high - low) * r.unit()).collect()
}

fn dims(shape: Shape) -> (usize, usize, usize) {
    let (h, w) = shape.spatial();
    (h, w, shape.channels())
}

fn tensor(p: &Parameters, node: NodeId, role: Role) -> Vec<f64> {
    p.get(node, role).map_or(Vec::new(), |t| t.values.iter().map(|&v| f64::from(v)).collect())
}

/// Visits every (input element, kernel element, output element) triple of a convolution.
fn taps(
    (h, w, ci): (usize, usize, usize),
    (oh, ow, co): (usize, usize, usize),
    (kernel, stride, padding): (usize, usize, usize),
    count: usize,
    mut visit: impl FnMut(usize, usize, usize),
) {
    for b in 0..count {
        for oy in 0..oh {
            for ox in 0..ow {
                for ky in 0..kernel {
                    for kx in 0..kernel {
                        let (y, x) = (oy * stride + ky, ox * stride + kx);
                        if y < padding || x < padding || y - padding >= h || x - padding >= w {
                            continue;
                        }
                        let (y, x) = (y - padding, x - padding);
                        for c in 0..ci {
                            let i = ((b * h + y) * w + x) * ci + c;
                            for o in 0..co {
                                let k = ((ky * kernel + kx) * ci + c) * co + o;
                                visit(i, k, ((b * oh + oy) * ow + ox) * co + o);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Runs `graph` on `images`; batch norms that `training` names use the batch's statistics.
pub fn reference(
    graph: &Graph,
    p: &Parameters,
    training: &[bool],
    images: &[f32],
    labels: &[u32],
) -> Reference {
    stored(graph, p, training, images, labels, [&|v| v, &|v| v])
}

/// [`reference`] with every feature map, gradient of one and convolution kernel rounded to `dtype`, and gradients scaled as
/// half precision has them: what storing them so does to exact arithmetic.
pub fn rounded_reference(
    dtype: DType,
    graph: &Graph,
    p: &Parameters,
    training: &[bool],
    images: &[f32],
    labels: &[u32],
) -> Reference {
    let mut p = p.clone();
    let half = |v: f32| Values::nearest(dtype, vec![v]).as_slice().to_f32()[0];
    let scale = if dtype == DType::F16 { 32768.0 } else { 1.0 };
    for t in &mut p.tensors {
        if matches!(graph.nodes[t.node].op, Op::Conv2D { .. }) && t.role == Role::Kernel {
            t.values.iter_mut().for_each(|v| *v = half(*v));
        }
    }
    let value = |v: f64| f64::from(half(v as f32));
    stored(graph, &p, training, images, labels, [&value, &|d| value(d * scale) / scale])
}

fn stored(
    graph: &Graph,
    p: &Parameters,
    training: &[bool],
    images: &[f32],
    labels: &[u32],
    [store, store_gradient]: [&dyn Fn(f64) -> f64; 2],
) -> Reference {
    let count = labels.len();
    let n = graph.nodes.len();
    let mut values: Vec<Vec<f64>> = Vec::new();
    let mut statistics = vec![None; n];
    for (id, node) in graph.nodes.iter().enumerate() {
        let x: &[f64] = node.inputs.first().map_or(&[], |&i| &values[i]);
        let from = node.inputs.first().map(|&i| dims(graph.nodes[i].shape));
        let (oh, ow, oc) = dims(node.shape);
        let mut y = vec![0.0; count * oh * ow * oc];
        match node.op {
            Op::Input(_) => y = images.iter().map(|&v| f64::from(v)).collect(),
            Op::Normalize(pre) => {
                let m = pre.channel_map();
                for (i, v) in y.iter_mut().enumerate() {
                    let (pixel, c) = (i / 3, i % 3);
                    *v =
                        x[pixel * 3 + m.source[c]] * f64::from(m.scale[c]) + f64::from(m.offset[c]);
                }
            }
            Op::Upsample { factor } => {
                let (h, w, c) = from.unwrap();
                for b in 0..count {
                    for i in 0..oh * ow * c {
                        let (yy, xx, cc) = (i / c / ow, i / c % ow, i % c);
                        y[b * oh * ow * c + i] =
                            x[((b * h + yy / factor) * w + xx / factor) * c + cc];
                    }
                }
            }
            Op::ZeroPadding { padding } => {
                let (h, w, c) = from.unwrap();
                for b in 0..count {
                    for i in 0..h * w * c {
                        let (yy, xx, cc) = (i / c / w, i / c % w, i % c);
                        y[((b * oh + yy + padding) * ow + xx + padding) * c + cc] =
                            x[b * h * w * c + i];
                    }
                }
            }
            Op::Conv2D { kernel, stride, padding, .. } => {
                let (k, bias) = (tensor(p, id, Role::Kernel), tensor(p, id, Role::Bias));
                let window = (kernel, stride, padding);
                taps(from.unwrap(), (oh, ow, oc), window, count, |i, j, o| y[o] += x[i] * k[j]);
                if !bias.is_empty() {
                    y.iter_mut().enumerate().for_each(|(i, v)| *v += bias[i % oc]);
                }
            }
            Op::Dense { .. } => {
                let (k, bias) = (tensor(p, id, Role::Kernel), tensor(p, id, Role::Bias));
                let inputs = from.unwrap().2;
                for b in 0..count {
                    for o in 0..oc {
                        let dot = (0..inputs).map(|i| x[b * inputs + i] * k[i * oc + o]);
                        y[b * oc + o] = dot.sum::<f64>() + bias[o];
                    }
                }
            }
            Op::BatchNorm { epsilon, .. } => {
                let (mean, variance) = if training[id] {
                    let rows = x.len() / oc;
                    let mut mean = vec![0.0; oc];
                    x.iter().enumerate().for_each(|(i, v)| mean[i % oc] += v / rows as f64);
                    let mut var = vec![0.0; oc];
                    x.iter()
                        .enumerate()
                        .for_each(|(i, v)| var[i % oc] += (v - mean[i % oc]).powi(2) / rows as f64);
                    statistics[id] = Some((mean.clone(), var.clone()));
                    (mean, var)
                } else {
                    (tensor(p, id, Role::MovingMean), tensor(p, id, Role::MovingVariance))
                };
                let (gamma, beta) = (tensor(p, id, Role::Gamma), tensor(p, id, Role::Beta));
                for (i, v) in y.iter_mut().enumerate() {
                    let c = i % oc;
                    let s = (variance[c] + f64::from(epsilon)).sqrt();
                    *v = (x[i] - mean[c]) / s * gamma[c] + beta[c];
                }
            }
            Op::Relu => y = x.iter().map(|v| v.max(0.0)).collect(),
            Op::MaxPool { pool, stride } => {
                let (h, w, c) = from.unwrap();
                for (o, v) in y.iter_mut().enumerate() {
                    *v = x[argmax(x, (h, w, c), (oh, ow), (pool, stride), o)];
                }
            }
            Op::Add => {
                let z = &values[node.inputs[1]];
                y = x.iter().zip(z).map(|(a, b)| a + b).collect();
            }
            Op::GlobalAveragePool => {
                let (h, w, c) = from.unwrap();
                for (i, v) in x.iter().enumerate() {
                    y[i / (h * w * c) * c + i % c] += v / (h * w) as f64;
                }
            }
            Op::Dropout { .. } => y = x.to_vec(),
            Op::Softmax => {
                for (row, out) in x.chunks(oc).zip(y.chunks_mut(oc)) {
                    let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    let sum: f64 = row.iter().map(|v| (v - max).exp()).sum();
                    row.iter().zip(out).for_each(|(v, o)| *o = (v - max).exp() / sum);
                }
            }
        }
        if matches!(node.shape, Shape::Map { .. }) && id > 0 {
            y.iter_mut().for_each(|v| *v = store(*v));
        }
        values.push(y);
    }
    let mut r = Reference {
        grads: values.iter().map(|v| vec![0.0; v.len()]).collect(),
        parameters: p.tensors.iter().map(|t| vec![0.0; t.values.len()]).collect(),
        values,
        statistics,
        loss: 0.0,
    };
    backward(graph, p, labels, &mut r, store_gradient);
    r
}

fn argmax(
    x: &[f64],
    (h, w, c): (usize, usize, usize),
    (oh, ow): (usize, usize),
    (pool, stride): (usize, usize),
    o: usize,
) -> usize {
    let (ch, rest) = (o % c, o / c);
    let (ox, rest) = (rest % ow, rest / ow);
    let (oy, b) = (rest % oh, rest / oh);
    let mut best = None;
    for y in oy * stride..oy * stride + pool {
        for xx in ox * stride..ox * stride + pool {
            let i = ((b * h + y) * w + xx) * c + ch;
            if best.is_none_or(|j: usize| x[i] > x[j]) {
                best = Some(i);
            }
        }
    }
    best.unwrap()
}

fn backward(
    graph: &Graph,
    p: &Parameters,
    labels: &[u32],
    r: &mut Reference,
    store: impl Fn(f64) -> f64,
) {
    let count = labels.len();
    let last = graph.output();
    let classes = graph.nodes[last].shape.channels();
    for (b, &label) in labels.iter().enumerate() {
        let i = b * classes + label as usize;
        r.loss -= r.values[last][i].ln() / count as f64;
        r.grads[last][i] = -1.0 / r.values[last][i] / count as f64;
    }
    for (id, node) in graph.nodes.iter().enumerate().rev() {
        if matches!(node.shape, Shape::Map { .. }) {
            r.grads[id].iter_mut().for_each(|d| *d = store(*d));
        }
        let dy = r.grads[id].clone();
        let y = &r.values[id];
        let Some(&input) = node.inputs.first() else { continue };
        let x = r.values[input].clone();
        let from = dims(graph.nodes[input].shape);
        let (oh, ow, oc) = dims(node.shape);
        let mut dx = vec![0.0; x.len()];
        let at = |role| p.index(id, role);
        match node.op {
            Op::Input(_) => {}
            Op::Normalize(pre) => {
                let m = pre.channel_map();
                for (i, d) in dy.iter().enumerate() {
                    dx[i / 3 * 3 + m.source[i % 3]] += d * f64::from(m.scale[i % 3]);
                }
            }
            Op::Upsample { factor } => {
                let (h, w, c) = from;
                for (i, d) in dy.iter().enumerate() {
                    let (b, rest) = (i / (oh * ow * c), i % (oh * ow * c));
                    let (yy, xx, cc) = (rest / c / ow, rest / c % ow, rest % c);
                    dx[((b * h + yy / factor) * w + xx / factor) * c + cc] += d;
                }
            }
            Op::ZeroPadding { padding } => {
                let (h, w, c) = from;
                for (i, d) in dx.iter_mut().enumerate() {
                    let (b, rest) = (i / (h * w * c), i % (h * w * c));
                    let (yy, xx, cc) = (rest / c / w, rest / c % w, rest % c);
                    *d = dy[((b * oh + yy + padding) * ow + xx + padding) * c + cc];
                }
            }
            Op::Conv2D { kernel, stride, padding, bias, .. } => {
                let k = tensor(p, id, Role::Kernel);
                let dk = &mut r.parameters[at(Role::Kernel).unwrap()];
                taps(from, (oh, ow, oc), (kernel, stride, padding), count, |i, j, o| {
                    dx[i] += dy[o] * k[j];
                    dk[j] += dy[o] * x[i];
                });
                if bias {
                    let db = &mut r.parameters[at(Role::Bias).unwrap()];
                    dy.iter().enumerate().for_each(|(i, d)| db[i % oc] += d);
                }
            }
            Op::Dense { .. } => {
                let k = tensor(p, id, Role::Kernel);
                for b in 0..count {
                    for i in 0..from.2 {
                        for o in 0..oc {
                            dx[b * from.2 + i] += dy[b * oc + o] * k[i * oc + o];
                            r.parameters[at(Role::Kernel).unwrap()][i * oc + o] +=
                                dy[b * oc + o] * x[b * from.2 + i];
                        }
                    }
                }
                let db = &mut r.parameters[at(Role::Bias).unwrap()];
                dy.iter().enumerate().for_each(|(i, d)| db[i % oc] += d);
            }
            Op::BatchNorm { epsilon, .. } => {
                let gamma = tensor(p, id, Role::Gamma);
                let training = r.statistics[id].clone();
                let (mean, variance) = training.clone().unwrap_or_else(|| {
                    (tensor(p, id, Role::MovingMean), tensor(p, id, Role::MovingVariance))
                });
                let s: Vec<f64> =
                    variance.iter().map(|v| (v + f64::from(epsilon)).sqrt()).collect();
                let rows = (x.len() / oc) as f64;
                let (mut dg, mut db) = (vec![0.0; oc], vec![0.0; oc]);
                for (i, d) in dy.iter().enumerate() {
                    let c = i % oc;
                    dg[c] += d * (x[i] - mean[c]) / s[c];
                    db[c] += d;
                }
                for (i, d) in dx.iter_mut().enumerate() {
                    let c = i % oc;
                    let hat = (x[i] - mean[c]) / s[c];
                    *d = gamma[c] / s[c]
                        * match training {
                            Some(_) => dy[i] - db[c] / rows - hat * dg[c] / rows,
                            None => dy[i],
                        };
                }
                r.parameters[at(Role::Gamma).unwrap()] = dg;
                r.parameters[at(Role::Beta).unwrap()] = db;
            }
            Op::Relu => {
                for (i, d) in dx.iter_mut().enumerate() {
                    *d = if x[i] > 0.0 { dy[i] } else { 0.0 };
                }
            }
            Op::MaxPool { pool, stride } => {
                for (o, d) in dy.iter().enumerate() {
                    dx[argmax(&x, from, (oh, ow), (pool, stride), o)] += d;
                }
            }
            Op::Add => {
                let second = node.inputs[1];
                r.grads[second].iter_mut().zip(&dy).for_each(|(a, d)| *a += d);
                dx.copy_from_slice(&dy);
            }
            Op::GlobalAveragePool => {
                let (h, w, c) = from;
                for (i, d) in dx.iter_mut().enumerate() {
                    *d = dy[i / (h * w * c) * c + i % c] / (h * w) as f64;
                }
            }
            Op::Dropout { .. } => dx.copy_from_slice(&dy),
            Op::Softmax => {
                for b in 0..count {
                    let row = b * oc..(b + 1) * oc;
                    let dot: f64 = row.clone().map(|i| y[i] * dy[i]).sum();
                    row.for_each(|i| dx[i] = y[i] * (dy[i] - dot));
                }
            }
        }
        r.grads[input].iter_mut().zip(dx).for_each(|(a, d)| *a += d);
    }
}

/// Relative L2 distance; NaN if either holds one, and so above any bound.
pub fn distance(ours: &[f32], reference: &[f64]) -> f64 {
    assert_eq!(ours.len(), reference.len());
    let (mut error, mut norm) = (0.0, 0.0);
    for (&a, &b) in ours.iter().zip(reference) {
        error += (f64::from(a) - b).powi(2);
        norm += b * b;
    }
    if norm == 0.0 { error.sqrt() } else { (error / norm).sqrt() }
}

/// Fails unless `value <= bound`; a NaN fails.
#[track_caller]
pub fn assert_within(value: f64, bound: f64, what: &str) {
    assert!(value <= bound, "{what}: {value:e} is not within {bound:e}");
}
