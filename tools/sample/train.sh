#!/usr/bin/env bash
# Trains the net inside the program: resnet20 on CIFAR-10, randomly initialised, 16 epochs.
#
#     tools/sample/train.sh CIFAR10 [OUT]
#
# CIFAR10 is the binary .tar.gz or any folder or archive with train/CLASS/ and test/CLASS/ in it.
# What comes out does not depend on the number of threads.
set -euo pipefail
data=$1
out=${2:-runs/cifar10-resnet20}
cd "$(dirname "$0")/../.."
cargo build --release
target/release/headstart train --data "$data" --model resnet20 --weights none \
    --epochs 16 --batch-size 128 --optimizer sgd --momentum 0.9 --nesterov --learning-rate 0.1 \
    --schedule cosine --warmup-epochs 1 --weight-decay 5e-3 --decay-of kernels --augment flip,crop:4 \
    --validation-split 0.02 --precision f32 --seed 1 --out "$out"
