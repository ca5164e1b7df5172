"""Rounds a model file to half precision and leaves out what only resuming needs.

    pip install numpy safetensors
    python tools/sample/trunk.py RUN/weights/last.safetensors crates/headstart/assets/resnet20-cifar10.safetensors
"""

import json
import sys

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

source, target = sys.argv[1:]
with safe_open(source, "numpy") as file:
    card = json.loads(file.metadata()["headstart"])
    tensors = {name: file.get_tensor(name) for name in file.keys() if not name.startswith("optimizer/")}
card.pop("progress", None)
rounded = {name: tensor.astype(np.float16) for name, tensor in tensors.items()}
for name, tensor in tensors.items():
    assert np.isfinite(rounded[name]).all(), f"{name} does not fit"
save_file(rounded, target, {"headstart": json.dumps(card, separators=(",", ":"))})
change = max(np.abs(rounded[n].astype(np.float32) - t).max() / np.abs(t).max() for n, t in tensors.items())
print(f"{target}: {sum(t.size for t in tensors.values())} numbers, changed by at most {change:.1e} of a tensor's largest")
