"""Sets of photos, split for measuring: shared by accuracy.py and variants.py."""

import pathlib
import random
import shutil
import tarfile

DATA = pathlib.Path(__file__).resolve().parent.parent / "../shared/data"
IMAGES = {".jpg", ".jpeg", ".png"}


def extracted(archive, work):
    folder = work / "all" / archive
    if not folder.exists():
        part = folder.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        with tarfile.open(DATA / f"{archive}.tar.gz") as tar:
            tar.extractall(part, filter="data")
        part.rename(folder)
    return folder


def classes(folder):
    """Files by class: of the first folder down that has several folders of images."""
    below = sorted(path for path in folder.iterdir() if path.is_dir())
    if len(below) == 1:
        return classes(below[0])
    if {path.name for path in below} >= {"train", "test"}:
        both = [classes(folder / part) for part in ("train", "test")]
        return {name: both[0][name] + both[1].get(name, []) for name in both[0]}
    files = lambda path: sorted(f for f in path.rglob("*") if f.suffix.lower() in IMAGES)
    return {path.name: files(path) for path in below if files(path)}


def split(name, seed, work):
    """A folder with train/ and test/, links to the images: of a fifth for testing, of each class in proportion."""
    folder = work / f"{pathlib.Path(name).name}-{seed}"
    if folder.exists():
        return folder
    limit = int(name.removeprefix("cifar")) if name.startswith("cifar") else None
    if "/" in name:
        found = classes(pathlib.Path(name).resolve())
    else:
        found = classes(extracted("cifar10-jpeg" if limit else name, work))
    chance, part = random.Random(seed), folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    for label, files in found.items():
        files = files[:]
        chance.shuffle(files)
        # Of CIFAR-10 as many training images as the name says, and 2,000 for testing.
        test = 2000 // len(found) if limit else max(round(len(files) / 5), 1)
        last = test + limit // len(found) if limit else len(files)
        for side, chosen in [("test", files[:test]), ("train", files[test:last])]:
            to = part / side / label
            to.mkdir(parents=True)
            for i, file in enumerate(chosen):
                (to / f"{i:05}{file.suffix}").symlink_to(file)
    part.rename(folder)
    return folder
