"""Two sets of pictures that are in Debian, as folders of classes for bench/accuracy.py.

    python bench/clipart.py FOLDER
    python bench/accuracy.py --weights FILE --sets FOLDER/clipart FOLDER/stamps

- clipart: drawings from openclipart-png (public domain), ten uneven classes, about 2,600 images
- stamps: cut-out photos and drawings from tuxpaint-stamps-default, seven uneven classes, about 470

Pictures are laid on white and made smaller than 257 pixels. Needs apt-get, dpkg-deb and pillow.
"""

import pathlib
import subprocess
import sys
import tempfile

from PIL import Image

SETS = {
    "clipart": (
        "openclipart-png",
        "usr/share/openclipart/png",
        "animals buildings food geography office people plants recreation tools transportation",
    ),
    "stamps": (
        "tuxpaint-stamps-default",
        "usr/share/tuxpaint/stamps",
        "animals food household plants seasonal town vehicles",
    ),
}


def white(file):
    picture = Image.open(file).convert("RGBA")
    picture.thumbnail((256, 256))
    paper = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(paper, picture).convert("RGB")


out = pathlib.Path(sys.argv[1]).resolve()
for name, (package, inside, classes) in SETS.items():
    with tempfile.TemporaryDirectory() as work:
        subprocess.run(["apt-get", "download", package], cwd=work, check=True)
        (archive,) = pathlib.Path(work).glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", archive, work], check=True)
        for label in classes.split():
            files = sorted((pathlib.Path(work) / inside / label).rglob("*.png"))
            (out / name / label).mkdir(parents=True, exist_ok=True)
            written = 0
            for file in files:
                try:
                    picture = white(file)
                except (OSError, ValueError, Image.DecompressionBombError):
                    continue
                picture.save(out / name / label / f"{written:04}.png")
                written += 1
            print(name, label, written)
