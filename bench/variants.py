"""The same training with other settings, on one split of a set: what docs/accuracy.md's tables of settings are made with.

    cargo build --release
    python bench/variants.py trashnet --weights FILE --seed 0
        --base "--head-solver lbfgs --epochs 1 --fine-tune-at conv5 --fine-tune-epochs 5 --optimizer adamw"
        --try "2e-4: --fine-tune-learning-rate 2e-4"
        --try "1e-3: --fine-tune-learning-rate 1e-3"

A set is as in bench/accuracy.py. Every variant is trained with the flags of --base and its own, and
evaluated on the same fifth of the images. Features of frozen layers are cached between variants. The
table has the accuracy and the loss on the validation images after every epoch, and those on the test images of
the weights that are shipped; standard errors follow from the numbers of images. Results are lines of
--out too, and those that are there are not measured again. Times are not measured: other work may run.
"""

import argparse
import csv
import json
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile

import photo_sets

ROOT = pathlib.Path(__file__).resolve().parent.parent
raw = argparse.RawDescriptionHelpFormatter
parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
parser.add_argument("set")
parser.add_argument("--weights", required=True)
parser.add_argument("--model", default="resnet50")
parser.add_argument("--base", default="")
parser.add_argument("--try", dest="tries", action="append", required=True, metavar="NAME: FLAGS")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("variants.jsonl"))
parser.add_argument("--binary", default=str(ROOT / "target/release/headstart"))
parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path(tempfile.gettempdir()) / "headstart-accuracy")
args = parser.parse_args()
args.work.mkdir(parents=True, exist_ok=True)
data = photo_sets.split(args.set, args.seed, args.work)
results = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []


def measured(flags):
    out = args.work / f"variant-{os.getpid()}"
    shutil.rmtree(out, ignore_errors=True)
    command = [args.binary, "train", "--data", data, "--model", args.model, "--weights", os.path.abspath(args.weights)]
    command += ["--seed", args.seed, "--out", out, *shlex.split(args.base), *flags]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    report = json.loads((out / "report.json").read_text())
    with (out / "results.csv").open() as file:
        epochs = [[float(row["val_accuracy"]), float(row["val_loss"])] for row in csv.DictReader(file)]
    shutil.rmtree(out)
    return {"epochs": epochs, "accuracy": report["accuracy"], "loss": report["loss"], "images": report["samples"]}


rows = []
for text in args.tries:
    name, _, flags = text.partition(":")
    key = {"set": args.set, "seed": args.seed, "base": args.base, "flags": flags.strip()}
    found = next((r for r in results if all(r[k] == v for k, v in key.items())), None)
    if found is None:
        found = {**key, "name": name, **measured(shlex.split(flags))}
        with args.out.open("a") as file:
            file.write(json.dumps(found) + "\n")
        print(json.dumps(found), file=sys.stderr, flush=True)
    rows.append((name, found))

print("| variant | validation accuracy, loss by epoch | test accuracy, loss |")
print("|---|---|---|")
for name, found in rows:
    epochs = "; ".join(f"{accuracy:.3f}, {loss:.3f}" for accuracy, loss in found["epochs"])
    print(f"| {name} | {epochs} | {found['accuracy']:.4f}, {found['loss']:.4f} of {found['images']} |")
