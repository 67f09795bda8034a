"""The image files of a source: where they lie, whether they are what the source says, and their fingerprint."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

import pandas as pd
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from stages.prepare.problems import Problems
from stages.runtime import layout

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")  # whatever the name ends with; others may start programs, as EPS does
ENDINGS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
START_OF_SCAN = b"\xff\xda"  # of a JPEG; pixels follow it


def find_folder(root: Path, candidates: Sequence[str]) -> Path:
    """The first candidate below `root` that holds an image; the first of all where none does."""
    folders = [Path(os.path.normpath(root / candidate)) for candidate in candidates]
    return next((folder for folder in folders if _holds_images(folder)), folders[0])


def join(folder: Path, name: str) -> str:
    """Path of an image as it stands in a prepared dataset, with `/` on every system."""
    return os.path.normpath(os.path.join(folder, name)).replace(os.sep, "/")


def check(instances: pd.DataFrame, folder: Path, problems: Problems) -> dict[str, int]:
    """Check that every image in use exists, is whole and has the stated size. Only headers and ends are read.

    Sizes are those of the pixels as stored, as COCO's are: an orientation in the EXIF data is ignored.

    Args:
        instances: columns image (the file's name), image_id, width, height.

    Returns:
        The size in bytes of every image, by its path.
    """
    images = instances[["image", "image_id", "width", "height"]].drop_duplicates()
    sizes = {}
    for name, image_id, width, height in tqdm(
        images.itertuples(index=False, name=None), "image headers", len(images), disable=None
    ):
        path = join(folder, name)
        what = f"image {image_id}, {name}"
        try:
            sizes[path] = os.path.getsize(layout.source(path))
            found = _size(layout.source(path))
        except (FileNotFoundError, NotADirectoryError):
            problems.add(folder, "image missing", what)
        except Exception as error:  # a decoder raises nearly anything where an image is broken
            problems.add(folder, "image broken", f"{what}: {_reason(error)}")
        else:
            if found != (width, height):
                problems.add(
                    folder,
                    "image of another size than stated",
                    f"{what}: {found[0]} x {found[1]}, stated {width} x {height}",
                )
    return sizes


def listing(folder: Path) -> Iterable[tuple[str, int]]:
    """The name and the size in bytes of every image below a folder, sorted by name."""
    found = []
    folder = layout.source(folder)
    for parent, _, names in os.walk(folder):
        for name in names:
            if name.lower().endswith(SUFFIXES):
                path = os.path.join(parent, name)
                found.append((os.path.relpath(path, folder), os.path.getsize(path)))
    return sorted(found)


def _size(path: Path) -> tuple[int, int]:
    """(width, height) from the header. A file that does not end as its format should is decoded, to be sure."""
    with open(path, "rb") as file, Image.open(file, formats=FORMATS) as image:
        ending = ENDINGS.get(image.format, b"")
        file.seek(-len(ending), os.SEEK_END)
        if not ending or file.read() != ending:
            image.load()
            if image.format == "JPEG":
                _check_end(file)
        return image.size


def _check_end(file: BinaryIO) -> None:
    """Raise ValueError where a JPEG has no end after its pixels: zeros in their place are decoded as grey silently."""
    file.seek(0)
    content = file.read()
    if content.rfind(ENDINGS["JPEG"]) < content.rfind(START_OF_SCAN):
        raise ValueError("image file has no end")


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _holds_images(folder: Path) -> bool:
    try:
        with os.scandir(layout.source(folder)) as entries:
            return any(entry.name.lower().endswith(SUFFIXES) for entry in entries)
    except OSError:
        return False
