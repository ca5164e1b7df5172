"""Writes split.json beside this file: what scikit-learn's train_test_split returns.

Run: python generate.py   (scikit-learn 1.9.1, numpy 2.4.6 made the numbers checked in)
"""

import hashlib
import json
import pathlib

import numpy as np
import sklearn
from sklearn.model_selection import train_test_split


def digest(rows):
    return hashlib.sha256(np.asarray(rows, dtype="<u4").tobytes()).hexdigest()


cases = []
for n, size, seed in [
    (10, 0.1, 42),
    (7, 0.1, 42),
    (7, 0.5, 0),
    (2062, 0.1, 42),
    (50_000, 0.1, 42),
    (50_000, 0.25, 4_294_967_295),
    (65_537, 1 / 3, 1),
]:
    train, test = train_test_split(range(n), test_size=size, random_state=seed)
    case = {"n": n, "test_size": size, "seed": seed, "n_train": len(train), "n_test": len(test)}
    for name, rows in [("train", train), ("test", test)]:
        case[name] = rows if n <= 10 else None
        case[name + "_first"] = rows[:8]
        case[name + "_last"] = rows[-8:]
        case[name + "_sha256"] = digest(rows)
    cases.append(case)

out = {"sklearn": sklearn.__version__, "numpy": np.__version__, "cases": cases}
pathlib.Path(__file__).with_name("split.json").write_text(json.dumps(out, indent=1) + "\n")
