//! Which tensors of a state dict are the net's, and what they are called there.
//!
//! A checkpoint has the net below any number of names: those of a wrapper's keys (`state_dict`, `model_state_dict`), of
//! modules around it (`module.`, `_orig_mod.`, `backbone.`), of a copy beside another (`ema`). The place below which the most
//! tensors have names of a ResNet is the net's. Names are torchvision's, those of headstart's exports, Hugging Face's
//! `ResNetModel`, or positions, as in fastai's and other `Sequential`s of torchvision's children.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::torch_names::{from_torch, numbered, to_torch};

/// Where a net's tensors are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// What stands before their names, with its dot; empty for nothing.
    pub prefix: String,
    names: Names,
    /// Whether there are other copies of the net, and whether this one was preferred as a moving average.
    pub copies: bool,
    pub ema: bool,
}

/// Kinds of names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Names {
    /// torchvision's, or those of headstart's exports.
    #[default]
    Usual,
    HuggingFace,
    /// Positions of torchvision's children.
    Positions,
}

const ROLES: [&str; 4] = ["weight", "bias", "running_mean", "running_var"];
/// torchvision's children that have weights, by their position.
const CHILDREN: [(&str, &str); 7] = [
    ("0", "conv1"),
    ("1", "bn1"),
    ("4", "layer1"),
    ("5", "layer2"),
    ("6", "layer3"),
    ("7", "layer4"),
    ("9", "fc"),
];

/// Least tensors of a net that is a copy beside another, or another net: a ResNet-18 has a hundred.
const LEAST: usize = 60;

/// Finds the nets among tensors of these names, the one to be taken first; the default alone where none has a ResNet's names.
pub(super) fn find<'a>(names: impl Iterator<Item = &'a str>) -> Vec<Place> {
    let mut counts: BTreeMap<(&str, Names), usize> = BTreeMap::new();
    for name in names {
        let starts = name.match_indices('.').map(|(dot, _)| dot + 1);
        for start in std::iter::once(0).chain(starts) {
            let (prefix, rest) = name.split_at(start);
            for kind in [Names::Usual, Names::HuggingFace, Names::Positions] {
                if of_kind(kind, rest).is_some() {
                    *counts.entry((prefix, kind)).or_default() += 1;
                }
            }
        }
    }
    let most = counts.values().copied().max().unwrap_or(0);
    // Two tensors of some module have such names by chance.
    let mut nets: Vec<(&str, Names, usize)> = counts
        .into_iter()
        .filter(|(_, n)| *n > 2 && (*n == most || *n >= LEAST))
        .map(|((prefix, names), n)| (prefix, names, n))
        .collect();
    // Of the kinds of names below one prefix, that of most tensors.
    nets.sort_by_key(|&(prefix, names, n)| (prefix, Reverse(n), names));
    nets.dedup_by_key(|net| net.0);
    let prefixes: Vec<&str> = nets.iter().map(|net| net.0).collect();
    nets.sort_by_key(|&(prefix, names, n)| {
        (rank(prefix, &prefixes), Reverse(n), prefix.len(), names)
    });
    let copies = nets.len() > 1;
    let place = |(prefix, names, _): (&str, Names, usize)| {
        let ema = copies && rank(prefix, &prefixes) == Rank::Average;
        Place { prefix: prefix.into(), names, copies, ema }
    };
    let found: Vec<Place> = nets.into_iter().map(place).collect();
    if found.is_empty() { vec![Place::default()] } else { found }
}

/// Which of several nets is taken, the first of these first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// A moving average of the weights.
    Average,
    Own,
    /// A net that only helped to train the other: the keys of MoCo, the target of BYOL.
    Helper,
}

fn rank(prefix: &str, all: &[&str]) -> Rank {
    const SWAPPED: &str = "ema_state_dict.module.";
    let lower = prefix.to_ascii_lowercase();
    let words = || prefix.split(['.', '_']);
    // MMEngine saves the average as `state_dict`, and the other net beside it.
    if all.iter().any(|other| other.starts_with(SWAPPED))
        && all.iter().any(|other| other.starts_with("state_dict."))
    {
        return if prefix.starts_with(SWAPPED) { Rank::Own } else { Rank::Average };
    }
    let average = |word: &str| {
        ["ema", "swa", "averaged", "teacher"].contains(&&*word.to_ascii_lowercase())
            || word.ends_with("EMA")
    };
    if words().any(average) {
        return Rank::Average;
    }
    match lower.contains("encoder_k.") || words().any(|word| ["momentum", "target"].contains(&word))
    {
        true => Rank::Helper,
        false => Rank::Own,
    }
}

impl Place {
    /// The layer and the role of a tensor, by torchvision's or headstart's names; `None` for what is not the net's.
    pub fn name<'n>(&self, name: &'n str) -> Option<(String, &'n str)> {
        let rest = name.strip_prefix(&self.prefix)?;
        let (layer, role) = rest.rsplit_once('.')?;
        let renamed = match self.names {
            Names::Usual => layer.to_string(),
            kind => of_kind(kind, rest).unwrap_or_else(|| layer.to_string()),
        };
        Some((renamed, role))
    }
}

/// The layer that a name of that kind means, where it is one of a ResNet's.
fn of_kind(kind: Names, name: &str) -> Option<String> {
    let (layer, role) = name.rsplit_once('.')?;
    if !ROLES.contains(&role) {
        return None;
    }
    match kind {
        Names::Usual => is_usual(layer).then(|| layer.to_string()),
        Names::HuggingFace => hugging_face(layer),
        Names::Positions => {
            let (first, rest) = layer.split_once('.').unwrap_or((layer, ""));
            let (_, child) = CHILDREN.iter().find(|(position, _)| *position == first)?;
            let layer = if rest.is_empty() { child.to_string() } else { format!("{child}.{rest}") };
            is_usual(&layer).then_some(layer)
        }
    }
}

fn is_number(text: &str) -> bool {
    numbered(text, "")
}

/// Whether a layer of torchvision's ResNets, or of headstart's, has this name.
fn is_usual(layer: &str) -> bool {
    let parts: Vec<&str> = layer.split('.').collect();
    match parts[..] {
        ["conv1" | "bn1" | "fc" | "post_bn" | "predictions" | "conv1_conv" | "conv1_bn"] => true,
        [stage, block, part] if numbered(stage, "layer") && is_number(block) => {
            numbered(part, "conv") || numbered(part, "bn")
        }
        [stage, block, "downsample", "0" | "1"] => numbered(stage, "layer") && is_number(block),
        // Keras's blocks, by either name.
        _ => from_torch(layer) != layer || to_torch(layer) != layer,
    }
}

/// torchvision's name of a layer of Hugging Face's `ResNetForImageClassification`.
fn hugging_face(layer: &str) -> Option<String> {
    let part = |name: &str| match name {
        "convolution" => Some(("conv", 0)),
        "normalization" => Some(("bn", 1)),
        _ => None,
    };
    // The classifier is beside `resnet`, the rest below it.
    let parts: Vec<&str> = layer.strip_prefix("resnet.").unwrap_or(layer).split('.').collect();
    match parts[..] {
        ["embedder", "embedder", kind] => Some(format!("{}1", part(kind)?.0)),
        ["classifier", "1"] => Some("fc".into()),
        ["encoder", "stages", stage, "layers", block, "layer", inner, kind] => {
            let (stage, inner): (usize, usize) = (stage.parse().ok()?, inner.parse().ok()?);
            let kind = part(kind)?.0;
            (stage < 9 && inner < 9 && is_number(block))
                .then(|| format!("layer{}.{block}.{kind}{}", stage + 1, inner + 1))
        }
        ["encoder", "stages", stage, "layers", block, "shortcut", kind] => {
            let stage: usize = stage.parse().ok()?;
            let at = part(kind)?.1;
            (stage < 9 && is_number(block))
                .then(|| format!("layer{}.{block}.downsample.{at}", stage + 1))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NET: [&str; 8] = [
        "conv1.weight",
        "bn1.weight",
        "bn1.running_mean",
        "layer1.0.conv1.weight",
        "layer1.0.downsample.0.weight",
        "layer1.0.downsample.1.bias",
        "layer4.2.bn3.running_var",
        "fc.bias",
    ];

    fn below(prefix: &str) -> Vec<String> {
        NET.iter().map(|name| format!("{prefix}{name}")).collect()
    }

    fn place(names: &[String]) -> Place {
        find(names.iter().map(String::as_str)).swap_remove(0)
    }

    #[test]
    fn any_chain_of_names_before_the_nets_is_found() {
        for prefix in [
            "",
            "module.",
            "_orig_mod.",
            "module._orig_mod.",
            "model_state_dict.",
            "net.",
            "model.backbone.",
            "state_dict.module.model.encoder.body.",
            "a.b.c.d.e.f.",
        ] {
            let mut names = below(prefix);
            names
                .extend(["epoch", "optimizer.lr", "other.weight", "loss.weight"].map(String::from));
            let found = place(&names);
            assert_eq!((found.prefix.as_str(), found.ema), (prefix, false));
            let layer = format!("{prefix}layer4.2.bn3.running_var");
            assert_eq!(found.name(&layer), Some(("layer4.2.bn3".into(), "running_var")));
        }
        assert_eq!(place(&["a.weight".into(), "b.c.bias".into()]), Place::default());
    }

    #[test]
    fn of_two_copies_the_moving_average_is_taken() {
        for (raw, average) in [
            ("state_dict.", "state_dict_ema."),
            ("model.", "ema.module."),
            ("net.", "model_ema."),
            ("module.", "ema_model."),
        ] {
            let names = [below(raw), below(average)].concat();
            let found = place(&names);
            assert_eq!((found.prefix.as_str(), found.ema), (average, true));
            assert_eq!(found.name(&format!("{raw}fc.bias")), None);
        }
        // One that has less is no copy.
        let names = [below("model."), below("ema.")[..3].to_vec()].concat();
        assert_eq!(place(&names).prefix, "model.");
    }

    #[test]
    fn names_of_other_libraries_and_positions_are_known() {
        let layer = |names: &[&str], name: &str| {
            let place = find(names.iter().copied()).swap_remove(0);
            place.name(name).map(|(layer, role)| format!("{layer}.{role}"))
        };
        let huggingface = [
            "resnet.embedder.embedder.convolution.weight",
            "resnet.embedder.embedder.normalization.running_mean",
            "resnet.encoder.stages.0.layers.1.layer.2.convolution.weight",
            "resnet.encoder.stages.3.layers.0.shortcut.normalization.bias",
            "classifier.1.weight",
        ];
        let expected = [
            "conv1.weight",
            "bn1.running_mean",
            "layer1.1.conv3.weight",
            "layer4.0.downsample.1.bias",
        ];
        for (name, expected) in huggingface.iter().zip(expected) {
            assert_eq!(layer(&huggingface, name).as_deref(), Some(expected));
        }
        let fastai = [
            "model.0.0.weight",
            "model.0.1.running_var",
            "model.0.4.0.conv1.weight",
            "model.0.7.1.bn2.weight",
            "model.1.2.weight",
        ];
        let expected =
            ["conv1.weight", "bn1.running_var", "layer1.0.conv1.weight", "layer4.1.bn2.weight"];
        for (name, expected) in fastai.iter().zip(expected) {
            assert_eq!(layer(&fastai, name).as_deref(), Some(expected));
        }
        assert_eq!(layer(&fastai, "model.1.2.weight"), None);
        let own = ["x.conv1_conv.weight", "x.conv2.block1.conv1.weight", "x.conv2.block1.bn1.bias"];
        assert_eq!(layer(&own, own[1]).as_deref(), Some("conv2.block1.conv1.weight"));
    }
}
