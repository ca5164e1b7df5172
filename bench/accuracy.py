"""Accuracy on held-out photos in a given time: headstart beside what people would use instead.

    pip install torch torchvision scikit-learn safetensors numpy pillow
    cargo build --release
    python bench/accuracy.py --weights ../shared/data/resnet50_weights_tf_dim_ordering_tf_kernels.h5
        [--sets trashnet signdigits100 cifar1000 cifar10000 sample FOLDER] [--budgets 5 20]
        [--seeds 0 1 2] [--out accuracy.jsonl] [--systems recipe head sklearn torch]

A set is one of ../shared/data, or a folder with a folder of images for each class
(bench/clipart.py makes two). It is split once for each seed, stratified, a fifth for testing, into folders that every system
reads. Budgets are minutes on all cores; PyTorch gets as much processor time as headstart used. Each
result is a line of --out, and results that are there are not measured again, so that the script goes
on where it was cut off. A table of medians over the seeds is printed at the end. Run nothing else
meanwhile.

- recipe: headstart train --recipe auto --budget ...
- head: headstart train --recipe quick (the frozen net, its head fitted)
- sklearn: LogisticRegression with the best C by 5-fold cross-validation over the same frozen features
  (`headstart features` at 224 pixels, Keras's number for number), standardised and not
- torch: bench/torch_finetune.py
"""

import argparse
import json
import os
import pathlib
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import photo_sets

ROOT = pathlib.Path(__file__).resolve().parent.parent

raw = argparse.RawDescriptionHelpFormatter
parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
parser.add_argument("--weights", required=True)
parser.add_argument("--sets", nargs="+", default=["trashnet", "signdigits100", "cifar1000", "cifar10000", "sample"])
parser.add_argument("--budgets", nargs="+", type=float, default=[20])
parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
parser.add_argument("--systems", nargs="+", default=["head", "sklearn", "recipe", "torch"])
parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("accuracy.jsonl"))
parser.add_argument("--binary", default=str(ROOT / "target/release/headstart"))
parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path(tempfile.gettempdir()) / "headstart-accuracy")
parser.add_argument("--precision", default="auto")
args = parser.parse_args()
args.weights = os.path.abspath(args.weights)


def run(command, **more):
    """The command's output, and the seconds and the processor seconds it took."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.time()
    done = subprocess.run(command, capture_output=True, text=True, **more)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr[-3000:]}")
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done.stdout, time.time() - start, processor


def net(name):
    sample = ["--model", "resnet20", "--weights", "cifar10"]
    return sample if name == "sample" else ["--model", "resnet50", "--weights", args.weights]


def trained(name, seed, flags):
    out = args.work / "run"
    shutil.rmtree(out, ignore_errors=True)
    data = "sample" if name == "sample" else str(photo_sets.split(name, seed, args.work))
    command = [args.binary, "train", "--data", data, *net(name), "--seed", str(seed), "--out", str(out)]
    command += ["--no-cache", "--precision", args.precision, "--json", *flags]
    _, seconds, processor = run(command)
    report = json.loads((out / "report.json").read_text())
    size = [line for line in (out / "config.toml").read_text().splitlines() if line.startswith(("image-size", "fit", "fine-tune"))]
    f1 = report["averages"]["macro_average"]["f1"]
    return {"accuracy": report["accuracy"], "f1": f1, "seconds": seconds, "processor": processor, "chosen": size}


def sklearn(name, seed):
    from safetensors.numpy import load_file
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    start = time.process_time()
    parts, taken = {}, 0.0
    for side in ("train", "test"):
        file = args.work / "features.safetensors"
        # Each side is a folder of classes of its own.
        where = ["--data", str(photo_sets.split(name, seed, args.work) / side), "--out", str(file)]
        _, _, processor = run([args.binary, "features", net(name)[1], "--weights", net(name)[3], *where, "--image-size", "224"])
        taken += processor
        tensors = load_file(file)
        parts[side] = (tensors["features"], tensors["labels"])
    best = None
    for scaled in (False, True):
        steps = [StandardScaler()] if scaled else []
        model = make_pipeline(*steps, LogisticRegression(max_iter=2000))
        grid = {"logisticregression__C": [1e-4, 1e-3, 1e-2, 0.1, 1, 10]}
        search = GridSearchCV(model, grid, cv=5, n_jobs=2).fit(*parts["train"])
        if best is None or search.best_score_ > best.best_score_:
            best = search
    plain = LogisticRegression(max_iter=2000).fit(*parts["train"])
    result = {"accuracy": best.score(*parts["test"]), "default": plain.score(*parts["test"])}
    return {**result, "processor": taken + time.process_time() - start, "chosen": str(best.best_params_)}


def measured(name, system, budget, seed):
    if system == "recipe":
        return trained(name, seed, ["--recipe", "auto", "--budget", f"{budget:g}m"])
    if system == "head":
        return trained(name, seed, ["--recipe", "quick"])
    if system == "sklearn":
        return sklearn(name, seed)
    module = args.work / "net_model.py"
    if not module.exists():
        out = str(args.work / "net.safetensors")
        run([args.binary, "export", "resnet50", "--weights", args.weights, "--format", "pytorch", "--out", out])
    used = next((r["processor"] for r in results if key(r) == (name, "recipe", budget, seed)), 2 * 60 * budget)
    script = [sys.executable, str(ROOT / "bench/torch_finetune.py"), str(photo_sets.split(name, seed, args.work)), str(module)]
    out, _, _ = run([*script, "--seconds", str(used), "--seed", str(seed)])
    found = json.loads(out.splitlines()[-1])
    chosen = f"{found['epochs']} epochs, {found['precision']}"
    return {"accuracy": found["accuracy"], "processor": found["seconds"], "chosen": chosen}


def key(result):
    return (result["set"], result["system"], result["budget"], result["seed"])


args.work.mkdir(parents=True, exist_ok=True)
results = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
timeless = ("head", "sklearn")
for seed in args.seeds:
    for name in args.sets:
        for budget in args.budgets:
            for system in args.systems:
                if name == "sample" and system in ("sklearn", "torch"):
                    continue
                entry = {"set": name, "system": system, "budget": None if system in timeless else budget, "seed": seed}
                if any(key(r) == key(entry) for r in results):
                    continue
                entry.update(measured(name, system, budget, seed))
                results.append(entry)
                with args.out.open("a") as file:
                    file.write(json.dumps(entry) + "\n")
                print(json.dumps(entry), file=sys.stderr, flush=True)

print("| set | system | budget | accuracy | least, most | processor s |")
print("|---|---|---|---|---|---|")
for group in dict.fromkeys((r["set"], r["system"], r["budget"]) for r in results):
    rows = [r for r in results if key(r)[:3] == group]
    values = sorted(r["accuracy"] for r in rows)
    cost = statistics.median(r["processor"] for r in rows)
    name, system, budget = group
    minutes = "" if budget is None else f"{budget:g} min"
    middle = statistics.median(values)
    print(f"| {name} | {system} | {minutes} | {middle:.4f} | {values[0]:.4f}, {values[-1]:.4f} | {cost:.0f} |")
