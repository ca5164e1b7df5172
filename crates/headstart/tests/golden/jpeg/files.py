"""Makes JPEG files of every kind, to compare decoders on.

    python files.py FOLDER

Pillow writes some, libjpeg-turbo's cjpeg (package libjpeg-turbo-progs) those that Pillow cannot write.
The rest are changes of these: markers, damage, missing ends. The same files each time.
"""

import io
import pathlib
import random
import subprocess
import sys
import tempfile

import numpy as np
from PIL import Image, ImageCms

SAMPLINGS = [
    "1x1", "2x1", "1x2", "2x2", "4x1", "1x4", "4x2", "2x4", "3x1", "1x3", "3x2", "2x3",
    "2x2,2x1,2x1", "2x2,1x2,1x2", "2x1,1x1,2x1", "2x2,1x1,2x1", "4x1,2x1,1x1", "1x1,2x1,2x1",
    "1x1,1x2,1x2", "2x2,2x2,1x1", "1x1,2x2,2x2", "3x1,2x1,1x1",
]  # fmt: skip
MODES = {
    "baseline": ["-baseline"],
    "optimised": ["-optimize"],
    "progressive": ["-progressive"],
    "restart": ["-restart", "3B"],
    "progressive-restart": ["-progressive", "-restart", "1"],
}
SIZES = [(1, 1), (2, 1), (1, 2), (3, 5), (7, 8), (8, 8), (9, 9), (15, 17), (16, 16), (17, 15), (31, 33), (64, 1), (1, 64)]
SIZES += [(100, 75), (127, 129), (255, 191), (333, 217)]
# Scan scripts of cjpeg, complete and not.
SCRIPTS = {
    "dc-only": "0,1,2: 0-0, 0, 0;",
    "dc-high-bits": "0,1,2: 0-0, 0, 1;",
    "dc-and-low": "0,1,2: 0-0, 0, 0; 0: 1-5, 0, 0; 1: 1-5, 0, 0; 2: 1-5, 0, 0;",
    "unrefined": "0,1,2: 0-0, 0, 1; 0: 1-63, 0, 2; 1: 1-63, 0, 2; 2: 1-63, 0, 2; 0,1,2: 0-0, 1, 0;",
    "refined": "0,1,2: 0-0, 0, 2; 0: 1-63, 0, 2; 0: 1-63, 2, 1; 0: 1-63, 1, 0; 2: 1-20, 0, 0; 2: 21-63, 0, 0;"
    " 1: 1-63, 0, 1; 1: 1-63, 1, 0; 0,1,2: 0-0, 2, 1; 0,1,2: 0-0, 1, 0;",
}


def picture(width, height, seed=0):
    """A smooth picture with edges, saturated colours and noise."""
    y, x = np.mgrid[0:height, 0:width] / 32.0
    r = 128 + 140 * np.sin(5 * x + 2 * y + seed)
    g = 128 + 120 * np.cos(4 * y - x)
    b = np.where(np.sin(x * 2 + seed) + y % 2 > 1.0, 245, 10) + 20 * np.sin(9 * x)
    noise = np.random.RandomState(seed).normal(0, 6, (height, width, 3))
    return Image.fromarray(np.clip(np.stack([r, g, b], -1) + noise, 0, 255).astype(np.uint8))


def pillow(image, **options):
    out = io.BytesIO()
    image.save(out, "JPEG", **options)
    return out.getvalue()


def cjpeg(image, *options):
    source = io.BytesIO()
    image.save(source, "PPM")
    return subprocess.run(["cjpeg", *options], input=source.getvalue(), stdout=subprocess.PIPE, check=True).stdout


def segment(marker, body):
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body


def without(data, markers):
    """The file without header segments of these markers."""
    out, at = bytearray(data[:2]), 2
    while data[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] not in markers:
            out += data[at:end]
        at = end
    return bytes(out) + data[at:]


def behind_start(data, *segments):
    return data[:2] + b"".join(segments) + data[2:]


def adobe(transform):
    return segment(0xEE, b"Adobe\0\x64\0\0\0\0" + bytes([transform]))


def frame(data):
    """Where the frame header stands."""
    return next(i for i in range(len(data)) if data[i] == 0xFF and data[i + 1] in (0xC0, 0xC1, 0xC2, 0xC9, 0xCA))


def named(data, ids):
    """The file with other names of its components."""
    data = bytearray(data)
    start = frame(data)
    old = [data[start + 10 + 3 * i] for i in range(len(ids))]
    for i, name in enumerate(ids):
        data[start + 10 + 3 * i] = name
    at = data.index(b"\xff\xda")
    while at >= 0:
        for i in range(data[at + 4]):
            data[at + 5 + 2 * i] = ids[old.index(data[at + 5 + 2 * i])]
        at = data.find(b"\xff\xda", at + 2)
    return bytes(data)


def scans(data):
    """Where each scan's header stands."""
    return [i for i in range(len(data) - 1) if data[i] == 0xFF and data[i + 1] == 0xDA]


def sampled():
    for number, sampling in enumerate(SAMPLINGS):
        for turn, (mode, options) in enumerate(MODES.items()):
            size = SIZES[(5 * number + 3 * turn) % len(SIZES)]
            quality = [95, 75, 50, 25, 90][(number + turn) % 5]
            image = picture(*size, seed=number)
            try:
                data = cjpeg(image, "-quality", str(quality), "-sample", sampling, *options)
            except subprocess.CalledProcessError:
                continue  # cjpeg has no such file: too many blocks in an interleaved scan
            yield f"sampling-{sampling.replace(',', '_')}-{mode}-{size[0]}x{size[1]}-q{quality}", data


def sized():
    for number, (width, height) in enumerate(SIZES):
        for sampling in ["1x1", "2x1", "1x2", "2x2"]:
            mode = list(MODES)[number % len(MODES)]
            data = cjpeg(picture(width, height, number), "-quality", "85", "-sample", sampling, *MODES[mode])
            yield f"size-{width}x{height}-{sampling}-{mode}", data


def qualities():
    for quality in [1, 2, 5, 10, 20, 30, 40, 60, 70, 80, 90, 92, 94, 96, 98, 99, 100]:
        for subsampling in ["4:4:4", "4:2:2", "4:2:0"]:
            data = pillow(picture(61, 43, quality), quality=quality, subsampling=subsampling)
            yield f"quality-{quality}-{subsampling.replace(':', '')}", data


def coded():
    image = picture(77, 58, 3)
    path = pathlib.Path(tempfile.gettempdir()) / "headstart-scan-script"
    for sampling in ["1x1", "2x2", "2x1"]:
        yield f"arithmetic-{sampling}", cjpeg(image, "-arithmetic", "-sample", sampling)
        yield f"arithmetic-progressive-{sampling}", cjpeg(image, "-arithmetic", "-progressive", "-sample", sampling)
        for name, script in SCRIPTS.items():
            path.write_text(script)
            yield f"scans-{name}-{sampling}", cjpeg(image, "-sample", sampling, "-scans", str(path))
        path.write_text("0; 1; 2;")
        apart = cjpeg(image, "-sample", sampling, "-scans", str(path))
        yield f"scans-not-interleaved-{sampling}", apart
        yield f"scans-luma-only-{sampling}", apart[: scans(apart)[1]] + b"\xff\xd9"
        path.write_text("0,2; 1;")
        yield f"scans-two-and-one-{sampling}", cjpeg(image, "-sample", sampling, "-scans", str(path))
    for interval in ["1B", "2B", "7B", "1", "2"]:
        yield f"restart-{interval}", cjpeg(image, "-restart", interval)
    for dct in ["fast", "float"]:
        yield f"dct-{dct}", cjpeg(image, "-dct", dct)
    yield "smoothed", cjpeg(image, "-smooth", "30")
    for value in [0, 1, 77, 254, 255]:
        yield f"flat-{value}", pillow(Image.new("RGB", (40, 24), (value, 255 - value, value // 2)))
    noise = Image.fromarray(np.random.RandomState(1).randint(0, 256, (90, 70, 3), np.uint8))
    for sampling in ["1x1", "2x2", "2x1", "1x2"]:
        yield f"noise-{sampling}", cjpeg(noise, "-quality", "100", "-sample", sampling)
        yield f"noise-coarse-{sampling}", cjpeg(noise, "-quality", "3", "-sample", sampling)


def coloured():
    image = picture(45, 37, 4)
    grey, cmyk = image.convert("L"), image.convert("CMYK")
    for size in [(1, 1), (45, 37), (16, 9)]:
        small = grey.resize(size)
        yield f"grey-{size[0]}x{size[1]}", pillow(small, quality=88)
        yield f"grey-progressive-{size[0]}x{size[1]}", pillow(small, quality=88, progressive=True)
        yield f"grey-sampled-{size[0]}x{size[1]}", cjpeg(small, "-sample", "2x2")
    yield "grey-restart", pillow(grey, restart_marker_blocks=2)
    for quality in [30, 75, 95]:
        yield f"cmyk-q{quality}", pillow(cmyk, quality=quality)
        yield f"cmyk-progressive-q{quality}", pillow(cmyk, quality=quality, progressive=True)
    inks = pillow(cmyk, quality=90)
    bare = without(inks, [0xEE])
    yield "cmyk-no-adobe", bare
    for transform in [0, 1, 2, 3]:
        yield f"cmyk-adobe-{transform}", behind_start(bare, adobe(transform))
    yield "cmyk-numbered", named(behind_start(bare, adobe(2)), [1, 2, 3, 4])
    plain = pillow(image, quality=90, subsampling="4:4:4")
    nothing = without(plain, [0xE0])
    yield "rgb-kept", pillow(image, quality=90, keep_rgb=True)
    yield "rgb-cjpeg", cjpeg(image, "-rgb")
    yield "rgb-progressive", cjpeg(image, "-rgb", "-progressive")
    yield "no-markers", nothing
    for transform in [0, 1, 2, 255]:
        yield f"adobe-{transform}", behind_start(nothing, adobe(transform))
        yield f"jfif-adobe-{transform}", behind_start(plain, adobe(transform))
    for name, ids in [("rgb", b"RGB"), ("small-rgb", b"rgb"), ("zero", b"\0\1\2"), ("odd", b"\5\6\7"), ("ycc", b"YCc")]:
        yield f"ids-{name}", named(nothing, ids)
        yield f"ids-{name}-jfif", named(plain, ids)
        yield f"ids-{name}-adobe-1", named(behind_start(nothing, adobe(1)), ids)
        yield f"ids-{name}-adobe-0", named(behind_start(nothing, adobe(0)), ids)
    yield "adobe-short", behind_start(nothing, segment(0xEE, b"Adobe\0\x64\0\0"))
    yield "adobe-other", behind_start(nothing, segment(0xEE, b"Other\0\x64\0\0\0\0\0"))


def marked():
    image = picture(52, 39, 5)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        yield f"exif-{orientation}", pillow(image, quality=80, exif=exif)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    plain = pillow(image, quality=80)
    yield "icc", pillow(image, quality=80, icc_profile=profile)
    yield "icc-long", pillow(image, quality=80, icc_profile=profile * 300)
    yield "comment", pillow(image, quality=80, comment=b"a comment \xff\xd8 \xff\xda with markers")
    yield "dpi", pillow(image, quality=80, dpi=(300, 200))
    yield "apps", behind_start(plain, *(segment(0xE0 | i, b"x" * (1000 * i)) for i in range(1, 14)))
    yield "fill-bytes", plain.replace(b"\xff\xdb", b"\xff\xff\xff\xff\xdb").replace(b"\xff\xda", b"\xff\xff\xda")
    yield "junk-between", plain.replace(b"\xff\xc4", b"junk\xff\xc4", 1)
    yield "behind-the-end", plain + b"\0" * 500 + plain
    yield "twice", plain[:-2] + plain
    yield "optimised", pillow(image, optimize=True)
    yield "no-huffman-tables", without(pillow(image, quality=80), [0xC4])
    yield "no-quantisation", without(plain, [0xDB])
    yield "lower-restart", behind_start(plain, segment(0xDD, b"\0\0"))
    start = frame(plain)
    yield "height-0", plain[: start + 5] + b"\0\0" + plain[start + 7 :]
    yield "twelve-bits", plain[: start + 4] + b"\x0c" + plain[start + 5 :]
    yield "extended", plain[: start + 1] + b"\xc1" + plain[start + 2 :]
    yield "lossless", plain[: start + 1] + b"\xc3" + plain[start + 2 :]
    taller = int.from_bytes(plain[start + 5 : start + 7], "big") + 40
    yield "taller-than-its-data", plain[: start + 5] + taller.to_bytes(2, "big") + plain[start + 7 :]
    yield "shorter-than-its-data", plain[: start + 5] + (17).to_bytes(2, "big") + plain[start + 7 :]
    progressive = pillow(image, progressive=True)
    for count, at in enumerate(scans(progressive)[1:], 1):
        yield f"progressive-{count}-scans", progressive[:at] + b"\xff\xd9"
    first, second = scans(progressive)[1:3]
    yield "progressive-scan-twice", progressive[:second] + progressive[first:]
    yield "progressive-many-scans", progressive[:first] + progressive[first:second] * 400 + progressive[second:]


def damaged():
    image = picture(90, 70, 6)
    files = {
        "baseline": pillow(image, quality=80),
        "restart": pillow(image, quality=80, restart_marker_blocks=2),
        "progressive": pillow(image, quality=80, progressive=True),
        "grey": pillow(image.convert("L"), quality=80),
        "odd": cjpeg(image, "-sample", "4x1", "-quality", "60"),
    }
    for name, data in files.items():
        yield f"cut-{name}-no-end", data[:-2]
        yield f"cut-{name}-half-an-end", data[:-1]
        for part in [0.2, 0.5, 0.8, 0.97]:
            yield f"cut-{name}-{part}", data[: int(len(data) * part)]
            yield f"cut-{name}-{part}-ended", data[: int(len(data) * part)] + b"\xff\xd9"
        yield f"cut-{name}-7-bytes-ended", data[:-9] + b"\xff\xd9"
        start = scans(data)[0] + 14
        draw = random.Random(name)
        for turn in range(12):
            bad = bytearray(data)
            for _ in range(1 + turn % 4):
                bad[draw.randrange(start if turn < 9 else 20, len(bad) - 2)] = draw.randrange(256)
            yield f"damaged-{name}-{turn}", bytes(bad)
        bad = bytearray(data)
        bad[start + 100 : start + 160] = b"\0" * 60
        yield f"damaged-{name}-zeros", bytes(bad)
        yield f"damaged-{name}-missing", data[: start + 200] + data[start + 260 :]
        yield f"damaged-{name}-more", data[: start + 200] + data[start + 150 :]
    data = files["restart"]
    marks = [i for i in range(len(data) - 1) if data[i] == 0xFF and 0xD0 <= data[i + 1] <= 0xD7]
    yield "restart-missing", data[: marks[2]] + data[marks[2] + 2 :]
    yield "restart-part-missing", data[: marks[2]] + data[marks[3] :]
    yield "restart-parts-missing", data[: marks[2]] + data[marks[7] :]
    yield "restart-twice", data[: marks[3]] + data[marks[2] :]
    yield "restart-wrong", data[: marks[2] + 1] + b"\xd6" + data[marks[2] + 2 :]


def all_files():
    """Name and bytes of each, the same every time."""
    for kind in [sampled, sized, qualities, coded, coloured, marked, damaged]:
        yield from kind()


if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in all_files():
        (folder / f"{name}.jpg").write_bytes(data)
