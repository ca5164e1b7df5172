//! The Python that builds in Keras the model whose weights a `.weights.h5` file holds.

use std::fmt::Write;

use super::python;
use crate::net::model::Model;
use crate::net::preprocess::Preprocess;
use crate::net::resnet::{Activation, Block, Naming, Recipe, Stem, Stride};

/// Builds the nets that `keras.applications` does not have. Layers come in the order of headstart's
/// own list, by which Keras numbers them in the file.
const BUILDER: &str = r#"
def conv(x, filters, size, stride):
    if size > 1:
        x = layers.ZeroPadding2D(size // 2)(x)
    return layers.Conv2D(filters, size, stride, use_bias=False)(x)


def norm(x):
    return layers.BatchNormalization(momentum=MOMENTUM, epsilon=EPSILON)(x)


def block(x, filters, sizes, stride):
    out = filters * (4 if len(sizes) == 3 else 1)
    shortcut = y = x
    for i, size in enumerate(sizes):
        if i == len(sizes) - 1 and (stride > 1 or x.shape[-1] != out):
            shortcut = norm(conv(x, out, 1, stride))
        last = i == len(sizes) - 1
        y = norm(conv(y, out if last else filters, size, stride if i == STRIDED else 1))
        y = y if last else layers.ReLU()(y)
    return layers.ReLU()(layers.Add()([shortcut, y]))

"#;

/// The script; `file` is the weights' path as a Python string.
pub(super) fn script(model: &Model, file: &str) -> String {
    let (card, recipe) = (&model.card, &model.recipe);
    let mut text = String::from("import keras\nfrom keras import layers\n");
    let own = application(recipe);
    if own.is_none() {
        let strided =
            usize::from(recipe.block == Block::Bottleneck && recipe.stride == Stride::Middle);
        let builder = BUILDER
            .replace("MOMENTUM", &recipe.momentum.to_string())
            .replace("EPSILON", &format!("{:e}", recipe.epsilon))
            .replace("STRIDED", &strided.to_string());
        let _ = write!(text, "\n{builder}");
    }
    let classes = card.classes.len();
    let _ = writeln!(text, "\ninputs = x = keras.Input(({}, {}, 3))", card.height, card.width);
    if card.upsample > 1 {
        let _ = writeln!(text, "x = layers.UpSampling2D({})(x)", card.upsample);
    }
    match own {
        Some(name) => {
            let _ = writeln!(
                text,
                "model = keras.applications.{name}(weights=None, input_tensor=x, classes={classes})"
            );
        }
        None => stages(&mut text, recipe, classes),
    }
    let _ = writeln!(text, "model.load_weights({file})");
    let _ = writeln!(text, "# images: RGB, 0 to 255, {} x {}", card.height, card.width);
    text.push_str("# A photo, as headstart predict reads it:\n# from PIL import Image, ImageOps\n");
    for line in python::image(model, "\"photo.jpg\"") {
        let line = line.trim_start_matches("# ");
        let _ = writeln!(text, "# {line}");
    }
    let input = match card.preprocess {
        Preprocess::Caffe => "keras.applications.resnet.preprocess_input(images)",
        Preprocess::Tf => "keras.applications.resnet_v2.preprocess_input(images)",
        Preprocess::Torch => {
            "keras.applications.imagenet_utils.preprocess_input(images, mode=\"torch\")"
        }
        Preprocess::Unit => "images / 255",
    };
    let _ = writeln!(text, "# probabilities = model.predict({input})");
    text
}

fn stages(text: &mut String, recipe: &Recipe, classes: usize) {
    let filters = recipe.stem_filters;
    let _ = match recipe.stem {
        Stem::Imagenet => writeln!(
            text,
            "x = layers.ReLU()(norm(conv(x, {filters}, 7, 2)))\n\
             x = layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(1)(x))"
        ),
        Stem::Cifar => writeln!(text, "x = layers.ReLU()(norm(conv(x, {filters}, 3, 1)))"),
    };
    let sizes = match recipe.block {
        Block::Bottleneck => "(1, 3, 1)",
        Block::Basic => "(3, 3)",
    };
    let list: Vec<String> = recipe
        .stages
        .iter()
        .map(|s| format!("({}, {}, {})", s.filters, s.blocks, s.stride))
        .collect();
    let _ = write!(
        text,
        "for filters, blocks, stride in ({}):\n    for i in range(blocks):\n        \
         x = block(x, filters, {sizes}, stride if i == 0 else 1)\n\
         x = layers.GlobalAveragePooling2D()(x)\n\
         model = keras.Model(inputs, layers.Dense({classes}, activation=\"softmax\")(x))\n",
        list.join(", ")
    );
}

/// What `keras.applications` calls the net, if it has it.
fn application(recipe: &Recipe) -> Option<String> {
    if recipe.naming != Naming::Keras || recipe.block != Block::Bottleneck {
        return None;
    }
    let depth = recipe.name.trim_start_matches("resnet").trim_end_matches("v2");
    let version = if recipe.activation == Activation::Before { "V2" } else { "" };
    Some(format!("ResNet{depth}{version}"))
}
