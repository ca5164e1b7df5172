"""Writes states.tsv and probabilities.tsv beside this file: exports for PyTorch, as PyTorch sees them.

    pip install torch torchvision pillow numpy
    cargo build --release
    python generate.py [--photos FOLDER] [--data ../shared/data]

Every net is trained for an epoch on synthetic images and exported; the module beside the weights is
imported and loads them. probabilities.tsv: the largest difference between its probabilities and those
of `headstart predict`, and between the features that the last layer reads, as a share of their norm,
which says as much where one probability is nearly 1; both must be below 1e-5. With --data also for
ImageNet's weights, where --photos are classified. states.tsv, for a net of each family: the names and shapes of the module's state_dict,
and what PyTorch has at three places of a tensor whose values count up in Keras's layout (height x width
x in x out, or in x out). The names of torchvision's nets are compared with torchvision's own.
"""

import argparse
import csv
import glob
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import torch
import torchvision
from PIL import Image

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.abspath(os.path.join(HERE, "../../../../.."))
HEADSTART = os.environ.get("HEADSTART", os.path.join(ROOT, "target/release/headstart"))
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--photos", help="JPEG files of any size, classified with ImageNet's weights")
parser.add_argument("--data", default=os.path.join(ROOT, "../shared/data"))
parser.add_argument("--work", help="folder whose runs are used again")
args = parser.parse_args()
work = args.work or tempfile.mkdtemp()
print(f"# in {work}")
sys.path.insert(0, work)
rng = np.random.default_rng(11)
rows, failed = [], 0

SMALL = ["--upsample", 1, "--preprocess", "unit", "--interpolation", "nearest"]
NETS = {
    "resnet50": ["--upsample", 2],
    "resnet101": ["--image-size", 64, "--preprocess", "tf"],
    "resnet152": ["--image-size", 64],
    "resnet50v2": ["--image-size", 64, "--interpolation", "bicubic"],
    "resnet101v2": ["--upsample", 2, "--preprocess", "caffe"],
    "resnet152v2": ["--image-size", 64],
    "torchvision-resnet18": ["--image-size", 75],
    "torchvision-resnet34": ["--upsample", 2, "--preprocess", "tf"],
    "torchvision-resnet50": ["--image-size", 64, "--interpolation", "bicubic"],
    "torchvision-resnet101": ["--image-size", 64],
    "torchvision-resnet152": ["--image-size", 64],
    "resnet20": ["--upsample", 2],
    "resnet32": SMALL,
    "resnet44": ["--upsample", 1],
    "resnet56": ["--image-size", 40, "--interpolation", "bicubic"],
}
LISTED = ["resnet50", "resnet50v2", "torchvision-resnet18", "torchvision-resnet50", "resnet20"]


def run(*command):
    done = subprocess.run([HEADSTART, *map(str, command)], capture_output=True, text=True, cwd=work)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr}")
    return done.stdout


def predicted(model, files, classes, *flags):
    lines = run("predict", model, *files, "--json", "--precision", "f32", "--top-k", len(classes), *flags).splitlines()
    tables = [{c["class"]: c["probability"] for c in json.loads(line)["top"]} for line in lines]
    return np.array([[table[c] for c in classes] for table in tables])


def own_features(model, files, *flags):
    folder = tempfile.mkdtemp(dir=work)
    for i, file in enumerate(files):
        place = os.path.join(folder, "ab"[i % 2])
        os.makedirs(place, exist_ok=True)
        shutil.copy(file, os.path.join(place, f"{i:03}{os.path.splitext(file)[1]}"))
    path = os.path.join(folder, "features.csv")
    run("features", model, "--data", folder, "--out", path, "--precision", "f32", *flags)
    with open(path) as lines:
        rows = {os.path.basename(row[0]): row[3:] for row in list(csv.reader(lines))[1:]}
    return np.array([rows[name] for name in sorted(rows)], dtype="float32")


def compare(what, model, files, *flags):
    """Exports, imports, compares; the module and its net."""
    global failed
    name = f"net{len(rows)}"
    run("export", model, "--format", "pytorch", "--out", f"{name}.safetensors", *flags)
    module = importlib.import_module(f"{name}_model")
    net = module.load()
    tables = [dict(module.predict(net, f, top=len(module.CLASSES))) for f in files]
    theirs = np.array([[table[c] for c in module.CLASSES] for table in tables])
    ours = predicted(model, files, module.CLASSES, *flags)
    difference = np.abs(theirs - ours).max()
    with torch.inference_mode():
        features = np.stack([net.features(module.pixels(f)[None])[0].numpy() for f in files])
    own = own_features(model, files, *flags)
    relative = (np.linalg.norm(features - own, axis=1) / np.linalg.norm(own, axis=1)).max()
    good = bool(difference <= 1e-5 and relative <= 1e-5)
    failed += not good
    rows.append(f"{what}\t{len(files)}\t{difference:.1e}\t{relative:.1e}\t{theirs.max():.3f}")
    print(rows[-1], "" if good else "FAIL", flush=True)
    return module, net


def states(name, net):
    lines = []
    for key, value in net.state_dict().items():
        if key.endswith("num_batches_tracked"):
            continue
        count = torch.arange(value.numel())
        if value.dim() == 4:
            out, inputs, height, width = value.shape
            count = count.view(height, width, inputs, out).permute(3, 2, 0, 1)
        elif value.dim() == 2:
            count = count.view(value.shape[1], value.shape[0]).T
        probes = count.flatten()[[1, value.numel() // 3, value.numel() - 2]].tolist()
        lines.append(f"{name}\t{key}\t{'x'.join(map(str, value.shape))}\t{','.join(map(str, probes))}")
    return lines


files = []
for size in (32, 100, 224):
    for i in range(2):
        coarse = rng.integers(0, 256, (4, 4, 3)).astype("uint8")
        files.append(os.path.join(work, f"{size}-{i}.png"))
        Image.fromarray(coarse).resize((size, size + 7), Image.BICUBIC).save(files[-1])
listing = []
for net, flags in NETS.items():
    out = f"run-{net}"
    model = f"{out}/weights/last.safetensors"
    if not os.path.exists(os.path.join(work, model)):
        run("train", "--data", "synthetic:4x10x32", "--model", net, "--weights", "none", "--epochs", 0, "--fine-tune-at", 0,
            "--fine-tune-epochs", 1, "--batch-size", 6, "--out", out, "--precision", "f32", "--no-cache", *flags)
    what = f"{net} {' '.join(map(str, flags))}"
    module, made = compare(what, model, files)
    if net.startswith("torchvision"):
        own = getattr(torchvision.models, net.removeprefix("torchvision-"))(num_classes=4)
        own.load_state_dict(module.read(module.WEIGHTS))
    if net in LISTED:
        listing += states(net, made)
    if net == "resnet20":
        shutil.copy(os.path.join(work, model), os.path.join(work, "calibrated.safetensors"))
        model = "calibrated.safetensors"
        run("evaluate", model, "--data", "synthetic:4x10x32", "--split", "validation", "--calibrate")
        calibrated, _ = compare(f"{what}, calibrated", model, files)
        assert calibrated.TEMPERATURE != 1
real = os.path.join(os.path.abspath(args.data), "resnet50_weights_tf_dim_ordering_tf_kernels.h5")
if os.path.exists(real):
    photos = sorted(glob.glob(os.path.join(os.path.abspath(args.photos), "**/*.jp*g"), recursive=True))[:20] if args.photos else []
    compare("resnet50, ImageNet's weights, generated images", "resnet50", files, "--weights", real)
    if photos:
        compare("resnet50, ImageNet's weights, photos", "resnet50", photos, "--weights", real)
with open(os.path.join(HERE, "states.tsv"), "w") as out:
    out.write("\n".join(listing) + "\n")
with open(os.path.join(HERE, "probabilities.tsv"), "w") as out:
    versions = f"# torch {torch.__version__.split('+')[0]}, torchvision {torchvision.__version__.split('+')[0]}"
    out.write("\n".join([versions, "net and settings\timages\tlargest difference\tof features\tlargest probability", *rows]) + "\n")
sys.exit(failed)
