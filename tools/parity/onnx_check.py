"""Checks that ONNX exports, run by onnxruntime on the bytes of images, predict what `headstart predict` does.

    pip install onnx onnxruntime pillow numpy
    cargo build --release
    python tools/parity/onnx_check.py [--data ../shared/data] [--photos FOLDER MODEL]

Every family of nets is trained for an epoch on synthetic images, exported and compared, with
upsampling and a temperature where they can be. With --data ResNet-50 with its ImageNet weights is
compared too. --photos compares on real images, and measures what 8-bit arithmetic costs there in
onnxruntime beside what `headstart export` said.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnx
import onnxruntime
from PIL import Image, ImageOps

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
HEADSTART = os.environ.get("HEADSTART", os.path.join(ROOT, "target/release/headstart"))
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", default=os.path.join(ROOT, "../shared/data"))
parser.add_argument("--photos", nargs=2, metavar=("FOLDER", "MODEL"), help="class folders, and a model file trained on them")
parser.add_argument("--test-split", default="0.2")
args = parser.parse_args()
work = tempfile.mkdtemp()
rng = np.random.default_rng(11)
failed = 0
print("| what | value | bound | |\n|---|---|---|---|")


def run(*command):
    done = subprocess.run([HEADSTART, *map(str, command)], capture_output=True, text=True, cwd=work)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr}")
    return done.stdout


def row(what, value, bound):
    global failed
    good = bool(value <= bound)
    failed += not good
    print(f"| {what} | {value:.1e} | {bound:.0e} | {'ok' if good else 'FAIL'} |", flush=True)


def session(path):
    onnx.checker.check_model(path, full_check=True)
    made = onnxruntime.InferenceSession(path)
    return made, made.get_modelmeta().custom_metadata_map


def pixels(path, meta):
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    size = (int(meta["width"]), int(meta["height"]))
    return np.asarray(image.resize(size, Image.Resampling[meta["interpolation"].upper()]))


def predictions(path, files, batch=16):
    made, meta = session(path)
    classes, rows = json.loads(meta["classes"]), []
    for at in range(0, len(files), batch):
        rows.append(made.run(None, {"images": np.stack([pixels(f, meta) for f in files[at : at + batch]])})[0])
    return classes, np.concatenate(rows)


def predicted(model, files, classes, *flags):
    lines = run("predict", model, *files, "--json", "--precision", "f32", "--top-k", len(classes), *flags).splitlines()
    rows = []
    for line in map(json.loads, lines):
        by_name = {c["class"]: c["probability"] for c in line["top"]}
        rows.append([by_name[c] for c in classes])
    return np.array(rows)


def compare(name, model, files, *flags):
    path = os.path.join(work, "net.onnx")
    run("export", model, "--format", "onnx", "--out", path, *flags)
    classes, theirs = predictions(path, files)
    row(f"{name}: onnxruntime against predict", np.abs(theirs - predicted(model, files, classes, *flags)).max(), 1e-4)


files = []
for size in (32, 100, 224):
    for i in range(3):
        coarse = rng.integers(0, 256, (4, 4, 3)).astype("uint8")
        files.append(os.path.join(work, f"{size}-{i}.png"))
        Image.fromarray(coarse).resize((size, size), Image.BICUBIC).save(files[-1])
for net, more in {
    "resnet20": ["--upsample", 1],
    "resnet50": ["--upsample", 3, "--preprocess", "caffe"],
    "resnet50v2": ["--image-size", 64, "--preprocess", "tf", "--interpolation", "bicubic"],
    "torchvision-resnet18": ["--image-size", 75, "--preprocess", "torch"],
    "torchvision-resnet50": ["--image-size", 64, "--preprocess", "unit", "--interpolation", "nearest"],
}.items():
    out = os.path.join(work, f"run-{net}")
    run("train", "--data", "synthetic:4x40x32", "--model", net, "--weights", "none", "--epochs", 0, "--fine-tune-at", 0,
        "--fine-tune-epochs", 1, "--batch-size", 8, "--out", out, "--precision", "f32", "--no-cache", *more)
    model = os.path.join(out, "weights/last.safetensors")
    compare(net, model, files)
    run("evaluate", model, "--data", "synthetic:4x40x32", "--split", "validation", "--calibrate")
    compare(f"{net}, temperature", model, files)
    quantised = os.path.join(work, "int8.onnx")
    said = json.loads(run("export", model, "--format", "onnx", "--out", quantised, "--int8", "--data", "synthetic:4x40x32", "--json"))["int8"]
    classes, theirs = predictions(quantised, files)
    print(f"| {net}: int8 agrees with floats | {said['agreement']:.3f} | | {np.abs(theirs - predicted(model, files, classes)).max():.3f} in p |")
real = os.path.join(os.path.abspath(args.data), "resnet50_weights_tf_dim_ordering_tf_kernels.h5")
if os.path.exists(real):
    compare("resnet50, ImageNet", "resnet50", files, "--weights", real)
else:
    print(f"skipped: no {real}", file=sys.stderr)
if args.photos:
    folder, model = map(os.path.abspath, args.photos)
    path, quantised = os.path.join(work, "photos.onnx"), os.path.join(work, "photos-int8.onnx")
    run("export", model, "--format", "onnx", "--out", path)
    line = ["export", model, "--format", "onnx", "--out", quantised, "--int8", "--data", folder, "--test-split", args.test_split, "--json"]
    said = json.loads(run(*line))["int8"]
    every = sorted(os.path.join(at, f) for at, _, names in os.walk(folder) for f in names)
    some = [every[i] for i in np.linspace(0, len(every) - 1, 300).astype(int)]
    labels = [os.path.basename(os.path.dirname(f)) for f in some]
    classes, floats = predictions(path, some)
    row(f"{folder}: onnxruntime against predict", np.abs(floats - predicted(model, some, classes)).max(), 1e-4)
    _, bytes8 = predictions(quantised, some)
    right = lambda p: np.mean([classes[i] == label for i, label in zip(p.argmax(1), labels)])
    print(f"| headstart's int8 against floats, {said['samples']} {said['split']} images | {said['accuracy']:.4f} against {said['reference_accuracy']:.4f} | | agreement {said['agreement']:.4f} |")
    print(f"| onnxruntime's, 300 of all images | {right(bytes8):.4f} against {right(floats):.4f} | | agreement {np.mean(floats.argmax(1) == bytes8.argmax(1)):.4f} |")
    image = np.zeros((1, *pixels(some[0], session(path)[1]).shape), "uint8")
    for name, at in (("floats", path), ("int8", quantised)):
        made, times = session(at)[0], []
        for _ in range(12):
            start = time.perf_counter()
            made.run(None, {"images": image})
            times.append(time.perf_counter() - start)
        print(f"| onnxruntime, one image, {name} | {1000 * np.median(times):.0f} ms | | {os.path.getsize(at) / 1e6:.0f} MB |")
sys.exit(failed)
