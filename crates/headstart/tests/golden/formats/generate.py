"""Writes files.tar.gz beside this file: small images of the formats besides JPEG, PNG, WebP, GIF and BMP, orientations in
every place where they are written, and what Pillow makes of each.

    pip install numpy pillow tifffile imagecodecs
    apt-get install libjpeg-turbo-progs
    python generate.py      (Pillow 13.0.0, tifffile 2026.3.3 and imagecodecs 2026.3.6 with libjxl 0.11.2 made the file)

In it are the files and pixels.txt, with a line for each: name, width, height and the SHA-256 of the RGB bytes, turned
upright, or name and `refused`. Pillow reads no JPEG XL: there libjxl says what is right, and lossy files have their RGB bytes
beside them as NAME.rgb.
"""

import hashlib
import io
import pathlib
import random
import struct
import subprocess
import tarfile
import warnings
import zlib

import imagecodecs
import numpy as np
import PIL
import tifffile
from PIL import Image, ImageOps

HERE = pathlib.Path(__file__).parent
warnings.simplefilter("ignore")
SIZES = [(1, 1), (9, 7), (21, 13)]


def picture(width, height, seed=0):
    """A smooth picture with an edge and some noise."""
    y, x = np.mgrid[0:height, 0:width] / 32.0
    r = 128 + 100 * np.sin(5 * x + 2 * y + seed)
    g = 128 + 100 * np.cos(4 * y - x)
    b = np.where(x + y > 0.7, 220, 40) + 20 * np.sin(9 * x)
    noise = np.random.RandomState(seed).normal(0, 1, (height, width, 3))
    return np.clip(np.stack([r, g, b], -1) + noise, 0, 255).astype(np.uint8)


def modes(width, height):
    """The picture in each of Pillow's modes."""
    rgb = Image.fromarray(picture(width, height))
    alpha = Image.fromarray((np.arange(width * height) * 7 % 256).astype(np.uint8).reshape(height, width))
    yield "1", rgb.convert("1")
    yield "L", rgb.convert("L")
    yield "LA", Image.merge("LA", [rgb.convert("L"), alpha])
    yield "P", rgb.quantize(16)
    yield "RGB", rgb
    yield "RGBA", Image.merge("RGBA", [*rgb.split(), alpha])
    yield "CMYK", rgb.convert("CMYK")
    yield "I16", Image.fromarray(picture(width, height)[..., 0].astype(np.uint16) * 257)


def save(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def tag(number, kind, values):
    return number, kind, values


def tiff(tags, data, big=False, order="<"):
    """A TIFF written by hand: one directory, the data in one strip whose place is put in."""
    sizes = {1: "B", 2: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q"}
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + ("HHHQ" if big else "HI"), *((43, 8, 0, 16) if big else (42, 8)))
    entry, inline = (20, 8) if big else (12, 4)
    tags = sorted(tags)
    after = len(head) + (8 if big else 2) + entry * len(tags) + (8 if big else 4)
    extra, entries = b"", b""
    place = after + sum(max(0, len(v) * struct.calcsize(sizes[k]) + 7) for _, k, v in tags)
    for number, kind, values in tags:
        if number in (273, 324):
            values = [place + v for v in values]
        packed = struct.pack(order + str(len(values)) + sizes[kind], *values)
        entries += struct.pack(order + ("HHQ" if big else "HHI"), number, kind, len(values))
        if len(packed) <= inline:
            entries += packed.ljust(inline, b"\0")
        else:
            entries += struct.pack(order + ("Q" if big else "I"), after + len(extra))
            extra += packed + b"\0" * (len(packed) % 2)
    count = struct.pack(order + ("Q" if big else "H"), len(tags))
    out = head + count + entries + b"\0" * (8 if big else 4) + extra
    return out.ljust(place, b"\0") + data


def plain(width, height, bits, photometric, data, samples=1, more=(), **options):
    tags = {256: (3, [width]), 257: (3, [height]), 258: (3, [bits] * samples), 259: (3, [1]), 262: (3, [photometric])}
    tags |= {273: (4, [0]), 277: (3, [samples]), 278: (3, [height]), 279: (4, [len(data)])}
    tags |= {number: (kind, values) for number, kind, values in more}
    return tiff([tag(n, k, v) for n, (k, v) in tags.items() if v is not None], data, **options)


def written(array, **options):
    out = io.BytesIO()
    tifffile.imwrite(out, array, metadata=None, software=None, **options)
    return out.getvalue()


def tiffs():
    for width, height in SIZES:
        for mode, image in modes(width, height):
            for packing in ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "group4", "jpeg", "tiff_deflate"]:
                if packing == "group4" and mode != "1" or packing == "jpeg" and mode not in ("L", "RGB", "CMYK"):
                    continue
                if packing == "tiff_deflate" and mode != "RGB":
                    continue
                if (width, height) == (1, 1) and packing not in ("raw", "tiff_lzw", "group4"):
                    continue
                yield f"tiff-{mode}-{packing}-{width}x{height}.tif", save(image, "TIFF", compression=packing)
    rgb = picture(21, 13)
    grey, rgba = rgb[..., 0], np.dstack([rgb, 255 - rgb[..., 1]])
    large = picture(37, 35, 3)
    for name, options in {
        "tiles": {"tile": (16, 16)},
        "tiles-lzw": {"tile": (16, 32), "compression": "lzw", "predictor": True},
        "tiles-deflate": {"tile": (32, 16), "compression": "zlib"},
        "tiles-jpeg": {"tile": (16, 16), "compression": "jpeg"},
        "strips-jpeg": {"rowsperstrip": 16, "compression": "jpeg"},
        "strips": {"rowsperstrip": 7},
        "strips-packbits": {"rowsperstrip": 5, "compression": "packbits"},
        "predictor": {"compression": "zlib", "predictor": True, "rowsperstrip": 6},
        "big": {"bigtiff": True},
        "big-motorola": {"bigtiff": True, "byteorder": ">"},
        "motorola-lzw": {"byteorder": ">", "compression": "lzw"},
    }.items():
        yield f"tiff-{name}.tif", written(large, photometric="rgb", **options)
        yield f"tiff-grey-{name}.tif", written(large[..., 1].copy(), photometric="minisblack", **options)
    planes = np.ascontiguousarray(large.transpose(2, 0, 1))
    for name, options in {"": {}, "-tiles": {"tile": (16, 16)}, "-lzw": {"compression": "lzw", "rowsperstrip": 9}}.items():
        yield f"tiff-planes{name}.tif", written(planes, photometric="rgb", planarconfig="separate", **options)
    for kind in ["ASSOCALPHA", "UNASSALPHA", "UNSPECIFIED"]:
        yield f"tiff-rgba-{kind}.tif", written(rgba, photometric="rgb", extrasamples=[kind])
        yield f"tiff-la-{kind}.tif", written(rgba[..., 2:].copy(), photometric="minisblack", extrasamples=[kind], planarconfig="contig")
    yield "tiff-rgbxx.tif", plain(21, 13, 8, 2, np.dstack([rgb, rgb[..., :2]]).tobytes(), 5, [tag(338, 3, [0, 0])])
    yield "tiff-rgba-untold.tif", plain(21, 13, 8, 2, rgba.tobytes(), 4)
    yield "tiff-one-bits.tif", plain(21, 13, 8, 2, rgb.tobytes(), 3, [tag(258, 3, [8])])
    yield "tiff-no-count.tif", plain(21, 13, 8, 2, rgb.tobytes(), 3, [tag(279, 4, None)])
    yield "tiff-no-rows.tif", plain(21, 13, 8, 2, rgb.tobytes(), 3, [tag(278, 3, None)])
    yield "tiff-many-rows.tif", plain(21, 13, 8, 2, rgb.tobytes(), 3, [tag(278, 4, [2**32 - 1])])
    for bits in [1, 2, 4, 8]:
        width = 21
        codes = np.random.RandomState(bits).randint(0, 2**bits, (11, width))
        rows = b""
        for row in codes:
            text = "".join(f"{v:0{bits}b}" for v in row)
            rows += int(text.ljust(-(-len(text) // 8) * 8, "0"), 2).to_bytes(-(-len(text) // 8), "big")
        turned = bytes(int(f"{b:08b}"[::-1], 2) for b in rows)
        colours = [int(v) for v in np.random.RandomState(9).randint(0, 65536, 3 * 2**bits)]
        for photometric, more in [(0, []), (1, []), (3, [tag(320, 3, colours)])]:
            yield f"tiff-{bits}-bits-{photometric}.tif", plain(width, 11, bits, photometric, rows, 1, more)
            filled = [*more, tag(266, 3, [2])]
            yield f"tiff-{bits}-bits-{photometric}-reversed.tif", plain(width, 11, bits, photometric, turned, 1, filled)
            yield f"tiff-{bits}-bits-{photometric}-motorola.tif", plain(width, 11, bits, photometric, rows, 1, more, order=">")
    deflated = bytes(int(f"{b:08b}"[::-1], 2) for b in zlib.compress(grey.tobytes()))
    yield "tiff-deflate-reversed.tif", plain(21, 13, 8, 1, deflated, 1, [tag(259, 3, [8]), tag(266, 3, [2])])
    for name, subsampling in [("444", (1, 1)), ("422", (2, 1)), ("420", (2, 2))]:
        options = {"compression": "jpeg", "subsampling": subsampling, "compressionargs": {"level": 80}}
        yield f"tiff-ycc-{name}.tif", written(large, photometric="ycbcr", rowsperstrip=16, **options)
        yield f"tiff-ycc-{name}-tiles.tif", written(large, photometric="ycbcr", tile=(32, 32), **options)
    tiled = written(large[..., 1].copy(), photometric="minisblack", tile=(16, 16))
    yield "tiff-cut.tif", tiled[:-40]
    yield "tiff-cut-lzw.tif", written(large, photometric="rgb", compression="lzw")[:-60]
    yield "tiff-cut-deflate.tif", written(large, photometric="rgb", compression="zlib")[:-60]
    pages = io.BytesIO()
    Image.fromarray(rgb).save(pages, "TIFF", save_all=True, append_images=[Image.fromarray(255 - rgb)])
    yield "tiff-pages.tif", pages.getvalue()
    for orientation in range(1, 9):
        yield f"tiff-orientation-{orientation}.tif", plain(21, 13, 8, 2, rgb.tobytes(), 3, [tag(274, 3, [orientation])])
    for kind in [4, 6, 8, 9]:
        for order in "<>":
            more = [tag(274, kind, [6])]
            yield f"tiff-orientation-type-{kind}-{ord(order)}.tif", plain(21, 13, 8, 2, rgb.tobytes(), 3, more, order=order)
    packet = list(b'<x tiff:Orientation="8"/>')
    yield "tiff-orientation-xmp.tif", plain(21, 13, 8, 2, rgb.tobytes(), 3, [tag(700, 1, packet)])
    both = [tag(700, 1, packet), tag(274, 3, [3])]
    yield "tiff-orientation-both.tif", plain(21, 13, 8, 2, rgb.tobytes(), 3, both)


def tgas():
    for width, height in SIZES:
        for mode, image in modes(width, height):
            if mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
                for packing in [None, "tga_rle"][: 1 if mode == "1" else 2]:
                    for orientation in [1, -1]:
                        name = f"tga-{mode}-{packing}-{orientation}-{width}x{height}.tga"
                        yield name, save(image, "TGA", compression=packing, orientation=orientation)
    rgb = picture(9, 7)
    deep = np.random.RandomState(3).randint(0, 65536, (7, 9)).astype("<u2").tobytes()

    def tga(kind, depth, data, flags=0x20, palette=(0, 0, 0, b""), name=b""):
        start, count, bits, colours = palette
        head = struct.pack("<BBBHHBHHHHBB", len(name), int(count > 0), kind, start, count, bits, 0, 0, 9, 7, depth, flags)
        return head + name + colours + data

    bgr = rgb[..., ::-1].tobytes()
    colours = np.random.RandomState(4).randint(0, 256, 4 * 40, np.uint8).tobytes()
    codes = np.random.RandomState(5).randint(5, 45, (7, 9)).astype(np.uint8).tobytes()
    yield "tga-16.tga", tga(2, 16, deep)
    for flags in [0, 0x10, 0x20, 0x30]:
        yield f"tga-flags-{flags}.tga", tga(2, 24, bgr, flags, name=b"a name")
    for bits in [16, 24, 32]:
        yield f"tga-map-{bits}.tga", tga(1, 8, codes, palette=(5, 40, bits, colours[: 40 * bits // 8]))
    yield "tga-map-short.tga", tga(1, 8, codes, palette=(9, 20, 24, colours[:60]))
    yield "tga-map-unused.tga", tga(2, 24, bgr, palette=(0, 20, 24, colours[:60]))
    footer = struct.pack("<II", 0, 0) + b"TRUEVISION-XFILE.\0"
    yield "tga-footer.tga", tga(2, 32, np.dstack([rgb, rgb[..., :1]]).tobytes()) + footer
    yield "tga-cut.tga", tga(2, 24, bgr[:-1])
    # Runs that go on in the next row.
    yield "tga-long-run.tga", tga(10, 24, b"\xbe" + bgr[:3], 0)


def icons():
    rgb = Image.fromarray(picture(32, 32))
    for mode, image in modes(17, 17):
        if mode in ("1", "L", "P", "RGB", "RGBA"):
            for form in ["png", "bmp"]:
                yield f"ico-{mode}-{form}.ico", save(image, "ICO", bitmap_format=form, sizes=[(17, 17)])
    several = [(16, 16), (32, 32), (24, 24)]
    yield "ico-several.ico", save(rgb, "ICO", sizes=several)
    yield "ico-several-bmp.ico", save(rgb, "ICO", sizes=several, bitmap_format="bmp")
    yield "ico-large.ico", save(Image.fromarray(picture(256, 256)).quantize(2), "ICO", sizes=[(256, 256)])
    yield "ico-odd.ico", save(Image.fromarray(picture(19, 13)), "ICO", sizes=[(19, 13)], bitmap_format="bmp")

    def icon(*pictures):
        out, place = struct.pack("<HHH", 0, 1, len(pictures)), 6 + 16 * len(pictures)
        for side, bits, data in pictures:
            out += struct.pack("<BBBBHHII", side, side, 0, 0, 1, bits, len(data), place)
            place += len(data)
        return out + b"".join(data for _, _, data in pictures)

    def bitmap(side, bits, seed):
        row = -(-side * bits // 32) * 4
        draw = np.random.RandomState(seed)
        colours = draw.randint(0, 256, (2**bits if bits <= 8 else 0) * 4, np.uint8).tobytes()
        pixels = draw.randint(0, 256, row, np.uint8).repeat(side).tobytes()
        mask = b"\0" * (-(-side // 32) * 4 * side)
        return struct.pack("<IiiHHIIiiII", 40, side, 2 * side, 1, bits, 0, 0, 0, 0, 0, 0) + colours + pixels + mask

    for bits in [1, 4, 8, 24, 32]:
        yield f"ico-{bits}-bits.ico", icon((13, bits, bitmap(13, bits, bits)))
    yield "ico-depths.ico", icon((13, 24, bitmap(13, 24, 1)), (13, 8, bitmap(13, 8, 2)), (13, 32, bitmap(13, 32, 3)))
    yield "ico-sizes.ico", icon((9, 32, bitmap(9, 32, 1)), (13, 8, bitmap(13, 8, 2)), (7, 32, bitmap(7, 32, 3)))


def qois():
    for width, height in SIZES:
        for mode, image in modes(width, height):
            if mode in ("RGB", "RGBA"):
                yield f"qoi-{mode}-{width}x{height}.qoi", imagecodecs.qoi_encode(np.asarray(image))
    flat = np.zeros((9, 70, 3), np.uint8)
    flat[3:5, 10:60] = 77
    yield "qoi-runs.qoi", imagecodecs.qoi_encode(flat)
    noise = np.random.RandomState(1).randint(0, 256, (20, 20, 4), np.uint8)
    yield "qoi-noise.qoi", imagecodecs.qoi_encode(noise)
    yield "qoi-cut.qoi", imagecodecs.qoi_encode(noise)[:-30]


def pnms():
    for width, height in SIZES:
        for mode, image in modes(width, height):
            if mode in ("1", "L", "RGB"):
                yield f"pnm-{mode}-{width}x{height}.ppm", save(image, "PPM")
    yield "pnm-text.pgm", b"P2\n# a comment\n3 2\n255\n0 128 255\n7\n 99 200\n"
    yield "pnm-text-bits.pbm", b"P1 5 2\n0 1 0 1 1\n11010\n"
    yield "pnm-text-colours.ppm", b"P3 2 1 255 1 2 3 250 251 252"
    yield "pnm-max.pgm", b"P5 4 1 100\n" + bytes([0, 33, 50, 100])


def orientations():
    """What says how a picture stands, in JPEG, PNG and WebP."""
    image = Image.fromarray(picture(16, 8))
    plain_jpeg = save(image, "JPEG", quality=60)

    def exif(order, kind, value):
        form = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I"}[kind]
        head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HIH", 42, 8, 1)
        inline = struct.pack(order + form, value).ljust(4, b"\0")
        return head + struct.pack(order + "HHI", 0x112, kind, 1) + inline + b"\0" * 4

    def segment(body):
        return b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body

    def jpeg(*segments):
        return plain_jpeg[:2] + b"".join(map(segment, segments)) + plain_jpeg[2:]

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    flat = save(image.quantize(8), "PNG")
    before, after = flat.index(b"IDAT") - 4, flat.index(b"IEND") - 4

    def png(*chunks, at=before):
        return flat[:at] + b"".join(chunks) + flat[at:]

    xmp = b"http://ns.adobe.com/xap/1.0/\0"
    attribute, element = b'<x tiff:Orientation="6"/>', b"<tiff:Orientation>8</tiff:Orientation>"
    none = b"II" + struct.pack("<HIH", 42, 8, 1) + struct.pack("<HHI4s", 0x110, 2, 2, b"x\0\0\0") + b"\0" * 4
    for kind in [3, 4, 6, 8, 9, 13]:
        for order in "<>":
            yield f"jpeg-exif-type-{kind}-{ord(order)}.jpg", jpeg(b"Exif\0\0" + exif(order, kind, 6))
    yield "jpeg-exif-twice-marked.jpg", jpeg(b"Exif\0\0Exif\0\0" + exif("<", 3, 6))
    yield "jpeg-exif-unmarked.jpg", jpeg(exif("<", 3, 6))
    yield "jpeg-exif-nine.jpg", jpeg(b"Exif\0\0" + exif("<", 3, 9))
    yield "jpeg-exif-in-parts.jpg", jpeg(b"Exif\0\0" + exif("<", 3, 6)[:12], b"Exif\0\0" + exif("<", 3, 6)[12:])
    yield "jpeg-xmp-attribute.jpg", jpeg(xmp + attribute)
    yield "jpeg-xmp-element.jpg", jpeg(xmp + element)
    yield "jpeg-xmp-twice.jpg", jpeg(xmp + attribute, xmp + element)
    yield "jpeg-exif-and-xmp.jpg", jpeg(b"Exif\0\0" + exif(">", 3, 3), xmp + attribute)
    yield "jpeg-xmp-and-exif.jpg", jpeg(xmp + attribute, b"Exif\0\0" + exif(">", 3, 3))
    yield "jpeg-exif-without-and-xmp.jpg", jpeg(b"Exif\0\0" + none, xmp + attribute)
    scan = plain_jpeg.index(b"\xff\xda")
    late = plain_jpeg[:scan] + segment(b"Exif\0\0" + exif("<", 3, 8)) + plain_jpeg[scan:]
    yield "jpeg-exif-behind-frame.jpg", late

    block = exif(">", 3, 6)
    profile = b"\nexif\n%8d\n" % len(b"Exif\0\0" + block) + (b"Exif\0\0" + block).hex().encode() + b"\n"
    international = b"XML:com.adobe.xmp\0\0\0\0\0"
    packed = b"XML:com.adobe.xmp\0\1\0\0\0"
    for name, chunks in {
        "exif": [chunk(b"eXIf", block)],
        "exif-long": [chunk(b"eXIf", exif("<", 9, 5))],
        "profile": [chunk(b"tEXt", b"Raw profile type exif\0" + profile)],
        "profile-packed": [chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(profile))],
        "xmp": [chunk(b"iTXt", international + attribute)],
        "xmp-packed": [chunk(b"iTXt", packed + zlib.compress(element))],
        "xmp-text": [chunk(b"tEXt", b"XML:com.adobe.xmp\0" + element)],
        "text": [chunk(b"tEXt", b"Comment\0" + attribute)],
        "exif-and-xmp": [chunk(b"eXIf", exif("<", 3, 3)), chunk(b"iTXt", international + attribute)],
        "exif-and-profile": [chunk(b"tEXt", b"Raw profile type exif\0" + profile), chunk(b"eXIf", exif("<", 3, 3))],
        "exif-without-and-xmp": [chunk(b"eXIf", none), chunk(b"iTXt", international + element)],
    }.items():
        yield f"png-{name}.png", png(*chunks)
        yield f"png-{name}-behind.png", png(*chunks, at=after)
    for name, options in {
        "exif": {"exif": exif("<", 9, 6)},
        "xmp": {"xmp": attribute},
        "xmp-element": {"xmp": element},
        "both": {"exif": exif(">", 3, 3), "xmp": attribute},
    }.items():
        yield f"webp-{name}.webp", save(image, "WEBP", lossless=True, **options)


def jpeg_xls():
    """Name, file and pixels by libjxl."""
    for width, height in [(1, 1), (9, 7), (37, 35)]:
        for mode, image in modes(width, height):
            array = np.asarray(image)
            if mode in ("L", "LA", "RGB", "RGBA"):
                yield f"jxl-{mode}-{width}x{height}", imagecodecs.jpegxl_encode(array, lossless=True), True
    large = picture(70, 60, 3)
    yield "jxl-lossy", imagecodecs.jpegxl_encode(large, level=85), False
    yield "jxl-lossy-grey", imagecodecs.jpegxl_encode(large[..., 1].copy(), level=80), False
    yield "jxl-fast", imagecodecs.jpegxl_encode(large, lossless=True, effort=1), True
    yield "jxl-container", imagecodecs.jpegxl_encode(large, level=85, usecontainer=True), False
    jpeg = save(Image.fromarray(picture(64, 48, 5)), "JPEG", quality=70)
    try:
        yield "jxl-of-jpeg", imagecodecs.jpegxl_encode_jpeg(jpeg), False
    except Exception as error:
        print("no JPEG inside of JPEG XL:", error)


def arithmetic():
    """JPEG with arithmetic codes, whole and damaged; those of `golden/jpeg` are whole."""
    image = Image.fromarray(picture(33, 21, 7))

    def cjpeg(image, *options):
        source, command = io.BytesIO(), ["cjpeg", "-arithmetic", "-quality", "60", *options]
        image.save(source, "PPM")
        return subprocess.run(command, input=source.getvalue(), stdout=subprocess.PIPE, check=True).stdout

    files = {
        "plain": cjpeg(image, "-sample", "2x2"),
        "grey": cjpeg(image.convert("L")),
        "restart": cjpeg(image, "-sample", "1x1", "-restart", "2B"),
        "progressive": cjpeg(image, "-sample", "2x1", "-progressive"),
        "progressive-restart": cjpeg(image, "-sample", "1x2", "-progressive", "-restart", "1"),
    }
    for name, data in files.items():
        yield f"arithmetic-{name}.jpg", data
        start = data.index(b"\xff\xda") + 14
        yield f"arithmetic-{name}-cut.jpg", data[: len(data) * 3 // 4]
        yield f"arithmetic-{name}-cut-ended.jpg", data[: len(data) * 3 // 4] + b"\xff\xd9"
        draw = random.Random(name)
        for turn in range(3):
            bad = bytearray(data)
            bad[draw.randrange(start, len(bad) - 2)] ^= 1 << draw.randrange(8)
            yield f"arithmetic-{name}-damaged-{turn}.jpg", bytes(bad)
    data = files["plain"]
    scan = data.index(b"\xff\xda")
    for name, body in [("conditioned", b"\x00\x21\x10\x02"), ("bad-conditioning", b"\x00\x12"), ("odd-conditioning", b"\0")]:
        segment = b"\xff\xcc" + struct.pack(">H", len(body) + 2) + body
        yield f"arithmetic-{name}.jpg", data[:scan] + segment + data[scan:]


def pixels(image):
    image = np.ascontiguousarray(image)
    return f"{image.shape[1]} {image.shape[0]} {hashlib.sha256(image.tobytes()).hexdigest()}"


def pillow(data):
    """Width, height and hash of the pixels, or `refused`."""
    try:
        return pixels(np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")))
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError):
        return "refused"


def rgb_of(data):
    array = imagecodecs.jpegxl_decode(data)
    array = array if array.ndim == 3 else array[..., None]
    return array[..., :3] if array.shape[2] >= 3 else np.repeat(array[..., :1], 3, -1)


def main():
    lines, entries, seen = [f"# Pillow {PIL.__version__}, {imagecodecs.jpegxl_version()}"], [], set()
    for kind in [tiffs, tgas, icons, qois, pnms, orientations, arithmetic]:
        for name, data in kind():
            if data not in seen:
                seen.add(data)
                entries.append((name, data))
                lines.append(f"{name} {pillow(data)}")
    for name, data, exact in jpeg_xls():
        entries.append((f"{name}.jxl", data))
        lines.append(f"{name}.jxl {pixels(rgb_of(data))}")
        if not exact:
            entries.append((f"{name}.rgb", rgb_of(data).tobytes()))
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
