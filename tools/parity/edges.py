"""Why float32 gradients of ResNet-50 cannot agree to 1e-3.

Compares Keras in float32 with Keras in float64, from layer 100 on: as it is, and with every ReLU
there replaced by softplus, which has no edge.

    pip install tensorflow-cpu pillow
    python tools/parity/edges.py [DATA]
"""

import os
import sys
import tarfile

os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", TF_ENABLE_ONEDNN_OPTS="0")

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
DATA = sys.argv[1] if len(sys.argv) > 1 else os.path.join(ROOT, "../shared/data")
WEIGHTS = os.path.join(DATA, "resnet50_weights_tf_dim_ordering_tf_kernels.h5")
FREEZE = 100

images, classes = [], []
with tarfile.open(os.path.join(DATA, "cifar10-jpeg.tar.gz")) as archive:
    for member in archive:
        parts = member.name.split("/")
        if not member.isfile() or parts[-3] != "train" or classes.count(parts[-2]) == 2:
            continue
        images.append(np.asarray(Image.open(archive.extractfile(member)).convert("RGB")))
        classes.append(parts[-2])
        if len(images) == 20:
            break
names = sorted(set(classes))
y = keras.utils.to_categorical([names.index(c) for c in classes], 10)
x = np.stack(images).astype("float32").repeat(7, 1).repeat(7, 2)
x = keras.applications.resnet.preprocess_input(x)
head = np.random.default_rng(0).normal(0, 0.02, (2048, 10))


def step(dtype, smooth):
    """Gradients by name, and where each ReLU from the freeze point on lets its input pass."""
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)
    full = keras.applications.ResNet50(weights=None)
    full.load_weights(WEIGHTS)
    base = keras.applications.ResNet50(weights=None, include_top=False, input_shape=(224, 224, 3))
    for layer in base.layers:
        layer.set_weights(full.get_layer(layer.name).get_weights() if layer.weights else [])
    dense = keras.layers.Dense(10, activation="softmax")
    model = keras.Model(base.input, dense(keras.layers.GlobalAveragePooling2D()(base.output)))
    dense.set_weights([head, np.zeros(10)])
    late = [l for l in model.layers[FREEZE:] if isinstance(l, keras.layers.Activation)]
    for i, layer in enumerate(model.layers):
        layer.trainable = i >= FREEZE
    for layer in late if smooth else []:
        layer.activation = keras.activations.softplus
    inner = keras.Model(model.input, [l.output for l in late] + [model.output])
    with tf.GradientTape() as tape:
        *values, p = inner(x.astype(dtype), training=True)
        loss = tf.reduce_mean(keras.losses.categorical_crossentropy(y.astype(dtype), p))
    weights = [(f"{l.name}/{v.name}", v) for l in model.layers for v in l.trainable_weights]
    gradients = tape.gradient(loss, [v.value for _, v in weights])
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    return {n: g.numpy() for (n, _), g in zip(weights, gradients)}, [v.numpy() > 0 for v in values]


for smooth in (False, True):
    (narrow, passed), (wide, should) = step("float32", smooth), step("float64", smooth)
    # Biases before a training batch norm have no effect.
    kept = [n for n in wide if not n.endswith("_conv/bias")]
    errors = [np.linalg.norm(narrow[n] - wide[n]) / np.linalg.norm(wide[n]) for n in kept]
    differ = sum(int((a != b).sum()) for a, b in zip(passed, should))
    print(
        f"{'softplus' if smooth else 'relu'}: largest relative L2 {max(errors):.1e}, median {np.median(errors):.1e};",
        f"{differ} of {sum(a.size for a in passed)} ReLU masks different",
    )
