"""Predictions and speed of an 8-bit ONNX export beside the float one, in onnxruntime on this processor.

    pip install onnxruntime pillow numpy
    headstart export MODEL --format onnx --out floats.onnx
    headstart export MODEL --format onnx --int8 --data DATA --split test --out bytes.onnx
    python tools/parity/int8_check.py floats.onnx bytes.onnx DATA/test

DATA/test holds a folder for each class, with images of the model's size. Prints accuracies, the
fraction of images with the same prediction, and images a second at batch size 20, median of five
rounds.
"""

import json
import pathlib
import statistics
import sys
import time

import numpy as np
import onnxruntime
from PIL import Image

floats, small, folder = sys.argv[1:]
sessions = [onnxruntime.InferenceSession(path) for path in (floats, small)]
classes = json.loads(sessions[0].get_modelmeta().custom_metadata_map["classes"])
paths = sorted(p for p in pathlib.Path(folder).glob("*/*") if p.is_file())
images = np.stack([np.asarray(Image.open(p).convert("RGB")) for p in paths])
labels = np.array([classes.index(p.parent.name) for p in paths])


def run(session, images):
    return session.run(None, {"images": images})[0]


predictions = [np.concatenate([run(s, images[i : i + 20]) for i in range(0, len(images), 20)]).argmax(1) for s in sessions]
speeds = [[], []]
for _ in range(5):
    for session, speed in zip(sessions, speeds):
        start = time.perf_counter()
        run(session, images[:20])
        speed.append(len(images[:20]) / (time.perf_counter() - start))
print(f"{len(images)} images, the same prediction for {(predictions[0] == predictions[1]).mean():.2%}")
for name, predicted, speed in zip(("floats", "bytes"), predictions, speeds):
    print(f"{name}: accuracy {(predicted == labels).mean():.4f}, {statistics.median(speed):.1f} img/s")
