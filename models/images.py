"""Image files -> upright images of 8-bit RGB. All of the project reads images by this module, so that all see the same.

- Formats are those of `FORMATS`, whatever the name ends with; of several frames, the first is read.
- An image is turned upright as its EXIF data say.
- Grey of 12 or 16 bits is scaled to 8, so that white stays white. More bits for each of several colours are cut to 8 by
  Pillow. Values of 32 bits, which have no agreed range, are refused.
- What is transparent is put on `GROUND`.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")  # others may start programs, as EPS does
OTHERS = ("GIF", "AVIF", "JPEG2000", "PPM", "ICO", "PSD", "EPS")  # are named where they are refused
HEIC = (b"ftypheic", b"ftypheix", b"ftypheim", b"ftypheis", b"ftyphevc", b"ftypmif1", b"ftypmsf1")
GROUND = "white"
TURNED = range(2, 9)  # values of the EXIF orientation; 1 is upright
ON_ITS_SIDE = range(5, 9)
BITS, MEANING, WHITE_IS_ZERO = 258, 262, 0  # tags of a TIFF, and a value of MEANING


class Header(NamedTuple):
    """What an image file says before its pixels.

    Attributes:
        format: one of `FORMATS`, or MPO, a JPEG with further images in the file.
        size: (width, height) of the upright image, pixels.
        orientation: of the EXIF data, 1 to 8.
        changes: what reading does to the pixels, each as a part of a sentence about "images".
    """

    format: str
    size: tuple[int, int]
    orientation: int
    changes: list[str]


def read(file: str | Path | BinaryIO) -> Image.Image:
    """The upright image in a file, 8-bit RGB. Raises ValueError, which says why it cannot be read."""
    with opened(file) as image:
        image.load()
        if _orientation(image) in TURNED:
            ImageOps.exif_transpose(image, in_place=True)
        return rgb(image)


def rgb(image: Image.Image) -> Image.Image:
    """An image as 8-bit RGB, not turned; the same object if it is that already. Raises ValueError for other modes."""
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode in ("I", "F"):
        raise ValueError(
            f"its values have 32 bits (mode {image.mode}), and nothing says which is white: save it with 8 or 16 bits"
        )
    if image.mode.startswith("I;16"):
        return _of_16_bits(image)
    try:
        if not image.has_transparency_data:
            return image.convert("RGB")
        layer = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    except (ValueError, KeyError) as error:
        raise ValueError(f"pixels of mode {image.mode} are not read: save it as RGB of 8 bits") from error
    return Image.alpha_composite(Image.new("RGBA", image.size, GROUND), layer).convert("RGB")


def header(image: Image.Image) -> Header:
    """The header of an image from `opened`. EXIF data behind the pixels of a PNG count once it is loaded.

    Raises:
        ValueError: `read` refuses its mode.
    """
    rgb(Image.new(image.mode, (1, 1)))
    orientation = _orientation(image)
    width, height = image.size
    if orientation in ON_ITS_SIDE and image.format != "TIFF":  # Pillow turns a TIFF itself
        width, height = height, width
    changes = []
    if image.mode.startswith("I;16"):
        changes.append("have more than 8 bits and are scaled to 8")
    if image.has_transparency_data:
        changes.append(f"may be transparent and are put on {GROUND}")
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        changes.append("have several frames, of which the first is read")
    return Header(image.format or "", (width, height), orientation, changes)


@contextmanager
def opened(file: str | Path | BinaryIO) -> Iterator[Image.Image]:
    """An image file with its header read. Whatever a decoder raises, also inside, becomes a ValueError."""
    try:
        with open(file, "rb") if isinstance(file, str | Path) else nullcontext(file) as stream:
            try:
                with Image.open(stream, formats=FORMATS) as image:
                    yield image
            except UnidentifiedImageError as error:
                raise ValueError(_unidentified(stream)) from error
    except Image.DecompressionBombError as error:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise ValueError(
            f"it has more than {most:,} pixels, the most that are read: scale it down, and any annotations with it"
        ) from error
    except FileNotFoundError as error:
        raise ValueError("it does not exist") from error
    except Exception as error:  # a decoder raises nearly anything where an image is broken
        raise ValueError(getattr(error, "strerror", None) or str(error) or type(error).__name__) from error


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8, without decoding; 1 where the EXIF data are broken or say something else."""
    try:
        orientation = Image.Image.getexif(image).get(ExifTags.Base.Orientation)  # that of a PNG decodes
    except Exception:  # as of decoders
        return 1
    return orientation if isinstance(orientation, int) and orientation in TURNED else 1


def _of_16_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.uint32)
    tags = getattr(image, "tag_v2", {})
    white = 2 ** tags.get(BITS, (16,))[0] - 1
    if tags.get(MEANING) == WHITE_IS_ZERO:
        values = white - values
    scaled = Image.fromarray(((255 * values + white // 2) // white).astype(np.uint8))
    transparent = image.info.get("transparency")  # a single value of a PNG
    if transparent is not None:
        scaled.paste(GROUND, mask=Image.fromarray(values == transparent))
    return scaled.convert("RGB")


def _unidentified(stream: BinaryIO) -> str:
    """Why a file that holds none of `FORMATS` is refused."""
    stream.seek(0)
    found = "HEIC" if stream.read(12)[4:] in HEIC else None
    try:
        with Image.open(stream, formats=OTHERS) as image:
            found = image.format
    except Exception:  # as of decoders
        pass
    return f"{found} is not read; convert it to JPEG or PNG" if found else "it is not an image"
