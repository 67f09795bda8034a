"""Segments in images what referring expressions mean."""

import argparse
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from stages.runtime.errors import exit_on_error
from stages.runtime.startup import start


def main(arguments: Sequence[str] | None = None) -> None:
    """Answer every request. The exit code is 1 where some could not be answered, 2 for a wrong command line."""
    command = parser()
    options = command.parse_args(arguments)
    if bool(options.csv) == bool(options.image) or bool(options.image) != bool(options.text):
        command.error("give --image and --text, or --csv")
    if not 0 < options.threshold < 1:
        command.error(f"--threshold {options.threshold:g} is not between 0 and 1")
    sys.stdout.reconfigure(errors="backslashreplace")  # names and expressions that the terminal cannot show
    with exit_on_error():
        from stages.predict.predictions import Request, answer, from_csv

        texts = [(text, f"--text, expression {number}") for number, text in enumerate(options.text or [], 1)]
        pairs = product(options.image or [], texts)
        asked = from_csv(options.csv) if options.csv else [Request(image, *text) for image, text in pairs]
        try:
            failed = answer(asked, options.model, options.out, options.threshold)
        except OSError as error:
            sys.exit(f"error: {error}")
    if failed:
        sys.exit(f"error: {failed} of {len(asked)} were not predicted, for the reasons above")


def parser() -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(
        prog="python -m stages.predict",
        description="Segment in images what referring expressions mean. For each pair of image and expression an "
        "overlay and a mask are written as PNG, and predictions.json has all scores, and all masks as COCO RLE.",
        epilog="example: python -m stages.predict --model scenes/alignformer/0 --image a.png b.png --text 'red circle'",
    )
    command.add_argument(
        "--model",
        required=True,
        help="a folder; DATASET/VARIANT/SEED for a run, after EXPERIMENT/ for one of another experiment; or of MLflow "
        "NAME@ALIAS, models:/NAME/VERSION",
    )
    command.add_argument(
        "--image", nargs="+", type=Path, metavar="FILE", help="images; every text is looked for in each"
    )
    command.add_argument("--text", nargs="+", metavar="EXPRESSION", help="referring expressions")
    command.add_argument(
        "--csv",
        type=Path,
        metavar="FILE",
        help="instead, a table with columns image (a path, relative to the folder of the table) and text",
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


if __name__ == "__main__":
    start()
    main()
