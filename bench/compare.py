"""headstart beside Keras and PyTorch on this machine, interleaved, medians of several rounds.

    pip install tensorflow-cpu torch torchvision
    cargo build --release
    python bench/compare.py [--rounds 3] [--phases forward head fine-tune full]
        [--precisions f32 bf16] [--peers ../shared/peers]

Batch size 20, 224x224 from 32x32 by nearest x7, ResNet-50 v1, all cores; Keras in float32 only.
Every round runs each system once, one after the other. --peers has the scripts for Keras and
PyTorch, which are run as they are. Run nothing else meanwhile.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), ".."))
PEER_PHASE = {"forward": "predict", "head": "frozen", "fine-tune": "ft100", "full": "full"}

raw = argparse.RawDescriptionHelpFormatter
parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--phases", nargs="+", default=list(PEER_PHASE), choices=list(PEER_PHASE))
parser.add_argument("--precisions", nargs="+", default=["f32", "bf16"], choices=["f32", "bf16"])
parser.add_argument("--peers", default=os.path.join(ROOT, "../shared/peers"))
args = parser.parse_args()


def last_json(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def systems(phase, precision):
    bench = [os.path.join(ROOT, "target/release/headstart"), "bench", "--phase", phase]
    bench += ["--precision", precision, "--repeat", "3", "--json"]
    peer = lambda script: [sys.executable, os.path.join(args.peers, script), PEER_PHASE[phase]]
    yield "headstart", bench
    if phase == "fine-tune":
        yield "headstart, cached", [*bench, "--cached"]
    if precision == "f32":
        yield "Keras", [*peer("keras_step.py"), "20", "3"]
    yield "PyTorch", [*peer("torch_step.py"), precision, "20", "3"]


print("| phase | precision | system | img/s | headstart is | peak memory, MB | share of peak |")
print("|---|---|---|---|---|---|---|")
for precision in args.precisions:
    for phase in args.phases:
        results = {}
        for _ in range(args.rounds):
            for name, command in systems(phase, precision):
                results.setdefault(name, []).append(last_json(command))
        middle = lambda rs, key: statistics.median(r[key] for r in rs)
        speed = {n: middle(rs, "images_per_second") for n, rs in results.items()}
        for name, rs in results.items():
            memory = middle(rs, "peak_rss_mb")
            ours = name.startswith("headstart")
            share = f"{middle(rs, 'fraction_of_peak'):.0%}" if "fraction_of_peak" in rs[0] else ""
            ratio = "" if ours else f"{speed['headstart'] / speed[name]:.2f}x"
            cells = (phase, precision, name, f"{speed[name]:.1f}", ratio, f"{memory:.0f}", share)
            print(f"| {' | '.join(cells)} |", flush=True)
