"""Writes small.safetensors beside this file: what Keras computes on a small ResNet of its own builder.

    pip install tensorflow-cpu safetensors
    python generate.py

Names: images, labels; weights/LAYER/VARIABLE before any step; for every freeze point F (layers before F
are frozen): F/loss, F/activation/LAYER in training mode, F/gradient/LAYER/VARIABLE,
F/sgd/LAYER/VARIABLE (every weight and statistic after 3 steps of SGD), F/losses (of these steps);
inference/LAYER; rmsprop/{weights,gradients,after} (3 updates by given gradients).
"""

import os

os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", TF_ENABLE_ONEDNN_OPTS="0")

import keras
import numpy as np
import tensorflow as tf
from keras.src.applications.resnet import ResNet, stack_residual_blocks_v1
from safetensors.numpy import save_file

CLASSES, BATCH, SIZE = 3, 4, 32
FREEZE = [0, 15, 30, 1000]
KEPT = ["pool1_pool", "conv2_block1_out", "conv2_block2_out", "conv3_block1_out", "avg_pool", "predictions"]


def stacks(x):
    x = stack_residual_blocks_v1(x, 4, 2, stride1=1, name="conv2")
    return stack_residual_blocks_v1(x, 6, 1, name="conv3")


def build():
    base = ResNet(stacks, False, True, name="small", include_top=False, weights=None, input_shape=(SIZE, SIZE, 3))
    x = keras.layers.GlobalAveragePooling2D(name="avg_pool")(base.output)
    x = keras.layers.Dense(CLASSES, activation="softmax", name="predictions")(x)
    return keras.Model(base.input, x), len(base.layers)


def variables(model):
    return {f"{layer.name}/{v.name}": v for layer in model.layers for v in layer.weights}


rng = np.random.default_rng(3)
model, base_layers = build()
start = {}
for name, v in variables(model).items():
    role = name.rsplit("/", 1)[1]
    if role == "kernel":
        value = rng.normal(0, np.sqrt(2 / np.prod(v.shape[:-1])), v.shape)
    elif role in ("gamma", "moving_variance"):
        value = rng.uniform(0.5, 1.5, v.shape)
    else:
        value = rng.uniform(-0.2, 0.2, v.shape)
    if name.startswith("conv1_conv"):
        value = value / 60  # pixels come without scaling
    start[name] = value.astype("float32")
images = rng.integers(0, 256, (BATCH, SIZE, SIZE, 3)).astype("float32")
labels = np.array([0, 2, 1, 2])
x = keras.applications.resnet.preprocess_input(images.copy())
y = keras.utils.to_categorical(labels, CLASSES)
out = {"images": images, "labels": labels.astype("float32")}
out.update({f"weights/{n}": v for n, v in start.items()})


def reset():
    for name, v in variables(model).items():
        v.assign(start[name])


reset()
inner = keras.Model(model.input, [model.get_layer(n).output for n in KEPT])
out.update({f"inference/{n}": a.numpy() for n, a in zip(KEPT, inner(x, training=False))})
for point in FREEZE:
    for i, layer in enumerate(model.layers):
        layer.trainable = i >= min(point, base_layers)
    reset()
    inner = keras.Model(model.input, [model.get_layer(n).output for n in KEPT])
    with tf.GradientTape() as tape:
        values = inner(x, training=True)
        loss = tf.reduce_mean(keras.losses.categorical_crossentropy(y, values[-1]))
    names = {v.path: n for n, v in variables(model).items()}
    trained = model.trainable_variables
    for v, g in zip(trained, tape.gradient(loss, [v.value for v in trained])):
        out[f"{point}/gradient/{names[v.path]}"] = g.numpy()
    out.update({f"{point}/activation/{n}": a.numpy() for n, a in zip(KEPT, values)})
    out[f"{point}/loss"] = np.array([loss], "float32")
    reset()
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True), "categorical_crossentropy")
    losses = []
    for _ in range(3):
        model.reset_metrics()
        losses.append(model.train_on_batch(x, y))
    out[f"{point}/losses"] = np.array(losses, "float32").reshape(-1)
    out.update({f"{point}/sgd/{n}": v.numpy() for n, v in variables(model).items()})

w = rng.normal(0, 1, 50).astype("float32")
gradients = rng.normal(0, 1, (3, 50)).astype("float32") * np.logspace(-6, 2, 50).astype("float32")
variable = keras.Variable(w)
optimizer = keras.optimizers.RMSprop(1e-3)
for g in gradients:
    optimizer.apply([tf.constant(g)], [variable])
out.update({"rmsprop/weights": w, "rmsprop/gradients": gradients, "rmsprop/after": variable.numpy()})
path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "small.safetensors")
save_file({k: np.ascontiguousarray(v, dtype="float32") for k, v in out.items()}, path, {"keras": keras.__version__, "tensorflow": tf.__version__})
print(len(out), "tensors,", os.path.getsize(path), "bytes; base layers", base_layers)
