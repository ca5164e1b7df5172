"""Writes files.tar.gz beside this file: small ResNets of Keras's own builder in every format that Keras saves.

    pip install tensorflow-cpu safetensors
    python generate.py

v1 and v2: NET.weights.h5, NET.keras, NET.h5 (whole model). v1 also as the article builds it, the net without
its top as a layer of a Sequential and of a functional model: seq.weights.h5 and seq.keras (compiled and
trained for a step, so that an optimizer's state is beside the weights), seq.h5, fun.weights.h5, and
old.h5 (save_weights of the legacy format). NET.expected.safetensors: every weight as LAYER/VARIABLE; images and
probabilities. Weights are multiples of 1/64, which compress.
"""

import os
import tarfile
import tempfile

os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", TF_ENABLE_ONEDNN_OPTS="0")

import h5py
import keras
import numpy as np
from keras.src.applications.resnet import ResNet, stack_residual_blocks_v1, stack_residual_blocks_v2
from keras.src.legacy.saving import legacy_h5_format
from safetensors.numpy import save_file

HERE = os.path.dirname(os.path.abspath(__file__))
rng = np.random.default_rng(11)
images = rng.integers(0, 256, (4, 32, 32, 3)).astype("float32")


def v1(x):
    x = stack_residual_blocks_v1(x, 4, 2, stride1=1, name="conv2")
    return stack_residual_blocks_v1(x, 6, 1, name="conv3")


def v2(x):
    x = stack_residual_blocks_v2(x, 4, 2, name="conv2")
    return stack_residual_blocks_v2(x, 6, 2, stride1=1, name="conv3")


def build(kind, top=True):
    stacks, before = (v2, True) if kind == "v2" else (v1, False)
    return ResNet(stacks, before, True, name="small", include_top=top, weights=None, input_shape=(32, 32, 3), classes=3)


def value(name, shape):
    if name.endswith(("gamma", "moving_variance")):
        return rng.integers(32, 97, shape) / 64
    return rng.integers(-16, 17, shape) / 64


os.chdir(tempfile.mkdtemp())
for kind in ("v1", "v2"):
    net = build(kind)
    for layer in net.layers:
        layer.set_weights([value(v.name, v.shape) for v in layer.weights])
    out = {f"{layer.name}/{v.name}": v.numpy() for layer in net.layers for v in layer.weights}
    preprocess = (keras.applications.resnet_v2 if kind == "v2" else keras.applications.resnet).preprocess_input
    out.update({"images": images, "probabilities": net.predict(preprocess(images.copy()), verbose=0)})
    save_file({k: np.ascontiguousarray(v, "float32") for k, v in out.items()}, f"{kind}.expected.safetensors")
    net.save_weights(f"{kind}.weights.h5")
    net.save(f"{kind}.keras")
    net.save(f"{kind}.h5")
    if kind == "v2":
        continue
    with h5py.File("old.h5", "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, net)
    base = build(kind, top=False)
    seq = keras.Sequential([keras.Input((32, 32, 3)), base, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3, activation="softmax")])
    seq.compile("rmsprop", "categorical_crossentropy")
    seq.fit(np.zeros((2, 32, 32, 3)), np.eye(3)[:2], verbose=0)
    inputs = keras.Input((32, 32, 3))
    fun = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(base(inputs))))
    for layer in base.layers:
        layer.set_weights(net.get_layer(layer.name).get_weights() if layer.weights else [])
    seq.layers[-1].set_weights(net.layers[-1].get_weights())
    fun.layers[-1].set_weights(net.layers[-1].get_weights())
    seq.save_weights("seq.weights.h5")
    seq.save("seq.keras")
    seq.save("seq.h5")
    fun.save_weights("fun.weights.h5")

path = os.path.join(HERE, "files.tar.gz")
with tarfile.open(path, "w:gz") as archive:
    for name in sorted(os.listdir(".")):
        archive.add(name)
print(sorted(os.listdir(".")), os.path.getsize(path), "bytes")
