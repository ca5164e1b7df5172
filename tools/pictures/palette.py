"""Write a PNG of 8-bit RGB or RGBA without alpha as one of 64 colours, a third of its size.

    python3 palette.py IN OUT

The most common colours stay as they are, so that faint lines do. The others are the means of the
boxes of a median cut. Needs nothing but Python's own library.
"""

import struct
import sys
import zlib
from collections import Counter

COLOURS, KEPT = 64, 16


def read(path: str) -> tuple[int, int, list[tuple[int, int, int]]]:
    data = open(path, "rb").read()
    at, packed, head = 8, b"", b""
    while at < len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        head = body if kind == b"IHDR" else head
        packed += body if kind == b"IDAT" else b""
        at += size + 12
    width, height, depth, colour = struct.unpack(">IIBB", head[:10])
    if depth != 8 or colour not in (2, 6) or head[12]:
        sys.exit(f"{path}: expected 8-bit RGB or RGBA without interlacing")
    each = 3 if colour == 2 else 4
    raw, stride, above, pixels = zlib.decompress(packed), width * each, bytes(width * each), []
    for y in range(height):
        kind, row = raw[y * (stride + 1)], bytearray(raw[y * (stride + 1) + 1 :][:stride])
        for i in range(stride):
            a = row[i - each] if i >= each else 0
            b = above[i]
            c = above[i - each] if i >= each else 0
            if kind == 4:
                p = a + b - c
                near = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
            else:
                near = (0, a, b, (a + b) // 2)[kind]
            row[i] = (row[i] + near) & 255
        above = row
        pixels += [tuple(row[i : i + 3]) for i in range(0, stride, each)]
    return width, height, pixels


def palette(counts: Counter) -> tuple[list[tuple[int, ...]], dict]:
    def box(of: list) -> tuple[float, int, list]:
        width, channel = max((max(c[i] for c in of) - min(c[i] for c in of), i) for i in range(3))
        return width * len(of) ** 0.5, channel, of

    common = [c for c, _ in counts.most_common(KEPT)]
    boxes = [box([c]) for c in common] + [box([c for c in counts if c not in common] or common[:1])]
    while len(boxes) < COLOURS:
        boxes.sort(key=lambda b: b[0])
        score, channel, of = boxes.pop()
        if score == 0:
            boxes.append((score, channel, of))
            break
        of.sort(key=lambda c: c[channel])
        middle = (of[0][channel] + of[-1][channel]) / 2
        cut = next(i for i, c in enumerate(of) if c[channel] > middle)
        boxes += [box(of[:cut]), box(of[cut:])]
    colours, index = [], {}
    for i, (_, _, of) in enumerate(boxes):
        total = sum(counts[c] for c in of)
        colours.append(tuple(round(sum(c[k] * counts[c] for c in of) / total) for k in range(3)))
        index.update((c, i) for c in of)
    return colours, index


def main() -> None:
    width, height, pixels = read(sys.argv[1])
    colours, index = palette(Counter(pixels))
    rows = b"".join(b"\0" + bytes(index[p] for p in pixels[y * width :][:width]) for y in range(height))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    with open(sys.argv[2], "wb") as out:
        out.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)))
        out.write(chunk(b"PLTE", bytes(v for c in colours for v in c)))
        out.write(chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b""))


main()
