"""The image files of a source: where they lie, and whether they are what the source says."""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pandas as pd

from models import images
from stages.prepare.problems import Problems
from stages.runtime import layout
from stages.runtime.progress import bar

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
JPEG_END, PNG_END = b"\xff\xd9", b"IEND\xaeB`\x82"
ENDINGS = {"JPEG": JPEG_END, "MPO": JPEG_END, "PNG": PNG_END}
MARKER = re.compile(rb"\xff+([\x01-\xcf\xd8-\xfe])")  # of a JPEG; what stands between its pixels is no marker
END_OF_IMAGE = 0xD9
TAIL = 2**16  # bytes at the end of a PNG, in which EXIF data may stand behind the pixels
LATE = re.compile(rb"eXIf|Raw profile type exif|XML:com\.adobe\.xmp")


@dataclass(frozen=True)
class Checked:
    """What was found about the images in use.

    Attributes:
        sizes: bytes of every image, by its name in the source.
        warnings: what must stand beside every number.
        notes: what reading does to some of them.
    """

    sizes: dict[str, int]
    warnings: list[str]
    notes: list[str]


def find_folder(root: Path, candidates: Sequence[str]) -> Path:
    """The first candidate below `root` that holds an image; the first of all where none does."""
    folders = [Path(os.path.normpath(root / candidate)) for candidate in candidates]
    return next((folder for folder in folders if holds_images(folder)), folders[0])


def join(folder: Path, name: str) -> str:
    """Path of an image as it stands in a prepared dataset, with `/` on every system."""
    return os.path.normpath(os.path.join(folder, name)).replace(os.sep, "/")


def check(instances: pd.DataFrame, folder: Path, problems: Problems) -> Checked:
    """Check that every image in use exists, is whole, and is of the stated size. Only headers and ends are read.

    Sizes are those of the upright image, as `models.images` reads it.

    Args:
        instances: columns image (the file's name), image_id, width, height.
    """
    rows = instances[["image", "image_id", "width", "height"]].drop_duplicates()
    located = layout.source(folder)
    sizes, turned, changed = {}, {}, defaultdict(dict)
    for name, image_id, width, height in bar(rows.itertuples(index=False, name=None), "image headers", len(rows)):
        path = join(located, name)
        what = f"image {image_id}, {name}"
        try:
            sizes[name] = os.path.getsize(path)
            found = _header(path)
        except (FileNotFoundError, NotADirectoryError):
            problems.add(folder, "image missing", what + _alike(located, name))
            continue
        except (OSError, ValueError) as error:
            problems.add(folder, "image cannot be read", f"{what}: {getattr(error, 'strerror', None) or error}")
            continue
        if found.size != (width, height):
            size = "{} x {}".format(*found.size)
            kind, stated = "image of another size than stated", f"{what}: {size}, stated {width} x {height}"
            if found.orientation in images.ON_ITS_SIDE and found.size == (height, width):
                kind = (
                    "size as stored, but the image is turned by its EXIF orientation; if the masks are drawn on the "
                    "pixels as stored, remove the orientation from the file, else state the size of the upright image"
                )
            problems.add(folder, kind, stated)
        if found.orientation in images.TURNED:
            turned[name] = None
        for change in found.changes:
            changed[change][name] = None
    warnings = [
        f"images that are turned by their EXIF orientation: {len(turned):,}, such as {name}. Masks that were drawn on "
        "the pixels as stored lie elsewhere, until the orientation is removed from the files"
        for name in list(turned)[:1]
    ]
    notes = [f"images that {change}: {len(names):,}, such as {next(iter(names))}" for change, names in changed.items()]
    return Checked(sizes, warnings, notes)


def listing(folder: Path, names: Iterable[str]) -> list[tuple[str, int]]:
    """The name and the size in bytes of those of some images that exist, sorted by name."""
    located, found = layout.source(folder), []
    for name in set(names):
        try:
            found.append((name, os.stat(join(located, name)).st_size))
        except (OSError, ValueError):  # as of a name with a null byte
            continue
    return sorted(found)


def _header(path: str) -> images.Header:
    """The header of an image. A file that does not end as its format should is decoded, to be sure."""
    with open(path, "rb") as file, images.opened(file) as image:
        ending = ENDINGS.get(image.format or "", b"")
        length = TAIL if ending == PNG_END else len(ending)
        file.seek(-min(length, os.fstat(file.fileno()).st_size), os.SEEK_END)
        tail = file.read()
        if ending == PNG_END and LATE.search(tail):
            image.load()
        found = images.header(image)
        if not ending or not tail.endswith(ending):
            image.load()
            if ending == JPEG_END:
                _check_end(file)
        return found


def _check_end(file: BinaryIO) -> None:
    """Raise ValueError where a JPEG has no end after its pixels: zeros in their place are decoded as grey silently.

    The end is that of the first image: a phone may append a film, and its bytes may be anything.
    """
    file.seek(0)
    content, place = file.read(), 2
    while marker := MARKER.search(content, place):
        if content[marker.end() - 1] == END_OF_IMAGE:
            return
        place = marker.end() + int.from_bytes(content[marker.end() : marker.end() + 2])
    raise ValueError("image file has no end")


def _alike(folder: Path, name: str) -> str:
    """A hint where a file exists whose name looks the same and is written with other characters."""
    forms = {unicodedata.normalize(form, name) for form in ("NFC", "NFD")} - {name}
    if any(os.path.exists(join(folder, form)) for form in forms):
        return " (a file is there whose name looks the same, but its accents are other characters: copy the name)"
    return ""


def holds_images(folder: Path) -> bool:
    """Whether a file in a folder is named as an image."""
    try:
        with os.scandir(layout.source(folder)) as entries:
            return any(entry.name.lower().endswith(SUFFIXES) for entry in entries)
    except OSError:
        return False
