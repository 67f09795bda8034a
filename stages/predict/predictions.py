"""Answers requests, each for an image and an expression, and writes the masks."""

import csv
import json
import re
import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from models import images
from models.alignformer import AlignFormer
from models.prediction import Prediction, segment
from models.processing import AlignFormerProcessor, TooLongError
from stages.data import prepared
from stages.drawing import overlays
from stages.runtime import processes
from stages.runtime.atomic_write import atomic_write
from stages.runtime.errors import UserError
from stages.scoring import trained
from stages.serving import source

COLUMNS = {"image", "text"}
PREDICTIONS = "predictions.json"
BATCH = 16  # expressions of an image that are predicted at once
LONGEST_NAME = 255  # bytes of a file name
SHOWN = 5  # problems that one message names


class RequestError(UserError):
    """Requests cannot be answered; the message says which, and why."""


class Request(NamedTuple):
    """An expression to look for in an image, and where it was read, for messages: `asked.csv, line 3`."""

    image: Path
    text: str
    place: str


def answer(asked: Sequence[Request], name: str, out: Path, threshold: float) -> int:
    """Load a model, check the requests, and write every prediction. Returns how many requests failed.

    Args:
        name: of the model, as `stages.serving.source` takes it.
        out: the folder to write into.

    Raises:
        RequestError, NoModelError, OtherModelError, OSError: before any prediction.
    """
    model, processor = trained.load(source.folder(name))
    check(asked, processor)
    return predict(asked, model.to(processes.here().device).eval(), processor, name, out, threshold)


def from_csv(path: Path) -> list[Request]:
    """The requests of a CSV, in its order. Raises RequestError."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            if missing := COLUMNS - set(rows.fieldnames or []):
                raise RequestError(f"{path} has no column {' and no column '.join(sorted(missing))}")
            asked, problems = [], []
            for row in rows:
                place = f"{path}, line {rows.line_num}"
                if not row["image"] or row["text"] is None:
                    problems.append(f"{place}: a row needs an image and a text")
                else:
                    asked.append(Request(path.parent / row["image"], row["text"], place))
    except (UnicodeDecodeError, csv.Error) as error:
        raise RequestError(f"{path} is not a CSV in UTF-8: {error}") from error
    _refuse(problems)
    if not asked:
        raise RequestError(f"{path} has no row")
    return asked


def check(asked: Sequence[Request], processor: AlignFormerProcessor) -> None:
    """Check every text before any work, and print what the model does not read of them. Raises RequestError."""
    places: dict[str, dict[str, None]] = {}
    for request in asked:
        places.setdefault(request.text, {})[request.place] = None
    problems, unknown = [], {}
    for text in places:
        try:
            processor.check(text)
        except TooLongError as error:
            print(f"warning: {error}: its end is not read, as in training and in the scores", file=sys.stderr)
        except ValueError as error:
            problems += [f"{place}: {error}" for place in places[text]]
            continue
        unknown |= dict.fromkeys(processor.unknown_words(text))
    _refuse(problems)
    if unknown:
        print(
            f"note: not in the model's vocabulary, read as unknown words: {', '.join(map(repr, unknown))}",
            file=sys.stderr,
        )


def _refuse(problems: list[str]) -> None:
    """Raise RequestError with the first problems, if there are any."""
    if problems:
        more = len(problems) - SHOWN
        raise RequestError("\n".join([*problems[:SHOWN], *([f"and {more} more"] if more > 0 else [])]))


def predict(
    asked: Sequence[Request],
    model: AlignFormer,
    processor: AlignFormerProcessor,
    name: str,
    out: Path,
    threshold: float,
) -> int:
    """Write every prediction, print it, and print why a request fails. Returns how many requests failed."""
    entries, failed = [], 0
    out.mkdir(parents=True, exist_ok=True)
    try:
        with tqdm(total=len(asked), desc="predict", disable=None if len(asked) > 1 else True, leave=False) as bar:
            for path, batch in batches(asked):
                try:
                    image = opened(path)
                except RequestError as error:
                    tqdm.write(f"error: {error}", file=sys.stderr)
                    failed += len(batch)
                else:
                    texts = [request.text for _, request in batch]
                    found = segment(model, processor, [image], texts, threshold, truncation=True)
                    for (number, request), prediction in zip(batch, found, strict=True):
                        entries.append(written(out, number, request, image, prediction))
                        tqdm.write(described(entries[-1], out))
                bar.update(len(batch))
    except KeyboardInterrupt:
        sys.exit(f"interrupted after {len(entries)} of {len(asked)}; {out / PREDICTIONS} has them")
    finally:
        with atomic_write(out / PREDICTIONS) as file:
            content = {"model": name, "threshold": threshold, "predictions": entries}
            text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
            file.write_text(text, encoding="utf-8", errors="backslashreplace")  # a file's name may be of other bytes
    return failed


def batches(asked: Sequence[Request]) -> Iterator[tuple[Path, list[tuple[int, Request]]]]:
    """Up to `BATCH` requests for one image that follow each other: the image, and each with its number."""
    for image, numbered in groupby(enumerate(asked, 1), key=lambda pair: pair[1].image):
        pairs = list(numbered)
        for start in range(0, len(pairs), BATCH):
            yield image, pairs[start : start + BATCH]


def opened(path: Path) -> Image.Image:
    """The image in a file, as `models.images` reads it. Raises RequestError."""
    try:
        return images.read(path)
    except ValueError as error:
        raise RequestError(f"{path}: {error}") from error


def written(out: Path, number: int, request: Request, image: Image.Image, found: Prediction) -> dict:
    """Write mask and overlay. Returns the entry for predictions.json."""
    name = file_name(number, request)
    files = {
        "mask": (f"{name}.mask.png", Image.fromarray(np.uint8(255 * found.mask))),
        "overlay": (f"{name}.overlay.png", overlays.overlay(image, found.mask)),
    }
    for file, content in files.values():
        with atomic_write(out / file) as path:
            content.save(path, format="PNG")
    return {
        "image": str(request.image),
        "text": request.text,
        "score": found.score,
        "area": int(found.mask.sum()),
        "segmentation": {"size": list(found.mask.shape), "counts": prepared.encode_mask(found.mask)},
        **{kind: file for kind, (file, _) in files.items()},
    }


def file_name(number: int, request: Request) -> str:
    """NUMBER-IMAGE-WORDS of letters, digits, `_` and `-`: the name of a prediction's files, without what they end with.

    It is cut so that `atomic_write` can write the files. The number alone makes it unlike all others of the same call.
    """
    image, words = (re.sub(r"\W+", "-", text).strip("-") for text in (request.image.stem, request.text.lower()))
    words = words[:40]
    room = LONGEST_NAME - len(f".{number:04}--{words}.overlay.png.partial".encode())
    return f"{number:04}-{image.encode()[:room].decode(errors='ignore')}-{words}"


def described(entry: dict, out: Path) -> str:
    """An entry of predictions.json as a line for people."""
    height, width = entry["segmentation"]["size"]
    share = entry["area"] / (height * width)
    what = f"score {entry['score']:.3f}, {share:.1%} of the image" if entry["area"] else "nothing"
    return f"{entry['image']}: {entry['text']!r}: {what}, {out / entry['overlay']}"
