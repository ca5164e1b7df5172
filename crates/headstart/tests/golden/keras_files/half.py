"""The files of files.tar.gz with their floats in 16 bits, little- and big-endian.

    python half.py          # writes half.tar.gz here; made with h5py 3
"""

import io
import tarfile

import h5py

with tarfile.open("files.tar.gz") as files, tarfile.open("half.tar.gz", "w:gz") as out:
    for name in ["v1.h5", "v1.weights.h5"]:
        for kind in ["<f2", ">f2"]:
            data = io.BytesIO(files.extractfile(files.getmember(name)).read())
            with h5py.File(data, "r+") as file:
                sets = []
                file.visititems(lambda path, item: sets.append(path) if isinstance(item, h5py.Dataset) else None)
                for path in sets:
                    value = file[path][()]
                    if value.dtype.kind == "f":
                        del file[path]
                        file[path] = value.astype(kind)
            entry = tarfile.TarInfo(f"{'little' if kind[0] == '<' else 'big'}-{name}")
            entry.size = len(data.getvalue())
            out.addfile(entry, io.BytesIO(data.getvalue()))
