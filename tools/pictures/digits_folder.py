"""Write the digits inside the program as a folder of photos, as a user would bring them.

    python3 digits_folder.py OUT [--with-mistakes]

OUT/CLASS/NUMBER.png, 32x32 pixels (8x8, upsampled bilinearly), classes zero to nine. With
--with-mistakes also what folders of photos have in them: two duplicates, one of them under two
classes, a blank image, one of 8x8, one that is cut off, a file that is no image, one with another
extension, and 19 images in the folder of the next class. Needs nothing but Python's own library,
and writes the same bytes every time.
"""

import gzip
import pathlib
import shutil
import struct
import sys
import zlib

COUNT, SIDE, INK, FACTOR = 1797, 8, 16, 4
CLASSES = "zero one two three four five six seven eight nine".split()
DIGITS = pathlib.Path(__file__).parents[2] / "crates/headstart/assets/digits.bin.gz"


def upsampled(grey: list[float]) -> bytes:
    side = SIDE * FACTOR
    taps = []
    for i in range(side):
        at = min(max((i + 0.5) / FACTOR - 0.5, 0.0), SIDE - 1.0)
        low = min(int(at), SIDE - 2)
        taps.append((low, at - low))
    wide = [[grey[y * SIDE + x] * (1 - t) + grey[y * SIDE + x + 1] * t for x, t in taps] for y in range(SIDE)]
    return bytes(round(wide[y][x] * (1 - t) + wide[y + 1][x] * t) for y, t in taps for x in range(side))


def png(grey: bytes, side: int = SIDE * FACTOR) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + grey[i : i + side] for i in range(0, len(grey), side))
    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def main() -> None:
    out, mistakes = pathlib.Path(sys.argv[1]), sys.argv[2:] == ["--with-mistakes"]
    data = gzip.decompress(DIGITS.read_bytes())
    labels, inks = data[:COUNT], data[COUNT:]
    for name in CLASSES:
        (out / name).mkdir(parents=True)
    grey = [[v * 255 / INK for v in inks[i * SIDE * SIDE :][: SIDE * SIDE]] for i in range(COUNT)]
    for i, label in enumerate(labels):
        folder = CLASSES[(label + 1) % 10] if mistakes and i % 90 == 89 else CLASSES[label]
        (out / folder / f"{i:04}.png").write_bytes(png(upsampled(grey[i])))
    if not mistakes:
        return
    shutil.copy(out / "three/0003.png", out / "three/0003 (copy).png")
    shutil.copy(out / "seven/0007.png", out / "one/seven.png")
    (out / "eight/blank.png").write_bytes(png(bytes((SIDE * FACTOR) ** 2)))
    (out / "five/0005.png").rename(out / "five/0005.jpg")
    (out / "nine/tiny.png").write_bytes(png(bytes(map(int, grey[9])), SIDE))
    (out / "two/cut off.png").write_bytes((out / "two/0002.png").read_bytes()[:60])
    (out / "four/notes.png").write_text("taken in July\n")


main()
