"""Writes torchvision.json beside this file: a small picture and what torchvision makes of it, as PIL images.

Run: python generate.py   (torchvision 0.29.2, Pillow 12.0.0 made the numbers checked in)
"""

import json
import pathlib

import numpy as np
from PIL import Image
from torchvision.transforms import InterpolationMode, RandAugment
from torchvision.transforms import functional as F
from torchvision.transforms.autoaugment import _apply_op

HERE = pathlib.Path(__file__).parent
WIDTH, HEIGHT = 22, 16

y, x = np.mgrid[0:HEIGHT, 0:WIDTH] / 11.0
picture = np.stack(
    [128 + 100 * np.sin(5 * x + 2 * y), 110 + 90 * np.cos(4 * y - x), np.where(x + y > 1.2, 210, 50) + 20 * np.sin(9 * x)],
    -1,
)
picture = picture + np.random.RandomState(0).normal(0, 6, picture.shape)
picture = np.clip(picture, 0, 255).astype(np.uint8)
picture[:3, :3] = [[[16, 16, 16], [240, 240, 240], [9, 9, 9]]] * 3
image = Image.fromarray(picture)


def pixels(image):
    return np.asarray(image).tobytes().hex()


changes = []
for name, function, values in [
    ("brightness", F.adjust_brightness, [0.0, 0.3, 1.0, 1.7, 2.6]),
    ("contrast", F.adjust_contrast, [0.0, 0.45, 1.0, 1.6, 3.1]),
    ("saturation", F.adjust_saturation, [0.0, 0.2, 1.0, 1.9, 2.7]),
    ("hue", F.adjust_hue, [-0.5, -0.21, 0.0, 0.1, 0.37, 0.5]),
    ("rotate", lambda i, v: F.rotate(i, v, InterpolationMode.BILINEAR), [-170.0, -33.3, 7.5, 120.0]),
]:
    changes += [{"name": name, "value": v, "pixels": pixels(function(image, v))} for v in values]

# Every operation of RandAugment at some magnitudes, both ways where it has two.
operations = []
for name, (magnitudes, signed) in RandAugment()._augmentation_space(31, (HEIGHT, WIDTH)).items():
    for level in [4, 9, 30]:
        magnitude = float(magnitudes[level]) if magnitudes.ndim > 0 else 0.0
        for sign in [1, -1] if signed else [1]:
            changed = _apply_op(image, name, sign * magnitude, InterpolationMode.NEAREST, None)
            operations.append({"name": name, "magnitude": sign * level, "signed": signed, "pixels": pixels(changed)})

golden = {"width": WIDTH, "height": HEIGHT, "pixels": pixels(image), "changes": changes, "operations": operations}
(HERE / "torchvision.json").write_text(json.dumps(golden, indent=0) + "\n")
