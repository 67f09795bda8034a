"""The entries of a file of predictions, whatever its format: JSON, JSON lines, Parquet, or a folder of PNG masks."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import orjson
import pyarrow as pa
from PIL import Image
from pyarrow import parquet

from stages.runtime.predictions import PredictionsError
from stages.score.segmentations import Wrong, shown

ROWS = 1024  # of a Parquet file that are in memory together
MODES = ("1", "L", "P", "I", "I;16")  # of images with one number for each pixel


class Entry(NamedTuple):
    """One prediction as it stands in the file.

    Attributes:
        where: its place there, for messages.
        content: what should have the keys `sent_id`, or `image_id`, `ref_id` and `text`, and `segmentation`.
        wrong: why its segmentation cannot be read; None where it can.
    """

    where: str
    content: object
    wrong: Wrong | None = None


def read(path: Path) -> Iterator[Entry]:
    """Every entry of a file or folder, one after the other.

    Raises:
        PredictionsError: it is of none of the formats, or cannot be read.
    """
    if path.is_dir():
        return _of_folder(path)
    if (reader := READERS.get(path.suffix.lower())) is None:
        raise PredictionsError(f"{path}: expected a folder of PNG masks, or a file that ends with {', '.join(READERS)}")
    return reader(path)


def _of_json(path: Path) -> Iterator[Entry]:
    try:
        entries = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise PredictionsError(f"{path}: not JSON: {error}") from None
    if not isinstance(entries, list):
        raise PredictionsError(f"{path}: expected a list of predictions, found {shown(entries)}")
    yield from (Entry(f"entry {number}", entry) for number, entry in enumerate(entries, start=1))


def _of_lines(path: Path) -> Iterator[Entry]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                yield Entry(f"line {number}", orjson.loads(line))
            except orjson.JSONDecodeError as error:
                raise PredictionsError(f"{path}: line {number} is not JSON: {error}") from None


def _of_parquet(path: Path) -> Iterator[Entry]:
    """A segmentation may be a struct, a list of polygons, or either of them as JSON text."""
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(ROWS):
                for content in batch.to_pylist():
                    number += 1
                    yield _parsed(Entry(f"row {number}", content))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise PredictionsError(f"{path}: not a Parquet file that can be read: {' '.join(str(error).split())}") from None


def _parsed(entry: Entry) -> Entry:
    text = entry.content.get("segmentation")
    if not isinstance(text, str):
        return entry
    try:
        return entry._replace(content={**entry.content, "segmentation": orjson.loads(text)})
    except orjson.JSONDecodeError:
        return entry._replace(wrong=Wrong("segmentation is text that is not JSON", shown(text)))


def _of_folder(path: Path) -> Iterator[Entry]:
    """SENT_ID.png for each expression."""
    files = sorted(path.glob("*.png"))
    if not files:
        raise PredictionsError(f"{path}: holds no PNG file; a mask is called SENT_ID.png")
    for file in files:
        sent_id = int(file.stem) if file.stem.isascii() and file.stem.isdecimal() else file.stem
        try:
            yield Entry(file.name, {"sent_id": sent_id, "segmentation": _pixels(file)})
        except Wrong as wrong:
            yield Entry(file.name, {"sent_id": sent_id}, wrong)


def _pixels(file: Path) -> np.ndarray:
    """The mask in a PNG file, bool (height, width): 0 is outside. Raises Wrong."""
    try:
        with Image.open(file, formats=["PNG"]) as image:
            mode, values = image.mode, np.asarray(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise Wrong("PNG that cannot be read", str(error)) from None
    if mode not in MODES:
        raise Wrong("PNG with several numbers for each pixel, not a mask", f"mode {mode}")
    if len(np.unique(values)) > 2 or (values.min() != values.max() and values.min() != 0):
        raise Wrong("PNG with other values than 0 and one more, not a mask", f"{len(np.unique(values))} values")
    return values != 0


READERS: dict[str, Callable[[Path], Iterator[Entry]]] = {
    ".json": _of_json,
    ".jsonl": _of_lines,
    ".parquet": _of_parquet,
}
