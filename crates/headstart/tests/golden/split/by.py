"""Writes by.json beside this file: what scikit-learn's splits by class and by group return.

Run: python by.py   (scikit-learn 1.9.1, numpy 2.4.6 made the numbers checked in)

Classes and groups are not in the file: those of a case are `repeat(arange(len(counts)), counts)` in
the order `RandomState(order).permutation`.
"""

import hashlib
import json
import pathlib
import random
import warnings

import numpy as np
import sklearn
from sklearn.model_selection import (
    GroupKFold,
    GroupShuffleSplit,
    KFold,
    StratifiedGroupKFold,
    StratifiedKFold,
    train_test_split,
)

warnings.simplefilter("ignore")
draw = random.Random(21)


def digest(rows):
    return hashlib.sha256(np.asarray(rows, dtype="<u4").tobytes()).hexdigest()[:16]


def arranged(counts, order):
    values = np.repeat(np.arange(len(counts)), counts)
    return values[np.random.RandomState(order).permutation(len(values))]


def tested(folds, **given):
    """The fold of each row."""
    n = len(given["X"])
    fold = np.full(n, -1)
    for number, (_, test) in enumerate(folds.split(**given)):
        fold[test] = number
    assert (fold >= 0).all()
    return fold


def counts_of(kind, classes):
    return {
        "even": lambda: [draw.randint(4, 12)] * classes,
        "uneven": lambda: [draw.randint(2, 60) for _ in range(classes)],
        "long tail": lambda: [max(2, 300 // (i + 1)) for i in range(classes)],
        "single": lambda: [1] + [draw.randint(2, 9) for _ in range(classes - 1)],
    }[kind]()


def sizes_of(n):
    sizes = []
    while sum(sizes) < n:
        sizes.append(min(draw.choice([1, 1, 2, 3, 5, 8, 20]), n - sum(sizes)))
    return sizes


cases = []


def case(what, run, **given):
    one = {"what": what, **given}
    try:
        one.update(run())
    except ValueError:
        one["error"] = True
    cases.append(one)


def both(train, test):
    return {"train": digest(train), "test": digest(test), "first": [int(i) for i in test[:4]]}


SEEDS = [0, 1, 42, 4_294_967_295]
for classes in [2, 3, 7, 10, 150]:
    for kind in ["even", "uneven", "long tail", "single"]:
        for size in [0.1, 0.2, 1 / 3, 0.5, 0.9]:
            counts, order, seed = counts_of(kind, classes), draw.randint(0, 99), draw.choice(SEEDS)
            y = arranged(counts, order)

            def run():
                rows = np.arange(len(y))
                kept = train_test_split(rows, test_size=size, stratify=y, random_state=seed)
                return both(*kept)

            case("stratify", run, counts=counts, order=order, size=size, seed=seed)

for n in [2, 3, 10, 100, 1000]:
    for size in [0.1, 0.25, 0.5, 0.8]:
        sizes, order, seed = sizes_of(n), draw.randint(0, 99), draw.choice(SEEDS)
        groups = arranged(sizes, order)

        def run():
            split = GroupShuffleSplit(1, test_size=size, random_state=seed)
            return both(*next(split.split(groups, groups=groups)))

        case("group", run, sizes=sizes, order=order, size=size, seed=seed)

for classes in [2, 3, 8, 9, 20, 140]:
    for kind in ["even", "uneven", "long tail"]:
        for folds in [2, 5, 10]:
            counts, order, seed = counts_of(kind, classes), draw.randint(0, 99), draw.choice(SEEDS)
            y = arranged(counts, order)
            n = len(y)
            sizes = sizes_of(n)
            groups = arranged(sizes, order + 1)
            given = {"counts": counts, "order": order, "folds": folds, "seed": seed}
            shuffled = {"n_splits": folds, "shuffle": True, "random_state": seed}

            def of(splitter, **more):
                return lambda: {"fold": digest(tested(splitter(**shuffled), X=y, **more))}

            case("stratified k-fold", of(StratifiedKFold, y=y), **given)
            given["sizes"] = sizes
            case("stratified group k-fold", of(StratifiedGroupKFold, y=y, groups=groups), **given)
            if kind == "uneven":
                case("group k-fold", of(GroupKFold, groups=groups), **given)
                case("k-fold", of(KFold), **given)
            size = 1 / folds
            if len(sizes) < folds or max(counts) < folds:
                continue

            def run():
                split = StratifiedGroupKFold(**shuffled)
                return both(*next(split.split(y, y, groups)))

            case("stratify, group", run, size=size, **given)

# A class of one row, fewer rows than folds, as many folds as groups.
for counts, folds in [([1, 2], 3), ([3, 1], 3), ([2, 2, 2], 2), ([5, 5], 10), ([5, 5], 11)]:
    y = arranged(counts, 0)

    def run():
        splitter = StratifiedKFold(folds, shuffle=True, random_state=1)
        return {"fold": digest(tested(splitter, X=y, y=y))}

    case("stratified k-fold", run, counts=counts, order=0, folds=folds, seed=1)

out = {"sklearn": sklearn.__version__, "numpy": np.__version__, "cases": cases}
lines = ",\n".join(json.dumps(one) for one in cases)
head = json.dumps({k: v for k, v in out.items() if k != "cases"})[:-1]
pathlib.Path(__file__).with_name("by.json").write_text(f'{head}, "cases": [\n{lines}\n]}}\n')
