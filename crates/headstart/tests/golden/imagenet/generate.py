"""Writes probabilities.txt beside this file: what Keras's ResNet50 with its ImageNet weights says about
two made-up images, 1000 numbers each.

    pip install tensorflow-cpu
    python generate.py WEIGHTS.h5
"""

import os
import sys

os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", TF_ENABLE_ONEDNN_OPTS="0")

import keras
import numpy as np

y, x, c = np.meshgrid(np.arange(224), np.arange(224), np.arange(3), indexing="ij")
images = np.stack([y * 3 + x * 5 + c * 80, (y // 16 + x // 16) * 97 + c * x]) % 256
model = keras.applications.ResNet50(weights=None)
model.load_weights(sys.argv[1])
p = model.predict(keras.applications.resnet.preprocess_input(images.astype("float32")), verbose=0)
path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "probabilities.txt")
np.savetxt(path, p.reshape(-1, 10), fmt="%.9g")
print(p.max(1), p.argmax(1))
