"""Images and referring expressions -> masks."""

import argparse
import csv
import json
import re
import sys
from collections.abc import Iterator, Sequence
from itertools import groupby, product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from models.alignformer import AlignFormer
from models.prediction import Prediction, segment
from models.processing import AlignFormerProcessor
from stages.data import prepared
from stages.drawing import overlays
from stages.runtime import processes
from stages.runtime.atomic_write import atomic_write
from stages.scoring import trained
from stages.serving import served, source

COLUMNS = {"image", "text"}
PREDICTIONS = "predictions.json"
BATCH = 16  # expressions of one image at once


class RequestError(Exception):
    """What is asked for cannot be predicted; the message says which of it, and why."""


class Request(NamedTuple):
    image: Path
    text: str


def main(arguments: Sequence[str] | None = None) -> None:
    """Predict what is asked for; exit code 1 where some of it could not be, 2 for a wrong command line."""
    command = parser()
    options = command.parse_args(arguments)
    if bool(options.csv) == bool(options.image) or bool(options.image) != bool(options.text):
        command.error("give --image and --text, or --csv")
    if not 0 < options.threshold < 1:
        command.error(f"--threshold {options.threshold:g} is not between 0 and 1")
    try:
        asked = (
            from_csv(options.csv) if options.csv else [Request(*pair) for pair in product(options.image, options.text)]
        )
        model, processor = trained.load(source.folder(options.model))
        check(asked, processor)
        failed = predict(asked, model.to(processes.here().device).eval(), processor, options)
    except (RequestError, source.NoModelError, trained.OtherModelError, OSError) as error:
        sys.exit(f"error: {error}")
    if failed:
        sys.exit(f"error: {failed} of {len(asked)} were not predicted, for the reasons above")


def parser() -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(
        prog="python -m stages.predict",
        description="Segment what referring expressions mean in images: for each an overlay and a mask as PNG, and "
        "predictions.json with scores and masks as COCO RLE.",
        epilog="example: python -m stages.predict --model scenes/alignformer/0 --image a.png b.png --text 'red circle'",
    )
    command.add_argument(
        "--model",
        required=True,
        help="a folder; DATASET/VARIANT/SEED, a run of this project; or of MLflow NAME@ALIAS, models:/NAME/VERSION",
    )
    command.add_argument("--image", nargs="+", type=Path, metavar="FILE", help="images; every text is asked of each")
    command.add_argument("--text", nargs="+", metavar="EXPRESSION", help="referring expressions")
    command.add_argument(
        "--csv",
        type=Path,
        metavar="FILE",
        help="columns image (a path, relative to the CSV's folder) and text, instead",
    )
    command.add_argument(
        "--out",
        type=Path,
        default=Path("predictions"),
        metavar="FOLDER",
        help="where to write; files of the same name are replaced (default: %(default)s)",
    )
    command.add_argument(
        "--threshold",
        type=float,
        default=0.5,
        metavar="P",
        help="probability above which a pixel is inside (default: %(default)s)",
    )
    return command


def from_csv(path: Path) -> list[Request]:
    """The requests of a CSV, in its order. Raises RequestError."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            if missing := COLUMNS - set(rows.fieldnames or []):
                raise RequestError(f"{path} has no column {' and no column '.join(sorted(missing))}")
            asked = []
            for row in rows:
                if not row["image"] or row["text"] is None:
                    raise RequestError(f"{path}, line {rows.line_num}: a row needs an image and a text")
                asked.append(Request(path.parent / row["image"], row["text"]))
    except (UnicodeDecodeError, csv.Error) as error:
        raise RequestError(f"{path} is no CSV in UTF-8: {error}") from error
    if not asked:
        raise RequestError(f"{path} has no row")
    return asked


def check(asked: Sequence[Request], processor: AlignFormerProcessor) -> None:
    """Raise RequestError before any work where a text cannot be read; say which words the model does not know."""
    problems, unknown = [], {}
    for text in dict.fromkeys(request.text for request in asked):
        try:
            processor.check(text)
        except ValueError as error:
            problems.append(str(error))
            continue
        unknown |= dict.fromkeys(processor.unknown_words(text))
    if problems:
        raise RequestError("; ".join(problems[:5]) + f"; and {len(problems) - 5} more" * (len(problems) > 5))
    if unknown:
        print(
            f"note: the model has never seen {', '.join(map(repr, unknown))} and reads each as unknown", file=sys.stderr
        )


def predict(asked: Sequence[Request], model: AlignFormer, processor: AlignFormerProcessor, options) -> int:
    """Write every prediction. Returns how many requests failed, each of which is told on the way."""
    entries, failed = [], 0
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        with tqdm(total=len(asked), desc="predict", disable=None if len(asked) > 1 else True, leave=False) as bar:
            for path, batch in batches(asked):
                try:
                    image = opened(path)
                except RequestError as error:
                    tqdm.write(f"error: {error}", file=sys.stderr)
                    failed += len(batch)
                else:
                    found = segment(model, processor, [image], [text for _, text in batch], options.threshold)
                    for (number, text), prediction in zip(batch, found, strict=True):
                        entries.append(written(options.out, number, Request(path, text), image, prediction))
                        tqdm.write(told(entries[-1], options.out))
                bar.update(len(batch))
    except KeyboardInterrupt:
        sys.exit(f"interrupted after {len(entries)} of {len(asked)}; {options.out / PREDICTIONS} has them")
    finally:
        with atomic_write(options.out / PREDICTIONS) as file:
            content = {"model": options.model, "threshold": options.threshold, "predictions": entries}
            file.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return failed


def batches(asked: Sequence[Request]) -> Iterator[tuple[Path, list[tuple[int, str]]]]:
    """Requests of one image that follow each other, at most `BATCH`: the image, and number and text of each."""
    for image, numbered in groupby(enumerate(asked, 1), key=lambda pair: pair[1].image):
        pairs = [(number, request.text) for number, request in numbered]
        for start in range(0, len(pairs), BATCH):
            yield image, pairs[start : start + BATCH]


def opened(path: Path) -> Image.Image:
    """The image of a file, as `served.decoded`. Raises RequestError."""
    try:
        return served.decoded(path.read_bytes())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise RequestError(f"{path}: {reason}") from error


def written(out: Path, number: int, request: Request, image: Image.Image, found: Prediction) -> dict:
    """Write mask and overlay; what predictions.json says of them."""
    words = re.sub(r"\W+", "-", request.text.lower()).strip("-")[:40]
    name = f"{number:04}-{request.image.stem}-{words}"
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


def told(entry: dict, out: Path) -> str:
    height, width = entry["segmentation"]["size"]
    share = entry["area"] / (height * width)
    what = f"score {entry['score']:.3f}, {share:.1%} of the image" if entry["area"] else "nothing"
    return f"{entry['image']}: {entry['text']!r}: {what}, {out / entry['overlay']}"


if __name__ == "__main__":
    main()
