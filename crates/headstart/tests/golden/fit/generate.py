"""Writes fit.json beside this file: images as torchvision and Pillow crop and pad them to a net's size.

Run: python generate.py   (Pillow 12.0.0, torchvision 0.29.2 and numpy 2.4.6 made the numbers checked in)
Byte i of an image is (i * i // 7 + 37 * i) % 251; what becomes of it is stored as its SHA-256.
"""

import hashlib
import json
import math
import pathlib

import numpy as np
import PIL
import torchvision
from PIL import Image, ImageOps
from torchvision.transforms import CenterCrop, InterpolationMode, Resize

HERE = pathlib.Path(__file__).parent
SIZES = [
    (320, 240), (240, 320), (256, 256), (224, 224), (500, 375), (375, 500), (31, 17), (17, 31), (1, 1),
    (1, 9), (200, 3), (3, 200), (257, 255), (255, 257), (640, 127), (91, 90), (223, 225),
]
NETS = [(224, 0.875), (64, 0.9), (32, 1.0), (96, 0.7), (75, 0.95)]


def picture(width, height):
    i = np.arange(width * height * 3, dtype=np.uint64)
    return Image.fromarray(((i * i // 7 + 37 * i) % 251).astype(np.uint8).reshape(height, width, 3))


cases = []
for width, height in SIZES:
    image = picture(width, height)
    for side, share in NETS:
        for name in ["nearest", "bilinear", "bicubic"]:
            crop = CenterCrop(side)(Resize(math.floor(side / share), InterpolationMode(name), antialias=True)(image))
            both = [("crop", crop)]
            # Pillow refuses an image of which less than half a pixel would be left.
            if side * min(width, height) / max(width, height) > 0.5:
                mean = (124, 116, 104)
                both.append(("pad", ImageOps.pad(image, (side, side), Image.Resampling[name.upper()], color=mean)))
            for fit, out in both:
                assert out.size == (side, side)
                cases.append(
                    {
                        "width": width,
                        "height": height,
                        "side": side,
                        "fit": fit,
                        "share": share,
                        "interpolation": name,
                        "sha256": hashlib.sha256(out.tobytes()).hexdigest(),
                    }
                )
text = ",\n".join(json.dumps(case) for case in cases)
versions = {"pillow": PIL.__version__, "torchvision": torchvision.__version__}
(HERE / "fit.json").write_text('{"made_by": ' + json.dumps(versions) + ', "cases": [\n' + text + "\n]}\n")
