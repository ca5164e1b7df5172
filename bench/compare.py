"""headstart beside Keras and PyTorch on this machine, interleaved, medians of several rounds.

    pip install tensorflow-cpu torch torchvision
    cargo build --release
    python bench/compare.py [--rounds 3] [--phases forward head fine-tune full] [--precisions f32 bf16] [--peers ../shared/peers]

Batch 20, 224x224 from 32x32 by nearest x7, ResNet-50 v1, all cores; Keras in float32 only. Every round runs
each system once, one after the other. The peers' scripts are run as they are; run nothing else meanwhile.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), ".."))
PEER_PHASE = {"forward": "predict", "head": "frozen", "fine-tune": "ft100", "full": "full"}

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
    bench = [os.path.join(ROOT, "target/release/headstart"), "bench", "--phase", phase, "--precision", precision, "--repeat", "3", "--json"]
    yield "headstart", bench
    if phase == "fine-tune":
        yield "headstart, cached", [*bench, "--cached"]
    if precision == "f32":
        yield "Keras", [sys.executable, os.path.join(args.peers, "keras_step.py"), PEER_PHASE[phase], "20", "3"]
    yield "PyTorch", [sys.executable, os.path.join(args.peers, "torch_step.py"), PEER_PHASE[phase], precision, "20", "3"]


print("| phase | precision | system | img/s | headstart is | peak memory, MB | share of peak |\n|---|---|---|---|---|---|---|")
for precision in args.precisions:
    for phase in args.phases:
        results = {}
        for _ in range(args.rounds):
            for name, command in systems(phase, precision):
                results.setdefault(name, []).append(last_json(command))
        speed = {n: statistics.median(r["images_per_second"] for r in rs) for n, rs in results.items()}
        for name, rs in results.items():
            memory = statistics.median(r["peak_rss_mb"] for r in rs)
            share = f"{statistics.median(r['fraction_of_peak'] for r in rs):.0%}" if "fraction_of_peak" in rs[0] else ""
            ratio = "" if name.startswith("headstart") else f"{speed['headstart'] / speed[name]:.2f}x"
            print(f"| {phase} | {precision} | {name} | {speed[name]:.1f} | {ratio} | {memory:.0f} | {share} |", flush=True)
