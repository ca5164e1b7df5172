"""Writes images.json and resize.json beside this file: small images as Pillow encodes, decodes and resizes them.

Run: python generate.py   (Pillow 12.0.0 with libjpeg-turbo, numpy 2.4.6 made the numbers checked in)
Pillow 13 runs the vertical pass first where the height shrinks much more than the width, which
changes single counts there; every Pillow before it runs the horizontal pass first, as headstart does.
"""

import io
import json
import pathlib
import struct
import zlib

import numpy as np
import PIL
from PIL import Image, ImageOps

HERE = pathlib.Path(__file__).parent


def picture(width, height, seed=0):
    """A smooth photo-like picture with an edge and some noise."""
    y, x = np.mgrid[0:height, 0:width] / 32.0
    r = 128 + 100 * np.sin(5 * x + 2 * y)
    g = 128 + 100 * np.cos(4 * y - x)
    b = np.where(x + y > 1.0, 220, 40) + 20 * np.sin(9 * x)
    noise = np.random.RandomState(seed).normal(0, 6, (height, width, 3))
    return np.clip(np.stack([r, g, b], -1) + noise, 0, 255).astype(np.uint8)


def save(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def png(width, height, depth, colour, rows, interlace=0):
    """A PNG written by hand, for the kinds Pillow cannot write."""

    def chunk(tag, data):
        return struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data))

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    body = zlib.compress(b"".join(b"\0" + row for row in rows), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


images = []


def add(name, data, rgb=None):
    if rgb is None:
        rgb = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    height, width, _ = rgb.shape
    images.append(
        {"name": name, "width": width, "height": height, "file": data.hex(), "rgb": rgb.tobytes().hex()}
    )


rgb = Image.fromarray(picture(32, 32))
odd = Image.fromarray(picture(29, 19, 1))
for sub in ["4:4:4", "4:2:2", "4:2:0"]:
    add(f"jpeg {sub}", save(rgb, "JPEG", quality=90, subsampling=sub))
    add(f"jpeg odd {sub}", save(odd, "JPEG", quality=75, subsampling=sub))
add("jpeg progressive", save(rgb, "JPEG", quality=85, progressive=True))
add("jpeg grey", save(rgb.convert("L"), "JPEG", quality=90))
add("jpeg cmyk", save(rgb.convert("CMYK"), "JPEG", quality=95))
# Adobe's YCCK: the same four planes, with the marker's transform byte set to 2.
ycck = bytearray(save(rgb.convert("CMYK"), "JPEG", quality=95))
ycck[ycck.index(b"Adobe") + 11] = 2
add("jpeg ycck", bytes(ycck))
add("jpeg restart", save(rgb, "JPEG", quality=80, restart_marker_blocks=1))

small = picture(9, 7, 2)
alpha = np.arange(63, dtype=np.uint8).reshape(7, 9) * 4
add("png rgb", save(Image.fromarray(small), "PNG"))
add("png rgba", save(Image.fromarray(np.dstack([small, alpha])), "PNG"))
add("png grey", save(Image.fromarray(small[..., 0]), "PNG"))
add("png grey alpha", save(Image.merge("LA", [Image.fromarray(small[..., 0]), Image.fromarray(alpha)]), "PNG"))
add("png palette", save(Image.fromarray(small).quantize(16), "PNG"))
add("png palette transparency", save(Image.fromarray(small).quantize(16), "PNG", transparency=3))
add("png rgb transparency", save(Image.fromarray(small), "PNG", transparency=tuple(int(v) for v in small[0, 0])))
add("png 1 bit", save(Image.fromarray(small[..., 2]).convert("1"), "PNG"))
add("png 2 bit", png(4, 1, 2, 0, [b"\x1b"]))
add("png 4 bit", png(6, 1, 4, 0, [b"\x05\xaf\x73"]))

deep = np.array([0, 255, 256, 511, 0x7FFF, 0x8000, 0xFF80, 0xFFFF], dtype=np.uint16)
row = deep.astype(">u2").tobytes()
# Pillow clips 16-bit grey at 255 on the way to RGB; the high byte is what its RGB;16 path keeps.
add("png grey 16", png(8, 1, 16, 0, [row]), np.repeat((deep >> 8).astype(np.uint8), 3).reshape(1, 8, 3))
add("png rgb 16", png(8, 1, 16, 2, [np.repeat(deep, 3).astype(">u2").tobytes()]))
add("png rgba 16", png(8, 1, 16, 6, [np.stack([deep, deep[::-1], deep, deep], -1).astype(">u2").tobytes()]))
# Adam7: a 2x2 image has passes 1 (pixel 0,0), 6 (pixel 1,0) and 7 (row 1).
quad = np.array([[[1, 2, 3], [4, 5, 6]], [[7, 8, 9], [10, 11, 12]]], dtype=np.uint8)
add("png interlaced", png(2, 2, 8, 2, [quad[0, 0].tobytes(), quad[0, 1].tobytes(), quad[1].tobytes()], 1))

tiny = Image.fromarray(small)
see_through = Image.fromarray(np.dstack([small, alpha]))
for name, image, options in [
    ("lossless", tiny, {"lossless": True}),
    ("lossless alpha", see_through, {"lossless": True, "exact": True}),
    ("lossy", rgb, {"quality": 80}),
    ("lossy odd", odd, {"quality": 60}),
    ("lossy alpha", see_through.resize((17, 13)), {"quality": 75}),
    ("animated", tiny, {"lossless": True, "save_all": True, "append_images": [Image.fromarray(picture(9, 7, 4))]}),
]:
    add(f"webp {name}", save(image, "WEBP", **options))
paletted = tiny.quantize(16)
add("gif palette", save(paletted, "GIF"))
add("gif transparency", save(paletted, "GIF", transparency=3))
add("gif grey", save(tiny.convert("L"), "GIF"))
add("gif interlaced", save(paletted, "GIF", interlace=1))
frames = [Image.fromarray(picture(9, 7, 4)).quantize(16)]
add("gif animated", save(paletted, "GIF", save_all=True, append_images=frames))
add("bmp rgb", save(tiny, "BMP"))
add("bmp rgba", save(see_through, "BMP"))
add("bmp palette", save(paletted, "BMP"))
add("bmp grey", save(tiny.convert("L"), "BMP"))
add("bmp 1 bit", save(tiny.convert("1"), "BMP"))
header = struct.pack("<2sIHHI", b"BM", 14 + 40 + 63 * 4, 0, 0, 54)
down = struct.pack("<IiiHHIIiiII", 40, 9, -7, 1, 32, 0, 0, 0, 0, 0, 0)
add("bmp top down", header + down + np.dstack([small[..., ::-1], alpha]).tobytes())

# A phone's photo: two colours at the top, two at the bottom, turned as its EXIF says.
corners = Image.fromarray(np.repeat(np.repeat(picture(2, 3, 5), 8, 0), 8, 1))
for orientation in range(1, 9):
    exif = Image.Exif()
    exif[0x0112] = orientation
    add(f"jpeg orientation {orientation}", save(corners, "JPEG", quality=95, subsampling=0, exif=exif))
exif = Image.Exif()
exif[0x0112] = 6
add("png orientation 6", save(tiny, "PNG", exif=exif))
add("webp orientation 6", save(tiny, "WEBP", lossless=True, exif=exif))

(HERE / "images.json").write_text(json.dumps({"pillow": PIL.__version__, "images": images}, indent=1) + "\n")

cases = []
source = picture(32, 24, 3)
for width, height in [(64, 48), (10, 7), (45, 11), (224 // 7, 50), (16, 12), (3, 90)]:
    for name in ["nearest", "bilinear", "bicubic"]:
        out = Image.fromarray(source).resize((width, height), Image.Resampling[name.upper()])
        cases.append(
            {"interpolation": name, "width": width, "height": height, "rgb": np.asarray(out).tobytes().hex()}
        )
doc = {"pillow": PIL.__version__, "width": 32, "height": 24, "rgb": source.tobytes().hex(), "cases": cases}
(HERE / "resize.json").write_text(json.dumps(doc, indent=1) + "\n")
