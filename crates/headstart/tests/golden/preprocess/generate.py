"""Writes preprocess.json beside this file: pixels as Keras's preprocess_input makes them, mode by mode.

Run: KERAS_BACKEND=torch python generate.py   (Keras 3 made the numbers checked in)
"""

import json
import pathlib

import keras
import numpy as np
from keras.applications import imagenet_utils

pixels = np.array([[[[0, 0, 0], [255, 255, 255], [10, 128, 250], [1, 2, 3], [200, 99, 17], [127, 128, 64]]]])
modes = {
    mode: imagenet_utils.preprocess_input(pixels.astype("float32"), data_format="channels_last", mode=mode)
    .reshape(-1)
    .tolist()
    for mode in ["caffe", "tf", "torch"]
}
# The article's plain /255.
modes["unit"] = keras.layers.Rescaling(1 / 255)(pixels.astype("float32")).numpy().reshape(-1).tolist()
doc = {"keras": keras.__version__, "pixels": pixels.reshape(-1).tolist(), "modes": modes}
(pathlib.Path(__file__).parent / "preprocess.json").write_text(json.dumps(doc, indent=1) + "\n")
