"""Time from the start of a process to the class of one photo: headstart, Keras and PyTorch.

    pip install tensorflow-cpu torch torchvision pillow
    cargo build --release
    python bench/cold.py --weights resnet50_weights_tf_dim_ordering_tf_kernels.h5 [--rounds 5]

The model file is on disk. All run ResNet-50 with 1000 classes on one JPEG of 1024 x 768. headstart
reads its own model file, Keras the .h5 that it is made from, PyTorch a randomly initialised state
dict. Every program is started again each time, with its files in the page cache. Prints medians.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

KERAS = """
import keras, numpy
from PIL import Image
model = keras.applications.ResNet50(weights={weights!r})
image = numpy.asarray(Image.open({photo!r}).convert("RGB").resize((224, 224)), "float32")[None]
print(model.predict(keras.applications.resnet50.preprocess_input(image), verbose=0).argmax())
"""
TORCH = """
import torch, torchvision
from PIL import Image
model = torchvision.models.resnet50()
model.load_state_dict(torch.load({state!r}))
model.eval()
image = Image.open({photo!r}).convert("RGB").resize((224, 224))
with torch.inference_mode():
    print(model(torchvision.transforms.functional.to_tensor(image)[None]).argmax())
"""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--headstart", default="target/release/headstart")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    from PIL import Image
    import numpy

    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        photo, state, model = work / "photo.jpg", work / "state.pth", work / "model.safetensors"
        coarse = numpy.random.default_rng(1).integers(0, 256, (24, 32, 3)).astype("uint8")
        Image.fromarray(coarse).resize((1024, 768), Image.BICUBIC).save(photo, quality=90)
        make = "import torch, torchvision; net = torchvision.models.resnet50()"
        make += f"; torch.save(net.state_dict(), {str(state)!r})"
        subprocess.run([sys.executable, "-c", make], check=True)
        weights = os.path.abspath(options.weights)
        export = [options.headstart, "export", "resnet50", "--weights", weights]
        export += ["--format", "safetensors", "--out", model]
        subprocess.run(export, check=True, capture_output=True)
        keras = KERAS.format(weights=weights, photo=str(photo))
        torch = TORCH.format(state=str(state), photo=str(photo))
        commands = {
            "headstart": [options.headstart, "predict", model, photo],
            "Keras": [sys.executable, "-c", keras],
            "PyTorch": [sys.executable, "-c", torch],
        }
        seconds = {name: [] for name in commands}
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        for _ in range(options.rounds):
            for name, command in commands.items():
                start = time.perf_counter()
                command = list(map(str, command))
                subprocess.run(command, check=True, capture_output=True, env=environment)
                seconds[name].append(time.perf_counter() - start)
    print("| program | seconds |\n|---|---|")
    for name, values in seconds.items():
        print(f"| {name} | {statistics.median(values):.2f} |")


if __name__ == "__main__":
    main()
