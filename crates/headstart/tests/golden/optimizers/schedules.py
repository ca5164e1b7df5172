"""Writes schedules.json beside this file: step sizes of PyTorch's and Keras's schedules, and where Keras stops early.

    pip install keras torch
    KERAS_BACKEND=torch python schedules.py
"""

import json
import os
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import torch

EPOCHS, STEPS, RATE = 4, 5, 0.1
LOSSES = [1.0, 0.9, 0.95, 0.9, 0.85, 0.8499, 0.86, 0.87, 0.88, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
ACCURACIES = [0.5, 0.6, 0.59, 0.61, 0.61, 0.605, 0.7, 0.69, 0.68, 0.67, 0.66]


def of_torch(make, per_epoch=1):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=RATE)
    schedule, rates = make(optimizer), []
    for step in range(EPOCHS * STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if (step + 1) % per_epoch == 0 and step + 1 < EPOCHS * STEPS:
            schedule.step()
    return rates


def one_cycle(share):
    settings = dict(total_steps=EPOCHS * STEPS, pct_start=share, cycle_momentum=False)
    make = lambda o: torch.optim.lr_scheduler.OneCycleLR(o, RATE, **settings)
    return of_torch(make)


def model():
    net = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    net.compile(keras.optimizers.SGD(RATE), "mse")
    return net


def plateau(**settings):
    callback, net = keras.callbacks.ReduceLROnPlateau("val_loss", verbose=0, **settings), model()
    callback.set_model(net)
    callback.on_train_begin()
    rates = [float(net.optimizer.learning_rate)]
    for epoch, loss in enumerate(LOSSES):
        callback.on_epoch_end(epoch, {"val_loss": loss})
        rates.append(float(net.optimizer.learning_rate))
    return rates


def stops(monitor, values, patience, min_delta):
    """The epoch, from 1, after which training stops, or 0."""
    mode = "min" if monitor.endswith("loss") else "max"
    callback, net = keras.callbacks.EarlyStopping(monitor, min_delta, patience, mode=mode), model()
    callback.set_model(net)
    net.stop_training = False
    callback.on_train_begin()
    for epoch, value in enumerate(values):
        callback.on_epoch_end(epoch, {monitor: value})
        if net.stop_training:
            return epoch + 1
    return 0


step = lambda o: torch.optim.lr_scheduler.StepLR(o, 2, 0.3)
cases = [(p, d) for p in (0, 1, 2, 3, 5) for d in (0.0, 0.001, 0.02)]
result = {
    "keras": keras.__version__,
    "torch": torch.__version__.split("+")[0],
    "losses": LOSSES,
    "accuracies": ACCURACIES,
    "rates": {
        "one_cycle": one_cycle(0.3),
        "one_cycle_half": one_cycle(0.5),
        "step": of_torch(step, STEPS),
        "plateau": plateau(factor=0.1, patience=2),
        "plateau_floor": plateau(factor=0.5, patience=1, min_delta=0.1, min_lr=0.04),
    },
    "stops": [
        {
            "patience": p,
            "min_delta": d,
            "loss": stops("val_loss", LOSSES, p, d),
            "accuracy": stops("val_accuracy", ACCURACIES, p, d),
        }
        for p, d in cases
    ],
}
assert np.isfinite(result["rates"]["plateau"]).all()
Path(__file__).with_name("schedules.json").write_text(json.dumps(result, indent=1) + "\n")
