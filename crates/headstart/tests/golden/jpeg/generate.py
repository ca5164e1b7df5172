"""Writes files.tar.gz beside this file: small JPEG files of every kind, and what Pillow makes of each.

    pip install numpy pillow
    apt-get install libjpeg-turbo-progs
    python generate.py      (Pillow 13.0.0 with libjpeg-turbo 3.2.0 made the file checked in)

In it are NAME.jpg and pixels.txt, with a line for each: name, width, height and the SHA-256 of the RGB
bytes, turned upright, or name and `refused`. The files are the smaller ones of files.py. drafts.txt has the
same of `Image.draft`, with name and how many times smaller first, and 16 digits of the hash.
"""

import hashlib
import io
import pathlib
import tarfile

import files
import PIL
from PIL import Image, ImageOps, features

HERE = pathlib.Path(__file__).parent
# Files of up to so many bytes; of damaged ones, which are many, fewer.
LARGEST = 1900
DAMAGED = 1500
# These come whatever their size.
ALWAYS = ["cut-", "restart-", "scans-", "progressive-", "cmyk-", "arithmetic-progressive-2x2"]


def pillow(data):
    """Width, height and hash of the pixels, or `refused`."""
    try:
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    except (OSError, SyntaxError):
        return "refused"
    return f"{image.width} {image.height} {hashlib.sha256(image.tobytes()).hexdigest()}"


def draft(data, scale):
    """Width, height and part of the hash of the pixels, decoded `scale` times smaller."""
    image = Image.open(io.BytesIO(data))
    side = min(image.size) // scale
    if side == 0:
        return None
    image.draft(None, (side, side))
    image = ImageOps.exif_transpose(image).convert("RGB")
    return f"{image.width} {image.height} {hashlib.sha256(image.tobytes()).hexdigest()[:16]}"


def drafts(entries, lines):
    """Those of all files that Pillow reads."""
    read = {line.split()[0] for line in lines if not line.endswith("refused")}
    for name, data in entries:
        for scale in (2, 4, 8):
            if name.removesuffix(".jpg") in read and (found := draft(data, scale)):
                yield f"{name.removesuffix('.jpg')} {scale} {found}"


def chosen(name, data):
    if len(data) <= (DAMAGED if name.startswith(("cut", "damaged")) else LARGEST):
        return True
    return len(data) < 3500 and any(name.startswith(start) for start in ALWAYS)


def main():
    turbo = features.version_feature("libjpeg_turbo")
    lines, entries, seen = [f"# Pillow {PIL.__version__}, libjpeg-turbo {turbo}"], [], set()
    for name, data in files.all_files():
        if chosen(name, data) and data not in seen:
            seen.add(data)
            entries.append((f"{name}.jpg", data))
            lines.append(f"{name} {pillow(data)}")
    small = "\n".join(drafts(entries, lines)) + "\n"
    entries.append(("drafts.txt", small.encode()))
    entries.append(("pixels.txt", ("\n".join(lines) + "\n").encode()))
    with tarfile.open(HERE / "files.tar.gz", "w:gz", compresslevel=9) as archive:
        for name, data in entries:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    refused = sum(line.endswith("refused") for line in lines)
    print(f"{len(lines) - 1} files, {refused} refused by Pillow")


if __name__ == "__main__":
    main()
