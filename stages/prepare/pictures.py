"""The image files of a source: where they lie, whether they are what the source says, and their fingerprint."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from stages.prepare.problems import Problems

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
ENDINGS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}


def find_folder(root: Path, candidates: Sequence[str]) -> Path:
    """The first candidate below `root` that holds a picture; the first of all where none does."""
    folders = [Path(os.path.normpath(root / candidate)) for candidate in candidates]
    return next((folder for folder in folders if _holds_pictures(folder)), folders[0])


def join(folder: Path, name: str) -> str:
    """Path of an image as it stands in a prepared dataset."""
    return (folder / name).as_posix()


def check(instances: pd.DataFrame, folder: Path, problems: Problems) -> dict[str, int]:
    """Check every image in use: it is there, whole, and as large as the source says. Only headers and ends are read.

    Args:
        instances: columns image (the file's name), image_id, width, height.

    Returns:
        Size in bytes of every image, by its path.
    """
    images = instances[["image", "image_id", "width", "height"]].drop_duplicates()
    sizes = {}
    for name, image_id, width, height in tqdm(
        images.itertuples(index=False), "image headers", len(images), disable=None
    ):
        path = folder / name
        what = f"image {image_id}, {name}"
        if not path.is_file():
            problems.add(folder, "image missing", what)
            continue
        sizes[join(folder, name)] = path.stat().st_size
        try:
            found = _size(path)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            problems.add(folder, "image broken", f"{what}: {_reason(error)}")
            continue
        if found != (width, height):
            problems.add(
                folder,
                "image of another size than stated",
                f"{what}: {found[0]} x {found[1]}, stated {width} x {height}",
            )
    return sizes


def listing(folder: Path) -> Iterable[tuple[str, int]]:
    """Name and size in bytes of every picture below a folder, sorted."""
    found = []
    for parent, _, names in os.walk(folder):
        for name in names:
            if name.lower().endswith(SUFFIXES):
                path = os.path.join(parent, name)
                found.append((os.path.relpath(path, folder), os.path.getsize(path)))
    return sorted(found)


def _size(path: Path) -> tuple[int, int]:
    """(width, height) from the header. A file that does not end as its format should is decoded, to be sure."""
    with path.open("rb") as file, Image.open(file) as image:
        ending = ENDINGS.get(image.format, b"")
        file.seek(-len(ending), os.SEEK_END)
        if not ending or file.read() != ending:
            image.load()
        return image.size


def _reason(error: Exception) -> str:
    return "not a picture" if isinstance(error, UnidentifiedImageError) else str(error)


def _holds_pictures(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(entry.name.lower().endswith(SUFFIXES) for entry in entries)
    except OSError:
        return False
