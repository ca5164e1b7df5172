"""Training over two processes of one thread each, beside PyTorch's DistributedDataParallel with gloo.

    cargo build --release
    python bench/ranks.py [--headstart target/release/headstart] [--rounds 3] [--precision f32 bf16]

Needs torch and torchvision in this Python, and an mpirun. Both train all of ResNet-50 on random
images of 224 pixels, 16 in a step, 8 a process, with SGD, channels last. Rounds are interleaved;
a figure is the median of its rounds, each the median of its steps, or of headstart the images of
an epoch over its seconds, the first epoch left out. PyTorch's step has no loading of images.
"""

import argparse
import csv
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

BATCH = 16
SIDE = 224


def worker(precision, steps):
    """A process of PyTorch's."""
    import torch
    import torchvision
    from torch.nn.parallel import DistributedDataParallel

    rank = int(os.environ.get("OMPI_COMM_WORLD_RANK", os.environ.get("PMI_RANK", "0")))
    size = int(os.environ.get("OMPI_COMM_WORLD_SIZE", os.environ.get("PMI_SIZE", "1")))
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=size)
    torch.manual_seed(0)
    net = torchvision.models.resnet50(num_classes=10).to(memory_format=torch.channels_last)
    net = DistributedDataParallel(net)
    rule = torch.optim.SGD(net.parameters(), lr=1e-3)
    images = torch.rand(BATCH // size, 3, SIDE, SIDE).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (BATCH // size,))
    seconds = []
    for _ in range(steps + 1):
        start = time.perf_counter()
        rule.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = torch.nn.functional.cross_entropy(net(images), labels)
        loss.backward()
        rule.step()
        seconds.append(time.perf_counter() - start)
    if rank == 0:
        # The first step prepares.
        print(f"{torch.__version__} {BATCH / statistics.median(seconds[1:])}")
    torch.distributed.destroy_process_group()


def mpirun(command, env=None):
    given = dict(os.environ, MASTER_ADDR="127.0.0.1", MASTER_PORT="29517", OMP_NUM_THREADS="1", **(env or {}))
    version = subprocess.run(["mpirun", "--version"], capture_output=True, text=True).stdout
    flags = ["--allow-run-as-root", "--oversubscribe", "--bind-to", "none"] if "Open" in version else []
    line = ["mpirun", *flags, "-n", "2", *map(str, command)]
    done = subprocess.run(line, env=given, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(line)}: {done.stdout}{done.stderr}")
    return done.stdout


def torch_rate(precision, steps):
    said = mpirun([sys.executable, __file__, "--worker", precision, "--steps", steps]).split()
    return float(said[-1]), said[-2]


def own_rate(binary, precision, steps):
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "run"
        data = f"synthetic:2x{steps * BATCH // 2}x{SIDE}"
        line = [binary, "train", "--data", data, "--model", "resnet50", "--weights", "none", "--epochs", "3"]
        line += ["--validation-split", "0", "--batch-size", BATCH, "--threads", "1", "--optimizer", "sgd"]
        line += ["--precision", precision, "--no-cache", "--out", out]
        mpirun(line)
        rows = list(csv.DictReader(open(out / "results.csv")))
        return statistics.median(float(row["images_per_second"]) for row in rows[1:])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--headstart", default="target/release/headstart")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--precision", nargs="+", default=["f32", "bf16"])
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return worker(options.worker, options.steps)
    binary = pathlib.Path(options.headstart).resolve()
    print(f"load of the machine: {os.getloadavg()[0]:.2f} of {os.cpu_count()} processors")
    for precision in options.precision:
        own, peer = [], []
        for _ in range(options.rounds):
            own.append(own_rate(binary, precision, options.steps))
            rate, version = torch_rate(precision, options.steps)
            peer.append(rate)
        ours, theirs = statistics.median(own), statistics.median(peer)
        print(f"{precision}: headstart {ours:.2f} images/s, torch {version} {theirs:.2f}: {ours / theirs:.2f}x")
        print(f"rounds: headstart {own}, torch {peer}", flush=True)


if __name__ == "__main__":
    main()
