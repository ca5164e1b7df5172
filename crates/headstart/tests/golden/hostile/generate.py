"""Writes h5.tar.gz beside this file: HDF5 files that lie about what they hold.

    pip install h5py
    python generate.py
"""

import os
import tarfile
import tempfile

import h5py
import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
os.chdir(tempfile.mkdtemp())


def weights(path):
    """A Keras 3 file of one convolution."""
    file = h5py.File(path, "w")
    file.create_group("layers/conv2d/vars")["0"] = np.zeros((1, 1, 1, 1), "float32")
    return file


with weights("cycle.h5") as f:  # a model that is its own layer
    f["layers/functional/layers"] = f["layers"]
with weights("wide_cycle.h5") as f:  # and many times, so that depth alone does not end it
    for i in range(12):
        f[f"layers/functional_{i}/layers"] = f["layers"]
with h5py.File("soft_cycle.h5", "w") as f:
    f["layers"] = h5py.SoftLink("/other")
    f["other"] = h5py.SoftLink("/layers")
with weights("external.h5") as f:
    f["layers/conv2d_1/vars/0"] = h5py.ExternalLink("/etc/hostname", "/x")
with weights("chunked.h5") as f:  # 4 TB that were never written
    f["layers/conv2d_1/vars"] = f.create_group("v")
    f["v"].create_dataset("0", (1 << 40,), "float32", chunks=(1 << 20,))
with weights("unwritten.h5") as f:  # as little, within what a whole file of chunks could be inflated to
    f.create_group("layers/conv2d_1/vars").create_dataset("0", (1 << 21,), "float32", chunks=(1 << 10,))
with weights("swollen.h5") as f:  # zeros, a thousandth of their size
    data = np.zeros((1 << 24,), "float32")
    f.create_group("layers/conv2d_1/vars").create_dataset("0", data=data, chunks=(1 << 20,), compression=9)
with weights("large_chunk.h5") as f:  # one number in a chunk of 64 MiB
    one = np.zeros((1,), "float32")
    group = f.create_group("layers/conv2d_1/vars")
    group.create_dataset("0", data=one, maxshape=(None,), chunks=(1 << 24,), compression=9)
with weights("small_chunks.h5") as f:  # as many chunks as numbers, none of them there
    f.create_group("layers/conv2d_1/vars").create_dataset("0", (1 << 40,), "float32", chunks=(1,))
with weights("compressed.h5") as f:  # nothing wrong with it
    data = np.arange(1000, dtype="float32")
    f.create_group("layers/conv2d_1/vars").create_dataset("0", data=data, chunks=(300,), compression=9)
with weights("contiguous.h5") as f:
    f.create_group("layers/conv2d_1/vars").create_dataset("0", (1 << 33,), "float32")
with weights("same.h5") as f:  # one data set under many names: more bytes than the file has
    data = f.create_dataset("d", data=np.zeros((1 << 14,), "float32"))
    group = f.create_group("layers/conv2d_1/vars")
    for i in range(1000):
        group[str(i)] = data
with weights("text.h5") as f:
    f.create_group("layers/conv2d_1/vars")["0"] = "not a number"
with h5py.File("old_names.h5", "w") as f:  # the legacy layout, with a layer that is not there
    f.attrs["layer_names"] = ["conv1", "gone"]
    f.create_group("conv1").attrs["weight_names"] = ["../../x", "/conv1", "a/b/kernel:0"]
with h5py.File("old_huge.h5", "w") as f:
    f.attrs["layer_names"] = ["conv1"]
    f.create_group("conv1").attrs["weight_names"] = ["kernel:0"]
    f["conv1"].create_dataset("kernel:0", (1 << 40,), "float32", chunks=(1 << 20,))
with h5py.File("old_cycle.h5", "w") as f:
    f.attrs["layer_names"] = ["conv1"] * 20
    f.create_group("conv1").attrs["weight_names"] = ["conv1/conv1/kernel:0"] * 1500
    f["conv1/conv1"] = f["conv1"]
    f["conv1"]["kernel:0"] = np.zeros((64,), "float32")

path = os.path.join(HERE, "h5.tar.gz")
with tarfile.open(path, "w:gz") as archive:
    for name in sorted(os.listdir(".")):
        archive.add(name)
print(sorted(os.listdir(".")), os.path.getsize(path), "bytes")
