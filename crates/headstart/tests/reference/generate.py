"""Writes, beside this file, what Keras and torchvision call the layers of their nets and how they list them.

    pip install tensorflow-cpu torch torchvision
    python generate.py keras && python generate.py torchvision   (the two crash in one process)

keras_resnet{101,152}v2_layers.tsv: index, name, class, output shape, parameters, inputs, without the top.
keras3_layouts.tsv: net, group, layer name and variables' shapes in the .weights.h5 of the whole net.
torchvision_states.tsv: net, name and shape of every float in its state dict.
"""

import os
import sys
import tempfile

os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", TF_ENABLE_ONEDNN_OPTS="0")

import h5py

HERE = os.path.dirname(os.path.abspath(__file__))
NETS = ["ResNet50", "ResNet101", "ResNet152", "ResNet50V2", "ResNet101V2", "ResNet152V2"]


def shape(s):
    return "x".join(str(d) for d in s if d is not None)


def listing(name):
    keras.backend.clear_session()
    net = getattr(keras.applications, name)(weights=None, include_top=False, input_shape=(224, 224, 3))
    path = os.path.join(HERE, f"keras_{name.lower()}_layers.tsv")
    with open(path, "w") as out:
        out.write("index\tname\tclass\toutput_shape\tparams\tinputs\n")
        for i, layer in enumerate(net.layers):
            inputs = [] if not i else layer.input if isinstance(layer.input, list) else [layer.input]
            names = ",".join(t._keras_history.operation.name for t in inputs)
            out.write(f"{i}\t{layer.name}\t{type(layer).__name__}\t{shape(layer.output.shape)}\t{layer.count_params()}\t{names}\n")


if sys.argv[1] == "torchvision":
    import torchvision

    with open(os.path.join(HERE, "torchvision_states.tsv"), "w") as out:
        for depth in (18, 34, 50, 101, 152):
            for name, value in getattr(torchvision.models, f"resnet{depth}")(weights=None).state_dict().items():
                if value.is_floating_point():
                    out.write(f"torchvision-resnet{depth}\t{name}\t{shape(value.shape)}\n")
    sys.exit()

import keras

listing("ResNet101V2")
listing("ResNet152V2")
with open(os.path.join(HERE, "keras3_layouts.tsv"), "w") as out, tempfile.TemporaryDirectory() as folder:
    for name in NETS:
        keras.backend.clear_session()
        path = os.path.join(folder, "net.weights.h5")
        getattr(keras.applications, name)(weights=None).save_weights(path)
        with h5py.File(path) as file:
            for group, layer in file["layers"].items():
                variables = layer["vars"]
                if len(variables):
                    shapes = ",".join(shape(variables[str(i)].shape) for i in range(len(variables)))
                    out.write(f"{name.lower()}\tlayers/{group}/vars\t{variables.attrs['name']}\t{shapes}\n")
        os.remove(path)
