//! What layers are called in PyTorch: torchvision's by their own names, Keras's by block. `conv2_block1_1_conv` is
//! `conv2.block1.conv1` there, so that stages and blocks are modules.

/// PyTorch's name of a layer.
pub(crate) fn to_torch(layer: &str) -> String {
    let parts: Vec<&str> = layer.splitn(3, '_').collect();
    let [stage, block, rest] = parts[..] else { return layer.to_string() };
    if !numbered(stage, "conv") || !numbered(block, "block") {
        return layer.to_string();
    }
    match rest.split_once('_') {
        Some((part, kind @ ("conv" | "bn"))) if numbered(part, "") => {
            format!("{stage}.{block}.{kind}{part}")
        }
        _ => format!("{stage}.{block}.{rest}"),
    }
}

/// The layer of a name in PyTorch.
pub(super) fn from_torch(name: &str) -> String {
    let parts: Vec<&str> = name.split('.').collect();
    let [stage, block, rest] = parts[..] else { return name.to_string() };
    if !numbered(stage, "conv") || !numbered(block, "block") {
        return name.to_string();
    }
    match ["conv", "bn"].iter().find(|kind| numbered(rest, kind)) {
        Some(kind) => format!("{stage}_{block}_{}_{kind}", &rest[kind.len()..]),
        None => format!("{stage}_{block}_{rest}"),
    }
}

/// Whether `text` is `word` and a number.
pub(super) fn numbered(text: &str, word: &str) -> bool {
    let number = text.strip_prefix(word);
    number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::parameters::layer_shapes;
    use crate::net::resnet::{Net, Recipe, Surroundings};

    #[test]
    fn every_layer_of_every_net_has_a_name_there_and_comes_back() {
        for name in Recipe::names() {
            let recipe = Recipe::named(name).unwrap();
            let (height, width) = (recipe.image_size, recipe.image_size);
            let around =
                Surroundings { height, width, preprocess: None, upsample: 1, classes: Some(2) };
            let graph = Net::new(&recipe, &around).unwrap().graph;
            let layers = (0..graph.nodes.len()).filter(|&id| !layer_shapes(&graph, id).is_empty());
            for layer in layers.map(|id| &graph.nodes[id].name) {
                let torch = to_torch(layer);
                assert_eq!(from_torch(&torch), *layer, "{torch}");
                assert_eq!(torch == *layer, !layer.contains("_block"), "{torch}");
            }
        }
        assert_eq!(to_torch("conv2_block1_1_conv"), "conv2.block1.conv1");
        assert_eq!(to_torch("conv5_block12_preact_bn"), "conv5.block12.preact_bn");
        assert_eq!(from_torch("conv3.block10.bn0"), "conv3_block10_0_bn");
        for other in ["layer1.0.conv1", "conv1", "convx.block1.conv1", "a.b.c.d", "é_ü_ß", ""] {
            assert_eq!((to_torch(other), from_torch(other)), (other.into(), other.into()));
        }
    }
}
