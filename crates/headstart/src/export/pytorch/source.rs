//! The Python source of a net's module.

use std::fmt::Write;

use super::MARK;
use crate::export::python;
use crate::net::model::Model;
use crate::net::preprocess::Preprocess;
use crate::net::resnet::{Activation, Block, Naming, Recipe, Stem, Stride};

const BLOCK_BEFORE: &str = include_str!("block_before.py");
const TAIL: &str = include_str!("tail.py");
/// Longest line of the list of classes.
const WIDTH: usize = 96;

/// The module; `weights` is the name of the file beside it, `module` its own.
pub(super) fn source(model: &Model, weights: &str, module: &str) -> String {
    let mut text = head(model, weights, module);
    text.push_str(&layers(&model.recipe));
    text.push_str("\n\n");
    match model.recipe.activation {
        Activation::Before => text.push_str(BLOCK_BEFORE),
        Activation::After => text.push_str(&block_after(&model.recipe)),
    }
    let _ = write!(text, "\n\n{}\n\n{}\n\n", stage(&model.recipe), net(model));
    text.push_str(&TAIL.replace("    @IMAGE@\n", &python::indented(model, "file", "    ")));
    let _ = write!(
        text,
        "\n\n# In the order of the outputs.\nCLASSES = [\n{}]\n\n\n\
         if __name__ == \"__main__\":\n    \
         if len(sys.argv) < 2:\n        sys.exit(\"usage: python {module}.py PHOTO ...\")\n    \
         net = load()\n    for file in sys.argv[1:]:\n        \
         best = \", \".join(f\"{{name}} {{p:.4f}}\" for name, p in predict(net, file))\n        \
         print(f\"{{file}}: {{best}}\")\n",
        list(&model.card.classes)
    );
    text
}

/// A Python string.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

fn list(classes: &[String]) -> String {
    let (mut text, mut line) = (String::new(), String::new());
    for class in classes.iter().map(|class| format!("{},", quoted(class))) {
        if !line.is_empty() && line.len() + 1 + class.len() > WIDTH {
            let _ = writeln!(text, "   {line}");
            line.clear();
        }
        let _ = write!(line, " {class}");
    }
    let _ = writeln!(text, "   {line}");
    text
}

/// What the net is, and what sets it apart from the nets that it could be taken for.
fn description(recipe: &Recipe) -> (String, &'static str) {
    let name = recipe.name.trim_start_matches("torchvision-");
    let depth = name.trim_start_matches("resnet").trim_end_matches("v2");
    match (recipe.naming, recipe.block, recipe.activation) {
        (Naming::Torchvision, ..) => (
            format!("torchvision's {name}"),
            "torchvision.models.@NAME@(num_classes=@CLASSES@) takes the weights too. That class leaves pixel\n\
             normalisation and upsampling to its user; the one below has both inside.",
        ),
        (_, Block::Basic, _) => (
            format!("ResNet-{depth} for small images (He et al. 2015, section 4.2)"),
            "torchvision and timm have no such net: three stages of 16, 32 and 64 filters without max\n\
             pooling, projection shortcuts. Their weights and these do not fit each other.",
        ),
        (_, _, Activation::Before) => (
            format!("Keras's ResNet{depth}V2"),
            "It is not timm's resnetv2_@DEPTH@, and neither loads the other's weights: here a stage strides in\n\
             its last block (there in its first), its shortcut is then a max pooling, some convolutions\n\
             have biases, and batch norm's epsilon is 1.001e-5 (there 1e-5).",
        ),
        _ => (
            format!("Keras's ResNet{depth} (v1)"),
            "It is not torchvision's or timm's resnet@DEPTH@, and neither loads the other's weights: here a\n\
             stage strides in the first 1x1 convolution (there, in \"v1.5\", in the 3x3), convolutions have\n\
             biases, and batch norm's epsilon is 1.001e-5 (there 1e-5).",
        ),
    }
}

fn pixels(preprocess: Preprocess) -> &'static str {
    match preprocess {
        Preprocess::Caffe => "become BGR minus ImageNet's mean (Keras's \"caffe\")",
        Preprocess::Tf => "are brought to -1 to 1 (Keras's \"tf\")",
        Preprocess::Torch => {
            "lose ImageNet's mean and are divided by its deviation (torchvision's)"
        }
        Preprocess::Unit => "are divided by 255",
    }
}

fn head(model: &Model, weights: &str, module: &str) -> String {
    let (card, recipe) = (&model.card, &model.recipe);
    let (what, differs) = description(recipe);
    let name = recipe.name.trim_start_matches("torchvision-");
    let differs = differs
        .replace("@NAME@", name)
        .replace("@DEPTH@", name.trim_start_matches("resnet").trim_end_matches("v2"))
        .replace("@CLASSES@", &card.classes.len().to_string());
    let names = match recipe.naming {
        Naming::Torchvision => "Tensors have torchvision's names.",
        Naming::Keras => {
            "Layers have Keras's names, by block: conv2.block1.conv1 is conv2_block1_1_conv."
        }
    };
    let inside = match card.upsample {
        1 => "Pixel normalisation is".to_string(),
        n => format!("Pixel normalisation and upsampling (x{n}, nearest neighbour) are"),
    };
    let (height, width, features) = (card.height, card.width, features(model));
    let temperature = card.temperature.unwrap_or(1.0);
    let classes = card.classes.len();
    let about = match card.temperature {
        Some(_) => "fitted on validation images; logits do not have it, probabilities do",
        None => "not calibrated",
    };
    format!(
        "\"\"\"{what}, with {classes} classes, for PyTorch.\n{MARK}.\n\n{differs}\n\n    \
         python {module}.py photo.jpg             # classes and probabilities\n\n    \
         from {module} import load, predict\n    \
         net = load()                    # a torch.nn.Module with the weights beside this file\n    \
         predict(net, \"photo.jpg\")       # [(class, probability), ...], most probable first\n    \
         net(images)                     # logits of uint8 or float images, RGB from 0 to 255,\n    \
         {:32}# batch x 3 x {height} x {width}\n    \
         net.probabilities(images)       # softmax(logits / TEMPERATURE)\n    \
         net.features(images)            # what the last layer reads, batch x {features}\n\n\
         {inside} inside the net;\npixels {}.\n{names}\n\
         This file needs torch; predict also needs Pillow.\n\"\"\"\n\n\
         import json\nimport sys\nfrom pathlib import Path\n\nimport torch\nfrom torch import nn\n\
         from torch.nn import functional as F\n\n\
         WEIGHTS = Path(__file__).with_name({})\nHEIGHT, WIDTH = {height}, {width}\n\
         TEMPERATURE = {temperature:?}  # {about}\n\n\n",
        "",
        pixels(card.preprocess),
        quoted(weights),
    )
}

/// Features that the head reads.
fn features(model: &Model) -> usize {
    model.net.graph.nodes[model.pooled()].shape.channels()
}

/// Convolution and batch norm as this family has them.
fn layers(recipe: &Recipe) -> String {
    // The complement of Keras's momentum, which is written in tenths to thousandths.
    let momentum = (1e4 * (1.0 - f64::from(recipe.momentum))).round() / 1e4;
    let bias = recipe.bias || recipe.activation == Activation::Before;
    let bias = if bias { "True" } else { "False" };
    format!(
        "def conv(inputs, filters, size, stride=1, bias={bias}):\n    \
         return nn.Conv2d(inputs, filters, size, stride, padding=size // 2, bias=bias)\n\n\n\
         def norm(channels):\n    \
         return nn.BatchNorm2d(channels, eps={:e}, momentum={momentum})\n",
        recipe.epsilon
    )
}

/// A block whose batch norms and ReLUs follow its convolutions.
fn block_after(recipe: &Recipe) -> String {
    let bottleneck = recipe.block == Block::Bottleneck;
    let sizes: &[usize] = if bottleneck { &[1, 3, 1] } else { &[3, 3] };
    let strided = usize::from(bottleneck && recipe.stride == Stride::Middle);
    let kinds = if bottleneck { "1x1, 3x3 and 1x1" } else { "3x3 and 3x3" };
    let which = if strided == 1 { "3x3" } else { "first" };
    let out = if bottleneck { "4 * filters" } else { "filters" };
    let torch = recipe.naming == Naming::Torchvision;
    let mut text = format!(
        "class Block(nn.Module):\n    \"\"\"Convolutions of {kinds}, each with batch norm; the {which} strides.\"\"\"\n\n    \
         def __init__(self, inputs, filters, stride):\n        super().__init__()\n        out = {out}\n"
    );
    let last = sizes.len() - 1;
    for (i, size) in sizes.iter().enumerate() {
        let from = if i == 0 { "inputs" } else { "filters" };
        let to = if i == last { "out" } else { "filters" };
        let stride = if i == strided { ", stride" } else { "" };
        let n = i + 1;
        let _ = writeln!(
            text,
            "        self.conv{n}, self.bn{n} = conv({from}, {to}, {size}{stride}), norm({to})"
        );
    }
    text.push_str(if torch {
        "        self.downsample = nn.Sequential()\n        if inputs != out:\n            \
         self.downsample.extend([conv(inputs, out, 1, stride), norm(out)])\n"
    } else {
        "        self.projects = inputs != out\n        if self.projects:\n            \
         self.conv0, self.bn0 = conv(inputs, out, 1, stride), norm(out)\n"
    });
    text.push_str("\n    def forward(self, x):\n        y = F.relu(self.bn1(self.conv1(x)))\n");
    for n in 2..=last {
        let _ = writeln!(text, "        y = F.relu(self.bn{n}(self.conv{n}(y)))");
    }
    let _ = writeln!(text, "        y = self.bn{0}(self.conv{0}(y))", last + 1);
    text.push_str(if torch {
        "        return F.relu(self.downsample(x) + y)\n"
    } else {
        "        shortcut = self.bn0(self.conv0(x)) if self.projects else x\n        \
         return F.relu(shortcut + y)\n"
    });
    text
}

/// The blocks of a stage.
fn stage(recipe: &Recipe) -> String {
    let name = match recipe.naming {
        Naming::Keras => "f\"block{i + 1}\"",
        Naming::Torchvision => "str(i)",
    };
    let (which, at) = match recipe.activation {
        Activation::After => ("first", "0"),
        Activation::Before => ("last", "blocks - 1"),
    };
    let out = if recipe.block == Block::Bottleneck { "4 * filters" } else { "filters" };
    format!(
        "def stage(inputs, filters, blocks, stride):\n    \
         \"\"\"Blocks of one width; the {which} strides.\"\"\"\n    made = nn.Sequential()\n    \
         for i in range(blocks):\n        \
         block = Block(inputs, filters, stride if i == {at} else 1)\n        \
         made.add_module({name}, block)\n        inputs = {out}\n    return made\n"
    )
}

fn net(model: &Model) -> String {
    let (card, recipe) = (&model.card, &model.recipe);
    let torch = recipe.naming == Naming::Torchvision;
    let (conv1, bn1) = if torch { ("conv1", "bn1") } else { ("conv1_conv", "conv1_bn") };
    let [_, dense] = recipe.naming.head();
    let after = recipe.activation == Activation::After;
    let (size, stride) = if recipe.stem == Stem::Imagenet { (7, 2) } else { (3, 1) };
    let filters = recipe.stem_filters;
    let (buffers, normalise) = normalisation(card.preprocess);
    let mut text = format!(
        "class Net(nn.Module):\n    \"\"\"Images, RGB from 0 to 255, to logits.\"\"\"\n\n    \
         def __init__(self, classes):\n        super().__init__()\n{buffers}"
    );
    let _ = match after {
        true => writeln!(
            text,
            "        self.{conv1}, self.{bn1} = conv(3, {filters}, {size}, {stride}), norm({filters})"
        ),
        false => writeln!(text, "        self.{conv1} = conv(3, {filters}, {size}, {stride})"),
    };
    let mut inputs = filters;
    for (i, s) in recipe.stages.iter().enumerate() {
        let name = recipe.stage(i + 1);
        let (filters, blocks, stride) = (s.filters, s.blocks, s.stride);
        let _ = writeln!(
            text,
            "        self.{name} = stage({inputs}, {filters}, blocks={blocks}, stride={stride})"
        );
        inputs = if recipe.block == Block::Bottleneck { 4 * filters } else { filters };
    }
    if !after {
        let _ = writeln!(text, "        self.post_bn = norm({inputs})");
    }
    let _ = write!(
        text,
        "        self.{dense} = nn.Linear({inputs}, classes)\n\n    def features(self, images):\n        \
         \"\"\"What the last layer reads, batch x {inputs}.\"\"\"\n        \
         x = images.to(self.{dense}.weight.dtype)\n{normalise}"
    );
    if card.upsample > 1 {
        let n = card.upsample;
        let _ = writeln!(text, "        x = x.repeat_interleave({n}, 2).repeat_interleave({n}, 3)");
    }
    let _ = match after {
        true => writeln!(text, "        x = F.relu(self.{bn1}(self.{conv1}(x)))"),
        false => writeln!(text, "        x = self.{conv1}(x)"),
    };
    if recipe.stem == Stem::Imagenet {
        text.push_str(if after {
            "        x = F.max_pool2d(x, 3, 2, padding=1)\n"
        } else {
            "        # The zeros around it count: padding=1 would take minus infinity.\n        \
             x = F.max_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 2)\n"
        });
    }
    let stages = (1..=recipe.stages.len()).map(|i| recipe.stage(i));
    let stages: String = stages.map(|name| format!("self.{name}, ")).collect();
    let _ = write!(
        text,
        "        for stage in ({}):\n            x = stage(x)\n",
        stages.trim_end_matches(", ")
    );
    if !after {
        text.push_str("        x = F.relu(self.post_bn(x))\n");
    }
    let _ = write!(
        text,
        "        return x.mean((2, 3))\n\n    def forward(self, images):\n        \
         return self.{dense}(self.features(images))\n\n    def probabilities(self, images):\n        \
         return F.softmax(self(images) / TEMPERATURE, dim=1)\n"
    );
    text
}

/// The lines that make what pixels are normalised with, and those that normalise them.
fn normalisation(preprocess: Preprocess) -> (String, String) {
    let buffer = |name: &str, values: [f64; 3]| {
        let [a, b, c] = values;
        format!(
            "        {name} = torch.tensor([{a}, {b}, {c}]).view(3, 1, 1)\n        \
             self.register_buffer(\"{name}\", {name}, persistent=False)\n"
        )
    };
    let (buffers, line) = match preprocess {
        Preprocess::Caffe => {
            (buffer("mean", [103.939, 116.779, 123.68]), "x.flip(1) - self.mean  # BGR")
        }
        Preprocess::Tf => (String::new(), "x / 127.5 - 1"),
        Preprocess::Torch => {
            let mean = buffer("mean", [0.485, 0.456, 0.406]);
            (mean + &buffer("std", [0.229, 0.224, 0.225]), "(x / 255 - self.mean) / self.std")
        }
        Preprocess::Unit => (String::new(), "x / 255"),
    };
    (buffers, format!("        x = {line}\n"))
}
