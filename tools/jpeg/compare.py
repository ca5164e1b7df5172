"""Compares decoded JPEG files with Pillow's bytes: generated files of every kind, damaged ones, real photos.

    pip install numpy pillow
    apt-get install libjpeg-turbo-progs
    python tools/jpeg/compare.py [--data ../shared/data] [--damaged 5000] [--draft 2|4|8]

With `--draft`, files are decoded so many times smaller, by both. `--data` is a folder of .tar and .tar.gz archives, which are streamed. Damaged files are changes at
random of the generated ones, the same each time. Prints how many are the same, and names those that
are not. Its exit status is 1 if a file that both read differs, or if only one of them reads a file that
is not damaged at random.
"""

import argparse
import hashlib
import io
import json
import pathlib
import random
import struct
import subprocess
import sys
import tarfile
import warnings

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "crates/headstart/tests/golden/jpeg"))

import PIL  # noqa: E402
from files import all_files  # noqa: E402
from PIL import Image, ImageOps, features  # noqa: E402

# Larger images of damaged headers only take time.
MAX_PIXELS = 4_000_000
SOF = [b"\xff" + bytes([0xC0 + i]) for i in range(16) if i not in (4, 8, 12)]
MARKERS = [0xC0, 0xC4, 0xD9, 0xDA, 0xDB, 0xDD, 0xD0, 0xD1, 0xD5, 0xEE, 0xE0, 0]


class Decoder:
    """The example `pixels`, which answers file by file."""

    def __init__(self, scale):
        command = ["cargo", "build", "--release", "-q", "-p", "headstart", "--example", "pixels"]
        subprocess.run(command, cwd=ROOT, check=True)
        target = subprocess.run(
            ["cargo", "metadata", "--no-deps", "--format-version=1"], cwd=ROOT, check=True, capture_output=True
        )
        folder = pathlib.Path(json.loads(target.stdout)["target_directory"])
        program = folder / "release/examples/pixels"
        self.process = subprocess.Popen([program, *scale], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __call__(self, data):
        self.process.stdin.write(struct.pack("<I", len(data)) + data)
        self.process.stdin.flush()
        return self.process.stdout.readline().decode().strip()


def pillow(data, scale):
    try:
        image = Image.open(io.BytesIO(data))
        if scale and min(image.size) >= scale:
            image.draft(None, (min(image.size) // scale,) * 2)
        image = ImageOps.exif_transpose(image).convert("RGB")
    except Exception as error:  # It raises many kinds for damaged files.
        return f"refused {error}"
    return f"{image.width} {image.height} {hashlib.sha256(image.tobytes()).hexdigest()}"


def damaged(count):
    good = [data for _, data in all_files() if len(data) < 9000]
    draw = random.Random(5)
    for number in range(count):
        data = bytearray(draw.choice(good))
        for _ in range(draw.randint(1, 4)):
            at = draw.randrange(2, len(data) if draw.random() < 0.7 else min(len(data), 650))
            match draw.randrange(6):
                case 0 | 1:
                    data[at] = draw.randrange(256)
                case 2:
                    data[at] ^= 1 << draw.randrange(8)
                case 3:
                    del data[at : min(at + draw.randrange(1, 20), len(data) - 8)]
                case 4:
                    data[at:at] = data[draw.randrange(len(data)) :][: draw.randrange(1, 40)]
                case _:
                    data[at : at + 2] = bytes([0xFF, draw.choice(MARKERS)])
        if draw.random() < 0.7 and data[-2:] != b"\xff\xd9":
            data += b"\xff\xd9"
        sizes = [data[i + 5 : i + 9] for i in range(len(data) - 9) if bytes(data[i : i + 2]) in SOF]
        if all(int.from_bytes(s[:2], "big") * int.from_bytes(s[2:], "big") <= MAX_PIXELS for s in sizes):
            yield f"damaged {number}", bytes(data)


def archived(path):
    with tarfile.open(path, "r|*") as archive:
        for member in archive:
            if member.isfile() and member.name.lower().endswith((".jpg", ".jpeg")):
                yield member.name, archive.extractfile(member).read()


def compare(title, files, decoder, scale):
    counts = {"same": 0, "different": 0, "refused by both": 0, "read by one": 0}
    for name, data in files:
        ours, theirs = decoder(data), pillow(data, scale)
        refused = ours.startswith("refused"), theirs.startswith("refused")
        if all(refused):
            kind = "refused by both"
        elif any(refused):
            kind = "read by one"
        else:
            kind = "same" if ours == theirs else "different"
        counts[kind] += 1
        if kind in ("different", "read by one"):
            print(f"  {name}: here {ours[:150]}; Pillow {theirs[:150]}")
    print(f"{title}: {sum(counts.values())} files, " + ", ".join(f"{n} {kind}" for kind, n in counts.items()), flush=True)
    return counts["different"] == 0 and (counts["read by one"] == 0 or title == "damaged")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=pathlib.Path, default=ROOT / "../shared/data")
    parser.add_argument("--damaged", type=int, default=0)
    parser.add_argument("--draft", type=int, choices=(2, 4, 8))
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    print(f"Pillow {PIL.__version__}, libjpeg-turbo {features.version_feature('libjpeg_turbo')}")
    decoder, scale = Decoder([str(args.draft)] if args.draft else []), args.draft
    good = compare("generated", all_files(), decoder, scale)
    if args.damaged:
        good &= compare("damaged", damaged(args.damaged), decoder, scale)
    for path in sorted(args.data.glob("*.tar*")):
        good &= compare(path.name, archived(path), decoder, scale)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
