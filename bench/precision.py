"""Accuracy of training in bf16 beside f32, for several seeds.

    python bench/precision.py [--headstart target/release/headstart] [--seeds 5] [--first-seed 1]
        [--cifar cifar10-jpeg.tar.gz --weights FILE] [--only-cifar]
        [--image-size 64] [--train 100] [--test 100]

Trains on the digits inside the program, as `headstart train` does. With --cifar it also trains
ResNet-50 on some images of each class of an archive with train/CLASS/ and test/CLASS/: the head,
then from layer 100 on. Each seed draws its own head, order and validation images. Prints test
accuracy and loss by seed, their means, and the difference in standard errors.
"""

import argparse
import json
import math
import pathlib
import statistics
import subprocess
import tarfile
import tempfile


def subset(archive, folder, train, test):
    """Extracts the first images of every class."""
    left = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            parts = pathlib.PurePosixPath(member.name).parts
            if not member.isfile() or len(parts) < 3 or parts[-3] not in ("train", "test"):
                continue
            key = parts[-3:-1]
            left.setdefault(key, train if parts[-3] == "train" else test)
            if left[key] == 0:
                continue
            left[key] -= 1
            path = folder.joinpath(*parts[-3:])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(tar.extractfile(member).read())


def accuracy(command, folder, precision, seed):
    out = folder / f"{precision}-{seed}"
    command = command + ["--precision", precision, "--seed", str(seed)]
    command += ["--out", str(out), "--exist-ok"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    report = json.loads((out / "report.json").read_text())
    return report["accuracy"], report["loss"]


def compare(name, command, first, seeds):
    print(f"{name}: {' '.join(command[1:])}")
    print("| seed | f32 accuracy | bf16 accuracy | f32 loss | bf16 loss |\n|---|---|---|---|---|")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(first, first + seeds):
            a, b = (accuracy(command, pathlib.Path(folder), p, seed) for p in ("f32", "bf16"))
            rows.append((a[0], b[0], a[1], b[1]))
            print(f"| {seed} | {a[0]:.4f} | {b[0]:.4f} | {a[1]:.4f} | {b[1]:.4f} |", flush=True)
    means = [statistics.mean(column) for column in zip(*rows)]
    print(f"| mean | {means[0]:.4f} | {means[1]:.4f} | {means[2]:.4f} | {means[3]:.4f} |")
    if seeds > 1:
        deviations = [statistics.stdev(column) for column in zip(*rows)]
        print(f"| standard deviation | {' | '.join(f'{d:.4f}' for d in deviations)} |")
        error = math.hypot(*deviations[:2]) / math.sqrt(seeds)
        if error > 0:
            difference = means[1] - means[0]
            print(f"bf16 - f32: {difference:+.4f}, {difference / error:+.1f} standard errors")
    print()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--headstart", default="target/release/headstart")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--cifar", help="archive with train/CLASS/ and test/CLASS/")
    parser.add_argument("--weights", help="ResNet-50's ImageNet weights")
    parser.add_argument("--train", type=int, default=100, help="training images of each class")
    parser.add_argument("--test", type=int, default=100, help="test images of each class")
    size = "resize images to this side, bicubic, instead of upsampling by nearest neighbour x7"
    parser.add_argument("--image-size", type=int, help=size)
    parser.add_argument("--only-cifar", action="store_true")
    options = parser.parse_args()
    if not options.only_cifar:
        compare("digits", [options.headstart, "train"], options.first_seed, options.seeds)
    if options.cifar:
        with tempfile.TemporaryDirectory() as folder:
            subset(options.cifar, pathlib.Path(folder), options.train, options.test)
            command = [options.headstart, "train", "--data", folder, "--weights", options.weights]
            size = ["--upsample", "7"]
            if options.image_size:
                size = ["--image-size", str(options.image_size), "--interpolation", "bicubic"]
            command += [*size, "--epochs", "5", "--fine-tune-at", "100", "--fine-tune-epochs", "3"]
            compare("CIFAR-10", command, options.first_seed, options.seeds)


if __name__ == "__main__":
    main()
