"""Makes corpus/: small good and bad files for every target, about 200 KB in all.

    python fuzz/corpus.py RUN      # RUN: a run's folder, of: headstart train --data synthetic:3x60x16 --model resnet20
                                   #      --weights cifar10 --epochs 1 --out RUN

Needs torch, Pillow, safetensors and pyarrow. Images, HDF5 and Parquet are those of the tests' golden files.
"""
import io, json, pathlib, shutil, struct, sys, tarfile, zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from safetensors.numpy import save

HERE = pathlib.Path(__file__).parent
GOLDEN = HERE.parent / "crates/headstart/tests/golden"
RUN = pathlib.Path(sys.argv[1])


def put(target, name, data):
    folder = HERE / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())


shutil.rmtree(HERE / "corpus", ignore_errors=True)

# Images: those that Pillow's numbers are kept of.
images = {i["name"].replace(" ", "-").replace(":", ""): bytes.fromhex(i["file"])
          for i in json.loads((GOLDEN / "image/images.json").read_text())["images"]}
for name, data in images.items():
    if not name.startswith("jpeg"):
        put("image", name, data)
        if "orientation" in name or name.split("-")[0] in ("gif", "bmp") and "rgb" in name:
            put("header", name, data)
    elif name in ("jpeg-444", "jpeg-progressive", "jpeg-cmyk", "jpeg-restart", "jpeg-grey"):
        put("jpeg", name, data)
    elif "orientation" in name:
        put("header", name, data) if name.endswith("6") else None
for kind, lines in {"P1": "1 0\n0 1\n", "P2": "255\n1 2\n3 4\n", "P3": "255\n1 2 3 4 5 6\n7 8 9 1 2 3\n"}.items():
    put("image", f"{kind}.ppm", f"{kind}\n# a comment\n2 2\n{lines}")
for kind, rest in {"P4": b"\x80\x40", "P5": b"255\n\x01\x02\x03\x04", "P6": b"255\n" + bytes(range(12))}.items():
    put("image", f"{kind}.ppm", f"{kind}\n2 2\n".encode() + rest)
with tarfile.open(GOLDEN / "jpeg/files.tar.gz") as tar:
    members = [m for m in tar.getmembers() if m.isfile() and m.size < 1200]
    for member in members[::12]:
        put("jpeg", pathlib.Path(member.name).name, tar.extractfile(member).read())
with tarfile.open(GOLDEN / "readers/files.tar.gz") as tar:
    members = [m for m in tar.getmembers() if m.name.endswith((".gif", ".bmp", ".webp")) and m.size < 500]
    for member in members[::9]:
        put("image", member.name, tar.extractfile(member).read())

# Archives.
png = images["png-rgb"]


def archive(mode, files, form=tarfile.GNU_FORMAT):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode, format=form) as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


folder = [(f"x/{c}/{i}.png", png) for c in "ab" for i in range(2)]
put("archive", "folder.tar", archive("w", folder))
put("archive", "folder.tar.gz", archive("w:gz", folder))
put("archive", "long.tar", archive("w", [("y" * 150 + f"/{c}/0.png", png) for c in "ab"]))
put("archive", "pax.tar", archive("w", [("é" * 60 + f"/{c}/0.png", png) for c in "ab"], tarfile.PAX_FORMAT))
put("archive", "shard.tar", archive("w", [f for i in range(3) for f in ((f"{i}.png", png), (f"{i}.cls", b"%d" % (i % 2)))]))

# Tables, lists, words.
put("table", "commas.csv", "path,label,split\na/1.png,a,train\na/2.png,b,test\n\"a,\"\"3.png\",b,val\n")
put("table", "semicolons.csv", "\ufefffile;class;is_valid\na\\1.png;x;True\nb\\2.png;y;False\n")
put("table", "tabs.tsv", "image\tcategory\tfold\n1.png\t0\t1\n2.png\t1\t2\n")
put("table", "utf16.csv", "path,label\nä.png,a\nb.png,b\n".encode("utf-16"))
put("table", "latin.csv", "path,label\nä.png,ö\nb.png,b\n".encode("latin-1"))
for name in ("plain", "snappy", "columns", "zstd"):
    put("parquet", f"{name}.parquet", (GOLDEN / f"manifest/{name}.parquet").read_bytes())
out = pa.BufferOutputStream()
pq.write_table(pa.table({"path": ["images/1.png", "images/2.png", "a", "b"] * 3, "label": ["a", "b", "a", "b"] * 3}), out,
               compression="none")
good = out.getvalue().to_pybytes()
put("parquet", "uncompressed.parquet", good)
# A dictionary of 2^30 values, 32 bytes each once read: the number takes four bytes more, the page as many less.
at = good.index(b"\x4c\x15", 4)
end = good.index(b"\0\0", at) + 2
head = bytearray(good[4:at + 2] + b"\xfe\xff\xff\xff\x07" + good[at + 3:end])
size = head[3] // 2
head[3] = head[5] = 2 * (size - 4)
put("parquet", "dictionary.parquet", good[:4] + bytes(head) + good[end:end + size - 4] + good[end + size:])
names = b"\n".join(b"class%d" % i for i in range(8)).ljust(64, b"\n")
put("cifar", "two", names + (b"\x01" + bytes(3072)) + (b"\x00" + b"\x7f" * 3072))
put("classes", "two.txt", "cat\ndog\n")
put("corrections", "both.csv", "path,class\na/1.ppm,b\nb/2.ppm,\n")
put("corrections", "excel.csv", "\ufeffpath,class\r\n\"a/1.ppm\",\"b\"\r\ngone.ppm,a\r\n")
put("classes", "more.txt", "\ufeffrose\r\nviolet\r\n\r\ncaf\u00e9\r\n")
for i, text in enumerate(["flip,rotate:10,crop:4", "resized-crop:0.5,vflip", "jitter:0.4,0.4,0.4,0.1",
                          "randaugment:2,9", "erase:0.5", "cat=1,dog=2.5", '{"cat": 1, "dog": 2.5}', "synthetic:3x4x8",
                          "shard-{000..003}.tar", "balanced"]):
    put("words", f"{i}.txt", text)

# PyTorch.
torch.manual_seed(0)
state = {"conv1.weight": torch.randn(2, 3, 1, 1), "bn1.weight": torch.ones(2), "bn1.bias": torch.zeros(2),
         "bn1.running_mean": torch.zeros(2), "bn1.running_var": torch.ones(2),
         "bn1.num_batches_tracked": torch.tensor(3), "fc.weight": torch.randn(2, 2).half(), "fc.bias": torch.zeros(2).double()}
for name, value, options in [
    ("state.pth", state, {}),
    ("legacy.pth", state, {"_use_new_zipfile_serialization": False}),
    ("wrapped.pth", {"epoch": 3, "state_dict": {"module." + k: v for k, v in state.items()}, "best": 0.5}, {}),
    ("views.pth", {"a.weight": torch.arange(12.0).view(3, 4).t(), "b.weight": torch.zeros(1).expand(5)}, {}),
    ("bf16.pth", {"a.weight": torch.ones(2, 2, dtype=torch.bfloat16)}, {}),
]:
    out = io.BytesIO()
    torch.save(value, out, **options)
    put("torch", name, out.getvalue())

# HDF5, alone and in Keras's archives.
with tarfile.open(GOLDEN / "hostile/h5.tar.gz") as tar:
    h5 = {pathlib.Path(m.name).name: tar.extractfile(m).read() for m in tar.getmembers() if m.isfile()}
for name in ("compressed.h5", "cycle.h5", "old_names.h5", "old_huge.h5", "unwritten.h5", "soft_cycle.h5"):
    put("hdf5", name, h5[name])
norm = {"class_name": "BatchNormalization", "config": {"name": "bn", "epsilon": 1e-5}}
config = json.dumps({"class_name": "Functional", "config": {"name": "m", "layers": [norm]}})
for name, method in (("stored", zipfile.ZIP_STORED), ("deflated", zipfile.ZIP_DEFLATED)):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as z:
        z.writestr("metadata.json", "{}")
        z.writestr("config.json", config)
        z.writestr("model.weights.h5", h5["old_names.h5" if method else "compressed.h5"])
    put("keras", f"{name}.keras", out.getvalue())

# safetensors, TensorFlow.js, a card.
arrays = {"conv1_conv/kernel": np.ones((1, 1, 3, 2), np.float32), "conv1_conv/bias": np.zeros(2, np.float16),
          "count": np.array([3], np.int64)}
put("safetensors", "layers.safetensors", save(arrays))
put("safetensors", "state.safetensors", save({k: v.float().numpy() for k, v in state.items()}, {"format": "pt"}))
weights = [{"name": "conv/kernel", "shape": [1, 1, 2, 2], "dtype": "float32"},
           {"name": "conv/bias", "shape": [8], "dtype": "float32", "quantization": {"dtype": "uint8", "scale": 0.1, "min": -1}},
           {"name": "bn/gamma", "shape": [20], "dtype": "float32", "quantization": {"dtype": "float16"}}]
topology = {"model_config": json.loads(config)}
put("tfjs", "model.json", json.dumps({"modelTopology": topology, "weightsManifest": [
    {"paths": ["group1-shard1of1.bin"], "weights": weights}]}))
best = (RUN / "weights/best.safetensors").read_bytes()
length = struct.unpack("<Q", best[:8])[0]
card = json.loads(best[8:8 + length])["__metadata__"]["headstart"]
put("card", "trained.json", card)
short = {k: v for k, v in json.loads(card).items() if k not in ("trained", "progress")}
put("card", "short.json", json.dumps(short))
put("safetensors", "model.safetensors", struct.pack("<Q", 0))
header = json.dumps({"__metadata__": {"headstart": json.dumps(short)}}).encode()
put("safetensors", "card.safetensors", struct.pack("<Q", len(header)) + header)

# A run's folder.
put("config", "run.toml", (RUN / "config.toml").read_bytes())
put("config", "short.toml", 'data = "sample"\nmodel = "resnet20"\nepochs = 3\naugment = ["flip"]\n')
put("results", "results.csv", (RUN / "results.csv").read_bytes())
put("results", "more.csv", "epoch,phase,seconds,images_per_second,loss,accuracy,val_loss,val_accuracy,learning_rate\n"
    "1,head,1.5,30,0.7,0.5,,,0.001\n2,fine-tune,1.5,30,0.6,0.6,0.5,0.7,0.0001\n3,fine-tune-2,2,30,0.5,0.7,0.4,0.8,1e-5\n")
put("report", "report.json", (RUN / "report.json").read_bytes())
put("events", "events.jsonl", (RUN / "events.jsonl").read_bytes()[-8000:])
files = [p for p in (HERE / "corpus").rglob("*") if p.is_file()]
print(len(files), "files,", sum(p.stat().st_size for p in files), "bytes")
