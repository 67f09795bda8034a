"""How fast are images loaded, and how much of that time is JPEG decoding, which no loader can avoid?

Each loader is measured beside its lower bound: Pillow decodes the same files in as many processes, and the result is
discarded. `decoding` is the time of the bound as a share of the loader's. Both take turns in every round, since the
speed of a shared machine varies; results are the median and the range of the rounds.

Needs both prepared datasets: `python -m stages.prepare --experiment photographs --dataset NAME` for refer_mini and
refer_true.
Writes `benchmarks/results/loading.csv`.
"""

import argparse
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, features
from torch.utils.data import DataLoader, Dataset

from benchmarks import table
from stages.data import prepared, samples
from stages.data.samplers import OneExpressionPerRef
from stages.data.samples import Expressions
from stages.runtime import experiments, layout, params
from stages.setup import build

RESULTS = Path("benchmarks/results/loading.csv")
CASES = (("refer_mini", 256, 1), ("refer_true", 480, 10))  # dataset, input size, passes per round
EXPRESSIONS = 2000  # at most, per dataset
WORKERS = (0, 1, 2)
BATCH_SIZE = 16


class Decoding(Dataset):
    """Decodes lists of files and returns how many there were."""

    def __getitem__(self, files: list[str]) -> int:
        for file in files:
            with Image.open(file) as image:
                image.load()
        return len(files)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loading", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    samples.PIXEL_MEMORY = 0  # no cache: otherwise later rounds would find decoded images

    rows = []
    for name, size, passes in CASES:
        expressions = load(name, size)
        for kind in ("training", "evaluation"):
            for workers in WORKERS:
                rows.append(
                    {"images": name, "input": size, "loader": kind, "workers": workers}
                    | measure(expressions, kind, workers, rounds, passes)
                )
                print(*(f"{key} {value}" for key, value in rows[-1].items()), sep=", ", flush=True)
    RESULTS.unlink(missing_ok=True)
    around = surroundings()
    table.append(RESULTS, [row | {"rounds": rounds} | around for row in rows])


def load(name: str, size: int) -> Expressions:
    """Expressions of a prepared dataset, for a model with this input size."""
    settings = params.read_or_exit()
    try:
        dataset = prepared.read(experiments.folder("photographs") / layout.prepared(name))
    except FileNotFoundError as error:
        sys.exit(f"error: {error}")
    rows = dataset.expressions.head(EXPRESSIONS)
    model = settings.recipes[settings.experiment.recipe].model.model_copy(update={"image_size": size})
    return Expressions(dataset, rows, build.processor(model, rows["text"].tolist()))


def measure(expressions: Expressions, kind: str, workers: int, rounds: int, passes: int) -> dict[str, float]:
    """Images and expressions per second of a loader and of its bound, after one warm-up round."""
    if kind == "training":
        loader = expressions.loader(BATCH_SIZE, OneExpressionPerRef(expressions.rows, seed=0), workers)
    else:
        loader = expressions.by_image(BATCH_SIZE, workers)
    images, sentences = np.sum([(len(batch.pixel_values), len(batch.rows)) for batch in loader], axis=0)
    reader, lists = expressions.reader, list(loader.sampler)
    files = [[reader.files.string(image) for image in _images(reader, rows)] for rows in lists]
    floor = DataLoader(Decoding(), batch_size=None, sampler=files, num_workers=workers, persistent_workers=workers > 0)
    assert sum(floor) == images

    times = np.array([(_seconds(loader, passes), _seconds(floor, passes)) for _ in range(rounds)])  # (rounds, 2)
    loading, decoding = np.median(times, axis=0)
    shares = times[:, 1] / times[:, 0]
    return {
        "images/s": round(passes * images / loading, 1),
        "expressions/s": round(passes * sentences / loading, 1),
        "decoded alone, images/s": round(passes * images / decoding, 1),
        "decoding": round(float(np.median(shares)), 3),
        "lowest": round(float(shares.min()), 3),
        "highest": round(float(shares.max()), 3),
    }


def _images(reader: samples.Reader, rows: list[int]) -> list[int]:
    return reader.image_index[reader.instance_index[rows]].unique().tolist()


def _seconds(batches: Iterable, passes: int) -> float:
    start = time.perf_counter()
    for _ in range(passes):
        for _ in batches:
            pass
    return time.perf_counter() - start


def surroundings() -> dict[str, object]:
    """The columns on what the results depend on besides the code."""
    found = table.surroundings("torch", "pillow")
    found["versions"] += f"; libjpeg-turbo {features.version('libjpeg_turbo')}"
    return {
        "batch_size": BATCH_SIZE,
        "threads of a process": torch.get_num_threads(),
        **found,
        "command": "python -m benchmarks.loading",
    }


if __name__ == "__main__":
    main()
