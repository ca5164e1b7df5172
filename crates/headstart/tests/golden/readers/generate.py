"""Writes files.tar.gz beside this file: small GIF, BMP, WebP and TIFF files that readers take in different ways, and what
Pillow makes of each: pictures beside and beyond the screen, damaged and missing ends, 16 bits, runs, JPEG with alpha in TIFF.

    pip install numpy pillow
    python generate.py      (Pillow 13.0.0 and numpy made the file)

In it are the files and pixels.txt, with a line for each: name, width, height and the SHA-256 of the RGB bytes, turned
upright, or name and `refused`.
"""

import hashlib
import io
import pathlib
import struct
import tarfile
import warnings

import numpy as np
import PIL
from PIL import Image, ImageOps

HERE = pathlib.Path(__file__).parent
warnings.simplefilter("ignore")
draw = np.random.RandomState(36)


def noise(*shape):
    return draw.randint(0, 256, shape).astype(np.uint8)


def smooth(width, height):
    small = Image.fromarray(noise(max(height // 4, 1), max(width // 4, 1), 3))
    return small.resize((width, height), Image.BICUBIC)


def save(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


PALETTE = bytes([10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120])
RAMP = bytes([0, 0, 0, 1, 1, 1])


def lzw(codes, width):
    """Codes with the bits of each, after the width of the least one, in one block."""
    value, at = 0, 0
    for code, bits in codes:
        value, at = value | code << at, at + bits
    data = value.to_bytes((at + 7) // 8, "little")
    return bytes([width, len(data)]) + data + b"\0"


# 4 x 3 pixels: the numbers 0, 1, 2, 3 in each row.
CODES = bytes.fromhex("080c00010410304020418303020200")


def frame(data=CODES, w=4, h=3, x=0, y=0, flags=0, palette=b""):
    return b"," + struct.pack("<HHHHB", x, y, w, h, flags) + palette + data


def gif(w, h, flags, background, palette, *rest, end=b";"):
    return b"GIF89a" + struct.pack("<HHBBB", w, h, flags, background, 0) + palette + b"".join(rest) + end


def control(clear, flags=1):
    return b"!\xf9\4" + bytes([flags, 0, 0, clear, 0])


def gifs():
    yield "plain", gif(4, 3, 0x81, 0, PALETTE, frame())
    yield "screen-larger", gif(6, 5, 0x81, 2, PALETTE, frame())
    yield "screen-larger-placed", gif(9, 8, 0x81, 2, PALETTE, frame(x=3, y=2))
    yield "screen-larger-transparent", gif(6, 5, 0x81, 2, PALETTE, control(3), frame())
    yield "screen-larger-transparent-beyond", gif(6, 5, 0x81, 2, PALETTE, control(9), frame())
    yield "screen-larger-twice-transparent", gif(6, 5, 0x81, 2, PALETTE, control(3), control(2, 0), frame())
    yield "screen-larger-comment", gif(6, 5, 0x81, 2, PALETTE, control(1), b"!\xfe\3abc\4defg\0", frame())
    yield "screen-larger-grey", gif(6, 5, 0, 3, b"", frame())
    yield "screen-smaller", gif(2, 2, 0x81, 0, PALETTE, frame())
    yield "screen-smaller-placed", gif(5, 2, 0x81, 0, PALETTE, frame(x=1, y=1))
    yield "screen-beside", gif(2, 2, 0x81, 0, PALETTE, frame(x=7, y=5))
    yield "screen-none", gif(0, 0, 0x81, 0, PALETTE, frame())
    yield "screen-no-width", gif(0, 9, 0x81, 0, PALETTE, frame())
    yield "palette-none", gif(4, 3, 0, 0, b"", frame())
    yield "palette-short", gif(4, 3, 0x80, 0, PALETTE[:6], frame())
    yield "palette-ramp", gif(4, 3, 0x80, 0, RAMP, frame())
    yield "palette-local", gif(4, 3, 0x81, 0, PALETTE, frame(flags=0x81, palette=PALETTE[::-1]))
    yield "palette-local-only", gif(4, 3, 0, 0, b"", frame(flags=0x81, palette=PALETTE))
    yield "palette-local-ramp", gif(4, 3, 0x81, 0, PALETTE, frame(flags=0x80, palette=RAMP))
    yield "palette-cut", gif(4, 3, 0x81, 0, PALETTE[:5], end=b"")
    yield "frame-no-width", gif(4, 3, 0x81, 0, PALETTE, frame(w=0))
    yield "frame-none", gif(4, 3, 0x81, 0, PALETTE)
    yield "frame-after-others", gif(4, 3, 0x81, 0, PALETTE, b"xyz", frame())
    yield "frame-after-short-control", gif(4, 3, 0x81, 0, PALETTE, b"!\xf9\1\1\0", frame())
    for width in [0, 1, 2, 7, 8, 9, 11, 12, 200]:
        yield f"width-{width}", gif(4, 3, 0x81, 0, PALETTE, frame(bytes([width]) + CODES[1:]))
    rows = {
        "no-clear": lzw([(1, 3), (2, 3), (3, 3), (0, 3), (5, 4)], 2),
        "early-end": lzw([(4, 3), (1, 3), (2, 3), (5, 3)], 2),
        "no-end": lzw([(4, 3), (1, 3), (2, 3), (3, 3), (0, 3)], 2),
        "too-many": lzw([(4, 3), (1, 3), (2, 3), (3, 3), (0, 3), (1, 4), (1, 4), (5, 4)], 2),
        "bad": lzw([(4, 3), (1, 3), (7, 3), (3, 3), (0, 3)], 2),
        "bad-behind": lzw([(4, 3), (1, 3), (2, 3), (3, 3), (0, 3), (15, 4), (15, 4)], 2),
        "itself": lzw([(4, 3), (1, 3), (6, 3), (2, 3), (5, 4)], 2),
        "clear-twice": lzw([(4, 3), (4, 3), (1, 3), (4, 3), (2, 3), (3, 3), (3, 3), (5, 4)], 2),
        "bad-first": lzw([(4, 3), (6, 3), (1, 3), (2, 3), (3, 3), (3, 3), (5, 4)], 2),
        "bits": lzw([(2, 2), (1, 2), (0, 2), (1, 3), (0, 3), (3, 3)], 1),
        "beyond-palette": lzw([(256, 9), (200, 9), (3, 9), (4, 9), (255, 9), (257, 9)], 8),
    }
    for name, data in rows.items():
        yield f"codes-{name}", gif(4, 1, 0x81, 0, PALETTE, frame(data, 4, 1))
    yield "beyond-palette-around", gif(6, 2, 0x81, 0, PALETTE, control(200), frame(rows["beyond-palette"], 4, 1))
    image = smooth(37, 29)
    for colours in [2, 4, 16, 200, 256]:
        for interlace in [0, 1]:
            yield f"colours-{colours}-{interlace}", save(image.quantize(colours), "GIF", interlace=interlace)
        yield f"colours-{colours}-transparent", save(image.quantize(colours), "GIF", transparency=1)
    yield "noise", save(Image.fromarray(noise(90, 110, 3)).quantize(256), "GIF")
    for height in [1, 2, 3, 4, 5, 8, 9]:
        yield f"interlaced-{height}", save(smooth(5, height).quantize(8), "GIF", interlace=1)
    whole = save(image.quantize(16), "GIF", interlace=0)
    for cut in [1, 2, 3, 4, 5, 20, 100]:
        yield f"cut-{cut}", whole[:-cut]
    frames = [smooth(20, 20).quantize(16) for _ in range(3)]
    for disposal in [0, 1, 2, 3]:
        yield f"animation-{disposal}", save(frames[0], "GIF", save_all=True, append_images=frames[1:], disposal=disposal)


def bmp(width, height, bits, compression, data, palette=b"", size=40, masks=b"", used=0):
    head = struct.pack("<IiiHHIIiiII", size, width, height, 1, bits, compression, len(data), 2835, 2835, used, 0)
    head = (head + masks).ljust(size, b"\0") if size > 40 else head + masks
    place = 14 + len(head) + len(palette)
    return b"BM" + struct.pack("<IHHI", place + len(data), 0, 0, place) + head + palette + data


def bmps():
    colours = noise(1024).tobytes()
    # Each value of each colour, and others.
    value = np.arange(64)
    ramps = [value << 10 & 0xFFFF, value << 5, value & 31, value << 11 & 0xFFFF]
    every = np.concatenate([*ramps, draw.randint(0, 65536, 256)]).astype("<u2").tobytes()
    for name, masks in {"565": (0xF800, 0x7E0, 0x1F), "555": (0x7C00, 0x3E0, 0x1F)}.items():
        packed = struct.pack("<IIII", *masks, 0)
        yield f"16-{name}", bmp(16, 32, 16, 3, every, masks=packed[:12])
        for size in [52, 56, 108, 124]:
            yield f"16-{name}-{size}", bmp(16, -32, 16, 3, every, size=size, masks=packed)
    yield "16", bmp(16, 32, 16, 0, every)
    for width, height in [(1, 1), (5, -3), (13, 7)]:
        for bits in [1, 4, 8, 16, 24, 32]:
            row = (width * bits + 31) // 32 * 4
            palette = colours[: 4 << bits] if bits <= 8 else b""
            yield f"{bits}-{width}x{height}", bmp(width, height, bits, 0, noise(row * abs(height)).tobytes(), palette)
    runs = {
        "whole": b"\5\1\0\0\3\2\2\4\0\0\5\3\0\1",
        "no-line-ends": b"\5\1\3\2\2\4\5\3\0\1",
        "short-rows": b"\3\1\0\0\3\2\0\0\2\3\0\0\0\1",
        "short": b"\5\1\0\0\3\2\2\4\0\0\0\1",
        "plain-pixels": b"\0\5\1\2\3\4\5\0\0\0\5\2\0\0\5\3\0\1",
        "plain-short": b"\0\5\1\2\3\4\5\0\0\0\0\1",
        "moves": b"\2\1\0\2\1\1\2\3\0\2\0\1\1\3\0\1",
        "moves-to-the-end": b"\0\2\0\3\0\1",
        "moves-short": b"\2\1\0\2\1\1\2\3\0\1",
        "early-end": b"\5\1\0\1",
        "no-end": b"\5\1\0\0",
        "no-end-but-whole": b"\5\1\0\0\5\2\0\0\5\3",
        "nothing": b"",
    }
    for name, data in runs.items():
        yield f"runs-8-{name}", bmp(5, 3, 8, 1, data, colours)
        if not name.startswith("plain"):
            yield f"runs-4-{name}", bmp(5, 3, 4, 2, data, colours[:64])
    yield "runs-4-plain-pixels", bmp(5, 3, 4, 2, b"\0\5\x12\x34\x50\0\0\0\5\x22\0\0\5\x13\0\1", colours[:64])


def webps():
    image = smooth(37, 29)
    whole = save(image, "WEBP", lossless=True)
    alpha = Image.merge("RGBA", [*image.split(), Image.fromarray(noise(29, 37))])
    frames = [smooth(20, 20) for _ in range(3)]
    several = save(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    extended = save(alpha, "WEBP", lossless=True, exif=b"Exif\0\0II*\0\10\0\0\0\0\0\0\0\0\0")
    for name, data in {"": whole, "-alpha": save(alpha, "WEBP", lossless=True), "-extended": extended}.items():
        yield f"plain{name}", data
        yield f"trailing{name}", data + b"some more"
        for cut in [1, 2, 3, 30]:
            yield f"cut-{cut}{name}", data[:-cut]
    for name, size in {"zero": 0, "small": 7, "less": len(whole) - 40, "more": len(whole), "most": 2**32 - 1}.items():
        yield f"length-{name}", whole[:4] + struct.pack("<I", size) + whole[8:]
    yield "animation", several
    yield "animation-cut", several[:-50]


def tiffs():
    for width, height in [(1, 1), (40, 30), (37, 29)]:
        rgb = smooth(width, height)
        alpha = Image.fromarray(noise(height, width))
        modes = {"RGBA": Image.merge("RGBA", [*rgb.split(), alpha]), "LA": Image.merge("LA", [rgb.convert("L"), alpha])}
        modes["RGBX"] = Image.merge("RGBX", [*rgb.split(), alpha])
        for mode, image in [*modes.items(), ("RGB", rgb), ("L", rgb.convert("L")), ("CMYK", rgb.convert("CMYK"))]:
            data = save(image, "TIFF", compression="jpeg")
            yield f"jpeg-{mode}-{width}x{height}", data
            if mode == "RGBA":
                # Times alpha: the value of the tag ExtraSamples.
                at = data.index(struct.pack("<HHI", 338, 3, 1)) + 8
                yield f"jpeg-{mode}-times-alpha-{width}x{height}", data[:at] + b"\1" + data[at + 1 :]


def pillow(data):
    """Width, height and hash of the pixels, or `refused`."""
    try:
        image = np.ascontiguousarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError):
        return "refused"
    return f"{image.shape[1]} {image.shape[0]} {hashlib.sha256(image.tobytes()).hexdigest()}"


def main():
    lines, entries = [f"# Pillow {PIL.__version__}"], []
    for ending, kind in [("gif", gifs), ("bmp", bmps), ("webp", webps), ("tif", tiffs)]:
        for name, data in kind():
            entries.append((f"{ending}-{name}.{ending}", data))
            lines.append(f"{entries[-1][0]} {pillow(data)}")
    entries.append(("pixels.txt", ("\n".join(lines) + "\n").encode()))
    with tarfile.open(HERE / "files.tar.gz", "w:gz", compresslevel=9) as archive:
        for name, data in entries:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    refused = [line.split()[0] for line in lines if line.endswith("refused")]
    print(f"{len(lines) - 1} files, {len(refused)} refused by Pillow: {' '.join(refused)}")


if __name__ == "__main__":
    main()
