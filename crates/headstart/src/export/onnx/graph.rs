//! A model's groups as ONNX nodes: NCHW, batch norm folded as in the executor.

use std::collections::HashMap;

use super::groups::groups;
use super::int8::{Affine, Int8, Kernel};
use super::proto::{Attribute, AttributeProto, ElementType, GraphProto, NodeProto};
use super::proto::{TensorProto, ValueInfoProto};
use crate::engine::plan::{Folded, Group, Main, tensor};
use crate::error::Result;
use crate::net::graph::{NodeId, Op};
use crate::net::model::Model;
use crate::net::parameters::Role;

/// Name of the graph's input.
pub const INPUT: &str = "images";
/// Name of its output.
pub const OUTPUT: &str = "probabilities";

/// The whole graph, quantised where `int8` says so.
pub fn build(model: &Model, int8: Option<&Int8>) -> Result<GraphProto> {
    let whole: Vec<NodeId> = int8.map(|q| q.nodes().collect()).unwrap_or_default();
    let groups = groups(model, &whole)?;
    let card = &model.card;
    let image = [card.height, card.width, 3];
    let proto = GraphProto {
        name: card.architecture.clone(),
        input: vec![ValueInfoProto::batched(INPUT, ElementType::Uint8, &image)],
        output: vec![ValueInfoProto::batched(OUTPUT, ElementType::Float, &[card.classes.len()])],
        ..GraphProto::default()
    };
    let mut builder = Builder {
        model,
        int8,
        groups: &groups,
        proto,
        values: HashMap::new(),
        padding: HashMap::new(),
    };
    for group in &groups {
        builder.group(group)?;
    }
    Ok(builder.proto)
}

struct Builder<'a> {
    model: &'a Model,
    int8: Option<&'a Int8>,
    groups: &'a [Group],
    proto: GraphProto,
    /// ONNX's name of a node's value, as its readers see it.
    values: HashMap<NodeId, String>,
    /// Zeros around a value that its readers, all of them convolutions, add themselves.
    padding: HashMap<NodeId, usize>,
}

impl Builder<'_> {
    fn group(&mut self, group: &Group) -> Result<()> {
        let name = self.model.net.graph.nodes[group.output].name.clone();
        let x = group.inputs.first().copied().unwrap_or(0);
        let mut value = match group.main {
            Main::Frame { map, factor, padding } => {
                let mut value = self.pixels(x, map);
                if factor > 1 {
                    value = self.enlarge(&value, factor);
                }
                let reads = |g: &&Group| {
                    g.inputs.contains(&group.output) || g.residual == Some(group.output)
                };
                let mut readers = self.groups.iter().filter(reads);
                if readers.all(|g| {
                    matches!(g.main, Main::Conv { .. }) && g.residual != Some(group.output)
                }) {
                    self.padding.insert(group.output, padding);
                } else if padding > 0 {
                    value = self.pad(&name, &value, padding);
                }
                value
            }
            Main::Conv { node, norm, padding, .. } => self.conv(x, node, norm, padding)?,
            Main::Norm { node, .. } => self.batch_norm(x, node)?,
            Main::Identity | Main::Dropout { .. } => self.value(x),
            Main::Add => {
                let inputs = group.inputs.iter().map(|&i| self.value(i)).collect();
                self.node("Add", &name, inputs, vec![])
            }
            Main::MaxPool(pool) => self.max_pool(x, pool.node, pool.padding),
            Main::Average => {
                let input = self.value(x);
                let pooled = self.node("GlobalAveragePool", &name, vec![input], vec![]);
                self.node(
                    "Flatten",
                    &format!("{name}/flat"),
                    vec![pooled],
                    vec![("axis", Attribute::Int(1))],
                )
            }
            Main::Softmax => {
                let mut logits = self.value(x);
                if let Some(t) = self.model.card.temperature {
                    let t = self.floats("temperature", &[], &[t as f32]);
                    logits = self.node("Div", "cooled", vec![logits, t], vec![]);
                }
                self.node("Softmax", &name, vec![logits], vec![("axis", Attribute::Int(-1))])
            }
        };
        if let Some(residual) = group.residual {
            let residual = self.value(residual);
            value = self.node("Add", &format!("{name}/add"), vec![value, residual], vec![]);
        }
        if group.relu {
            value = self.node("Relu", &format!("{name}/relu"), vec![value], vec![]);
        }
        if let Some(affine) = self.int8.and_then(|q| q.of(group.output)) {
            value = self.quantised(&name, &value, affine);
        }
        if group.output == self.model.output()
            && let Some(last) = self.proto.node.last_mut()
        {
            last.output = vec![OUTPUT.into()];
        }
        self.values.insert(group.output, value);
        Ok(())
    }

    fn value(&self, node: NodeId) -> String {
        self.values.get(&node).cloned().unwrap_or_else(|| INPUT.into())
    }

    /// Adds a node. Its output has another name than the node, as some readers store both in one table.
    fn node(
        &mut self,
        op: &str,
        name: &str,
        input: Vec<String>,
        attributes: Vec<(&str, Attribute)>,
    ) -> String {
        let output = format!("{name}/out");
        self.proto.node.push(NodeProto {
            input,
            output: vec![output.clone()],
            name: name.into(),
            op_type: op.into(),
            attribute: attributes.into_iter().map(|(n, a)| AttributeProto::new(n, a)).collect(),
        });
        output
    }

    fn tensor(
        &mut self,
        name: &str,
        element: ElementType,
        dims: &[usize],
        raw_data: Vec<u8>,
    ) -> String {
        self.proto.initializer.push(TensorProto {
            dims: dims.iter().map(|&d| d as i64).collect(),
            data_type: element as i32,
            name: name.into(),
            raw_data,
        });
        name.into()
    }

    fn floats(&mut self, name: &str, dims: &[usize], values: &[f32]) -> String {
        self.tensor(name, ElementType::Float, dims, bytes(values, f32::to_le_bytes))
    }

    /// Bytes to normalised pixels, channels before rows.
    fn pixels(&mut self, x: NodeId, map: Option<crate::net::preprocess::ChannelMap>) -> String {
        let image = self.value(x);
        if image != INPUT {
            return image;
        }
        let to = ("to", Attribute::Int(ElementType::Float as i64));
        let cast = self.node("Cast", "pixels", vec![image], vec![to]);
        let perm = ("perm", Attribute::Ints(vec![0, 3, 1, 2]));
        let mut value = self.node("Transpose", "planes", vec![cast], vec![perm]);
        let Some(map) = map else { return value };
        if map.source != [0, 1, 2] {
            let source: Vec<i32> = map.source.map(|s| s as i32).to_vec();
            let order = self.tensor(
                "channel_order",
                ElementType::Int32,
                &[3],
                bytes(&source, i32::to_le_bytes),
            );
            let axis = ("axis", Attribute::Int(1));
            value = self.node("Gather", "reordered", vec![value, order], vec![axis]);
        }
        let scale = self.floats("pixel_scale", &[1, 3, 1, 1], &map.scale);
        let offset = self.floats("pixel_offset", &[1, 3, 1, 1], &map.offset);
        let scaled = self.node("Mul", "scaled", vec![value, scale], vec![]);
        self.node("Add", "normalised", vec![scaled, offset], vec![])
    }

    fn enlarge(&mut self, value: &str, factor: usize) -> String {
        let factor = factor as f32;
        let scales = self.floats("enlargement", &[4], &[1.0, 1.0, factor, factor]);
        let attributes = vec![
            ("mode", Attribute::Text("nearest")),
            ("coordinate_transformation_mode", Attribute::Text("asymmetric")),
            ("nearest_mode", Attribute::Text("floor")),
        ];
        self.node("Resize", "enlarged", vec![value.into(), String::new(), scales], attributes)
    }

    fn pad(&mut self, name: &str, value: &str, padding: usize) -> String {
        let p = padding as i64;
        let pads = bytes(&[0, 0, p, p, 0, 0, p, p], i64::to_le_bytes);
        let pads = self.tensor(&format!("{name}/pads"), ElementType::Int64, &[8], pads);
        self.node("Pad", &format!("{name}/padded"), vec![value.into(), pads], vec![])
    }

    fn conv(
        &mut self,
        x: NodeId,
        node: NodeId,
        norm: Option<NodeId>,
        padding: usize,
    ) -> Result<String> {
        let (graph, parameters) = (&self.model.net.graph, &self.model.parameters);
        let folded = Folded::new(graph, parameters, node, norm)?;
        let (kernel, bias) = (folded.scaled(), &folded.bias);
        let name = graph.nodes[node].name.clone();
        let mut inputs = vec![self.value(x)];
        let Op::Conv2D { filters, kernel: size, stride, padding: own, .. } = graph.nodes[node].op
        else {
            let shape = [kernel.len() / bias.len().max(1), bias.len()];
            inputs.push(self.floats(&format!("{name}/kernel"), &shape, &kernel));
            inputs.push(self.floats(&format!("{name}/bias"), &[bias.len()], bias));
            return Ok(self.node("Gemm", &name, inputs, vec![]));
        };
        let channels = kernel.len() / (size * size * filters).max(1);
        let dims = [filters, channels, size, size];
        match self.int8.and_then(|q| q.of(x)) {
            Some(input) => {
                let Kernel { values, scales } = Kernel::quantise(&kernel, filters);
                let values = out_first(&values, channels, filters);
                let values: Vec<u8> = values.into_iter().map(|v| v as u8).collect();
                let weights =
                    self.tensor(&format!("{name}/kernel_int8"), ElementType::Int8, &dims, values);
                let zeros = vec![0; filters];
                let zeros = self.tensor(
                    &format!("{name}/kernel_zero"),
                    ElementType::Int8,
                    &[filters],
                    zeros,
                );
                let steps = self.floats(&format!("{name}/kernel_scale"), &[filters], &scales);
                let axis = || vec![("axis", Attribute::Int(0))];
                let kernel = format!("{name}/kernel");
                inputs.push(self.node(
                    "DequantizeLinear",
                    &kernel,
                    vec![weights, steps, zeros],
                    axis(),
                ));
                let steps: Vec<f32> = scales.iter().map(|s| s * input.scale).collect();
                // A saturating cast: what does not fit becomes the end of the range.
                let whole = bias
                    .iter()
                    .zip(&steps)
                    .map(|(b, s)| (f64::from(*b) / f64::from(*s)).round() as i32);
                let whole = bytes(&whole.collect::<Vec<i32>>(), i32::to_le_bytes);
                let whole = self.tensor(
                    &format!("{name}/bias_int32"),
                    ElementType::Int32,
                    &[filters],
                    whole,
                );
                let steps = self.floats(&format!("{name}/bias_scale"), &[filters], &steps);
                inputs.push(self.node(
                    "DequantizeLinear",
                    &format!("{name}/bias"),
                    vec![whole, steps],
                    axis(),
                ));
            }
            None => {
                let kernel = out_first(&kernel, channels, filters);
                inputs.push(self.floats(&format!("{name}/kernel"), &dims, &kernel));
                inputs.push(self.floats(&format!("{name}/bias"), &[filters], bias));
            }
        }
        let padding = (padding + own + self.padding.get(&x).copied().unwrap_or(0)) as i64;
        let attributes = vec![
            ("kernel_shape", Attribute::Ints(vec![size as i64; 2])),
            ("strides", Attribute::Ints(vec![stride as i64; 2])),
            ("pads", Attribute::Ints(vec![padding; 4])),
        ];
        Ok(self.node("Conv", &name, inputs, attributes))
    }

    fn batch_norm(&mut self, x: NodeId, node: NodeId) -> Result<String> {
        let name = self.model.net.graph.nodes[node].name.clone();
        let Op::BatchNorm { epsilon, .. } = self.model.net.graph.nodes[node].op else {
            return Ok(self.value(x));
        };
        let mut inputs = vec![self.value(x)];
        for role in [Role::Gamma, Role::Beta, Role::MovingMean, Role::MovingVariance] {
            let (graph, parameters) = (&self.model.net.graph, &self.model.parameters);
            let channels = graph.nodes[node].shape.channels();
            let values = tensor(graph, parameters, node, role, channels)?;
            inputs.push(self.floats(&format!("{name}/{}", role.name()), &[values.len()], values));
        }
        Ok(self.node(
            "BatchNormalization",
            &name,
            inputs,
            vec![("epsilon", Attribute::Float(epsilon))],
        ))
    }

    fn max_pool(&mut self, x: NodeId, node: NodeId, padding: usize) -> String {
        let nodes = &self.model.net.graph.nodes;
        let name = nodes[node].name.clone();
        let Op::MaxPool { pool, stride } = nodes[node].op else { return self.value(x) };
        let mut value = self.value(x);
        let mut padding = padding;
        // ONNX pads with minus infinity, which is the same as zeros where nothing is negative.
        if padding > 0 && !self.groups.iter().any(|g| g.output == x && g.relu) {
            value = self.pad(&name, &value, padding);
            padding = 0;
        }
        let attributes = vec![
            ("kernel_shape", Attribute::Ints(vec![pool as i64; 2])),
            ("strides", Attribute::Ints(vec![stride as i64; 2])),
            ("pads", Attribute::Ints(vec![padding as i64; 4])),
        ];
        self.node("MaxPool", &name, vec![value], attributes)
    }

    /// A value rounded to bytes and back, as runtimes recognise it.
    fn quantised(&mut self, name: &str, value: &str, affine: Affine) -> String {
        let scale = self.floats(&format!("{name}/scale"), &[], &[affine.scale]);
        let zero = self.tensor(&format!("{name}/zero"), ElementType::Uint8, &[], vec![affine.zero]);
        let inputs = vec![value.into(), scale.clone(), zero.clone()];
        let bytes = self.node("QuantizeLinear", &format!("{name}/uint8"), inputs, vec![]);
        self.node("DequantizeLinear", &format!("{name}/value"), vec![bytes, scale, zero], vec![])
    }
}

/// Height x width x in x out to out x in x height x width.
fn out_first<T: Copy>(kernel: &[T], inputs: usize, out: usize) -> Vec<T> {
    let pixels = kernel.len() / (inputs * out).max(1);
    let place = |o: usize, c: usize, p: usize| kernel[(p * inputs + c) * out + o];
    let mut turned = Vec::with_capacity(kernel.len());
    for o in 0..out {
        for c in 0..inputs {
            turned.extend((0..pixels).map(|p| place(o, c, p)));
        }
    }
    turned
}

fn bytes<T: Copy, const N: usize>(values: &[T], to: fn(T) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(|&v| to(v)).collect()
}
