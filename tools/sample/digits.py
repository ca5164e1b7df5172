"""Writes crates/headstart/assets/digits.bin.gz: the handwritten digits as scikit-learn ships them.

    pip install scikit-learn
    python tools/sample/digits.py

Unpacked, the file is 1,797 labels of one byte, then 1,797 images of 8 x 8 bytes, row-major, 0 (paper) to
16 (ink), all in scikit-learn's order.
"""

import gzip
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

digits = load_digits()
images, labels = digits.images.astype(np.uint8), digits.target.astype(np.uint8)
assert images.shape == (1797, 8, 8) and images.max() == 16 and (images == digits.images).all()
out = Path(__file__).parents[2] / "crates/headstart/assets/digits.bin.gz"
out.write_bytes(gzip.compress(labels.tobytes() + images.tobytes(), 9, mtime=0))
print(f"{out}: {out.stat().st_size} bytes")
