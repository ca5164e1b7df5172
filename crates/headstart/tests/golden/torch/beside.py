"""Checkpoints that have Python's values beside the weights, as trainers save them.

    python beside.py        # writes beside.tar.gz here; made with PyTorch 2.15

Each file has one tensor, conv1.weight of 2x3x1x1 with the values 0 to 5, and what its name says.
"""

import argparse
import collections
import datetime
import enum
import io
import pathlib
import tarfile
import types

import torch


class Kind(enum.Enum):
    A = 1


class Config:
    def __init__(self):
        self.rate = 0.1


Point = collections.namedtuple("Point", "x y")


class Settings(dict):
    pass


def filled():
    settings = Settings(rate=0.1)
    settings.name = "x"
    return settings


BESIDE = {
    "range": range(3),
    "path": pathlib.PurePosixPath("data/photos"),
    "enum": Kind.A,
    "namedtuple": Point(1, 2),
    "namespace": types.SimpleNamespace(rate=0.1),
    "settings": argparse.Namespace(rate=0.1, out=pathlib.PurePosixPath("runs")),
    "object": Config(),
    "date": datetime.datetime(2026, 1, 1),
    "complex": 1j,
    "none": None,
    "defaultdict": collections.defaultdict(list, {"loss": [1.0, 2.0]}),
    "deque": collections.deque([1, 2, 3], maxlen=5),
    "dict": filled(),
    "counter": collections.Counter("abca"),
    "bytes": b"x",
}

weights = {"conv1.weight": torch.arange(6.0).reshape(2, 3, 1, 1)}
with tarfile.open("beside.tar.gz", "w:gz") as archive:
    files = {name: ({"state_dict": weights, "beside": value}, True) for name, value in BESIDE.items()}
    files["old"] = ({"state_dict": weights, "beside": BESIDE["defaultdict"]}, False)
    files["whole"] = (collections.defaultdict(int, weights), True)
    for name, (value, is_zip) in files.items():
        out = io.BytesIO()
        torch.save(value, out, _use_new_zipfile_serialization=is_zip)
        entry = tarfile.TarInfo(f"{name}.pth")
        entry.size = out.tell()
        out.seek(0)
        archive.addfile(entry, out)
