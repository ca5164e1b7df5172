"""Writes keras.json beside this file: what Keras's optimizers and schedules make of given gradients.

    pip install keras jax
    KERAS_BACKEND=jax python generate.py
"""

import json
import os
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np

STEPS, SHAPE = 6, (3, 4)
rng = np.random.default_rng(5)
weights = {n: rng.normal(0, 1, s).astype("float32") for n, s in [("kernel", SHAPE), ("bias", SHAPE[1:])]}
gradients = [{n: rng.normal(0, 1, w.shape).astype("float32") for n, w in weights.items()} for _ in range(STEPS)]
gradients[2]["kernel"][:] *= 1e-5  # where epsilon counts

optimizers = keras.optimizers
cosine = dict(decay_steps=4, warmup_steps=2, warmup_target=0.1, alpha=0.1)
cases = {
    "adam": lambda: optimizers.Adam(0.01),
    "adam_betas": lambda: optimizers.Adam(0.01, beta_1=0.5, beta_2=0.9),
    "adamw": lambda: optimizers.AdamW(0.01),
    "adamw_kernels": lambda: optimizers.AdamW(0.01, weight_decay=0.3),
    "rmsprop_decay": lambda: optimizers.RMSprop(0.01, weight_decay=0.2),
    "sgd_decay_cosine": lambda: optimizers.SGD(
        optimizers.schedules.CosineDecay(0.0, **cosine), momentum=0.9, nesterov=True, weight_decay=0.2
    ),
}


def run(name):
    optimizer = cases[name]()
    variables = [keras.Variable(w, name=n) for n, w in weights.items()]
    if name.endswith("kernels"):
        optimizer.exclude_from_weight_decay(var_names=["bias"])
    after = []
    for step in gradients:
        optimizer.apply([step[v.name] for v in variables], variables)
        after.append({v.name: flat(v.numpy()) for v in variables})
    return after


def flat(array):
    return [float(x) for x in np.asarray(array).ravel()]


schedules = {
    "warm": dict(initial_learning_rate=0.0, decay_steps=20, warmup_target=0.4, warmup_steps=5),
    "plain": dict(initial_learning_rate=0.4, decay_steps=20),
    "alpha": dict(initial_learning_rate=0.4, decay_steps=20, alpha=0.25),
    "from": dict(initial_learning_rate=0.1, decay_steps=7, alpha=0.1, warmup_target=0.4, warmup_steps=4),
}
result = {
    "keras": keras.__version__,
    "weights": {n: flat(w) for n, w in weights.items()},
    "gradients": [{n: flat(g) for n, g in step.items()} for step in gradients],
    "after": {name: run(name) for name in cases},
    "schedules": {
        name: {
            "settings": settings,
            "rates": [float(optimizers.schedules.CosineDecay(**settings)(step)) for step in range(30)],
        }
        for name, settings in schedules.items()
    },
}
Path(__file__).with_name("keras.json").write_text(json.dumps(result, indent=1) + "\n")
