"""Hashes of what Pillow decodes from the JPEG files of archives, for `suite/jpeg.rs`.

    pip install pillow
    python crates/headstart/tests/golden/jpeg/photos.py ../shared/data/*.tar.gz

Of each archive: the number of files, and the SHA-256 of their sorted lines of name, width, height and SHA-256 of
the RGB bytes, turned as EXIF says.
"""

import hashlib
import io
import sys
import tarfile

from PIL import Image, ImageOps

for archive in sys.argv[1:]:
    lines = []
    with tarfile.open(archive) as tar:
        for member in tar:
            if not member.isfile() or not member.name.lower().endswith((".jpg", ".jpeg")):
                continue
            image = Image.open(io.BytesIO(tar.extractfile(member).read()))
            image = ImageOps.exif_transpose(image).convert("RGB")
            digest = hashlib.sha256(image.tobytes()).hexdigest()
            lines.append(f"{member.name} {image.width} {image.height} {digest}\n")
    print(archive, len(lines), hashlib.sha256("".join(sorted(lines)).encode()).hexdigest())
