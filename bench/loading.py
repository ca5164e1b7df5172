"""Speed of the first epoch over a folder of photos beside data that is in memory as the net takes it.

    pip install numpy pillow
    cargo build --release
    python bench/loading.py [--headstart target/release/headstart] [--rounds 3] [--images 240]

Everything of ResNet-50 trains at 224 pixels, batch 20. "memory" is synthetic images of 224 pixels, nothing to read, decode or
resize; the others are JPEG files of the size named, of smooth noise, read and resized by Pillow's bicubic filter.
Rounds are interleaved; prints medians of images a second and their share of the first row's. Run it on an idle machine.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile

import numpy as np
from PIL import Image

CLASSES = 4
SIZES = [(100, 100), (500, 375), (2048, 1536)]


def photos(folder, images, size):
    rng = np.random.default_rng(1)
    for i in range(images):
        path = folder / f"class{i % CLASSES}" / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = rng.integers(0, 256, (24, 32, 3)).astype("uint8")
        Image.fromarray(coarse).resize(size, Image.BICUBIC).save(path, quality=90)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--headstart", default="target/release/headstart")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=240)
    parser.add_argument("--precision", default="auto")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        sources = {"memory": f"synthetic:{CLASSES}x{options.images // CLASSES}x224"}
        for size in SIZES:
            name = f"{size[0]}x{size[1]}"
            photos(work / name, options.images, size)
            sources[name] = str(work / name)
        speeds = {name: [] for name in sources}
        for _ in range(options.rounds):
            for name, data in sources.items():
                out = work / "run"
                subprocess.run(
                    [options.headstart, "train", "--data", data, "--model", "resnet50", "--weights", "none", "--image-size", "224",
                     "--interpolation", "bicubic", "--epochs", "0", "--fine-tune-at", "0", "--fine-tune-epochs", "1", "--batch-size", "20",
                     "--validation-split", "0.05", "--precision", options.precision, "--no-cache", "--out", str(out), "--exist-ok"],
                    check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                events = map(json.loads, (out / "events.jsonl").read_text().splitlines())
                epoch = [e for e in events if e["event"] == "step"][-1]
                speeds[name].append(epoch["images_per_second"])
    print("| images | img/s | share |\n|---|---|---|")
    first = statistics.median(speeds["memory"])
    for name, values in speeds.items():
        print(f"| {name} | {statistics.median(values):.1f} | {100 * statistics.median(values) / first:.0f}% |")


if __name__ == "__main__":
    main()
