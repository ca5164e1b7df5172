"""Speed of the pass through the frozen net over a folder of photos, beside images in memory.

    pip install numpy pillow
    cargo build --release
    python bench/loading.py [--headstart target/release/headstart] [--rounds 3]

ResNet-50 at 224 pixels: the fastest phase, in which loading costs the largest part. "memory" is
synthetic images of 224 pixels: nothing to read, decode or resize. The others are JPEG files of the
size named, about a quarter of a byte a pixel, as telephones write them: smooth shapes, made with
Pillow's bicubic filter, and grain. Large ones are decoded in full and reduced (`--decode`). They
have more than the 1 GiB of pixels that headstart would decode before it starts. Rounds are
interleaved. Prints medians of images a second and their share of the first row's. Run it on an
idle machine.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile

import numpy as np
from PIL import Image

CLASSES = 4
SIZES = [(500, 375), (1024, 768), (2048, 1536), (4000, 3000)]
# Reduced are those that are twice as large as the net needs them, and more.
LARGE = 2 * 448
PIXELS = 1.2 * 2**30 / 3
DIFFERENT = 20


def photos(folder, size):
    """Files of a few pictures, as often as it takes."""
    rng = np.random.default_rng(1)
    for i in range(int(PIXELS / (size[0] * size[1]))):
        path = folder / f"class{i % CLASSES}" / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        if i < DIFFERENT:
            coarse = rng.integers(0, 256, (24, 32, 3)).astype("uint8")
            smooth = np.asarray(Image.fromarray(coarse).resize(size, Image.BICUBIC))
            grain = rng.normal(0, 3, (size[1], size[0], 1))
            picture = (smooth + grain).clip(0, 255).astype("uint8")
            Image.fromarray(picture).save(path, quality=85)
        else:
            os.link(folder / f"class{i % DIFFERENT % CLASSES}" / f"{i % DIFFERENT}.jpg", path)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--headstart", default="target/release/headstart")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", default="auto")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        sources = {"memory": (f"synthetic:{CLASSES}x200x224", "full")}
        for size in SIZES:
            name = f"{size[0]}x{size[1]}"
            photos(work / name, size)
            sources[name] = (str(work / name), "full")
            if min(size) >= LARGE:
                sources[f"{name}, reduced"] = (str(work / name), "reduced")
        speeds = {name: [] for name in sources}
        for _ in range(options.rounds):
            for name, (data, decode) in sources.items():
                out = work / "run"
                subprocess.run(
                    [options.headstart, "train", "--data", data, "--model", "resnet50",
                     "--weights", "none", "--image-size", "224", "--interpolation", "bicubic",
                     "--epochs", "1", "--fine-tune-at", "100", "--fine-tune-epochs", "0",
                     "--validation-split", "0", "--precision", options.precision, "--no-cache",
                     "--decode", decode,
                     "--out", str(out), "--exist-ok"],
                    check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                events = map(json.loads, (out / "events.jsonl").read_text().splitlines())
                done = [e for e in events if e["event"] == "features"][-1]
                speeds[name].append(done["total"] / done["seconds"])
    print("| images | img/s | share |\n|---|---|---|")
    first = statistics.median(speeds["memory"])
    for name, values in speeds.items():
        speed = statistics.median(values)
        print(f"| {name} | {speed:.1f} | {100 * speed / first:.0f}% |")


if __name__ == "__main__":
    main()
