"""What `diagnose` found out about the runs of a dataset, read for the report."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from stages.report.dataset_numbers import ReportError
from stages.runtime import layout


@dataclass(frozen=True)
class Diagnosis:
    """The diagnoses of all runs of a dataset; tables of all of them have the columns variant and seed.

    Attributes:
        alignment: one row a run and expression: sent_id, image_id, split; ap, ap_ring and ap_distractors (average
            precision), base, base_ring and base_distractors (that of random scores).
        calibration: one row a run, split and bin: low, high, pixels, probability (mean), inside (share).
        thresholds: one row a run, split and threshold: threshold, mIoU, oIoU.
        summaries: (variant, seed) -> `summary.json`.
        embeddings: variant -> one row a point of the chosen expressions: sent_id, row, column, x, y, kind, similarity.
        attention: variant -> one row a level, direction, word and pixel of the chosen expressions; empty where a
            variant has no attention.
        samples: variant -> the chosen expressions, the same for all: sent_id, ann_id, text, and the shares of the
            variance that the map shows, variance_x and variance_y.
    """

    alignment: pd.DataFrame
    calibration: pd.DataFrame
    thresholds: pd.DataFrame
    summaries: dict[tuple[str, int], dict]
    embeddings: dict[str, pd.DataFrame]
    attention: dict[str, pd.DataFrame]
    samples: dict[str, pd.DataFrame]


def read(name: str, runs: dict[str, list[int]], shown: list[str], seed: int) -> Diagnosis:
    """Read the diagnoses of a dataset.

    Args:
        name: of the dataset.
        runs: variant -> the seeds that it was scored with.
        shown: the variants whose maps are wanted.
        seed: the one whose maps are wanted.

    Raises:
        ReportError: a run has no diagnosis; the message names the command that makes it.
    """
    pairs = [(variant, seed) for variant, seeds in runs.items() for seed in seeds]
    return Diagnosis(
        alignment=_every(name, pairs, "alignment.parquet", pd.read_parquet),
        calibration=_every(name, pairs, "calibration.csv", pd.read_csv),
        thresholds=_every(name, pairs, "thresholds.csv", pd.read_csv),
        summaries={pair: json.loads(_path(name, *pair, "summary.json").read_text(encoding="utf-8")) for pair in pairs},
        embeddings={variant: pd.read_parquet(_path(name, variant, seed, "embedding.parquet")) for variant in shown},
        attention={variant: pd.read_parquet(_path(name, variant, seed, "attention.parquet")) for variant in shown},
        samples={
            variant: pd.read_csv(_path(name, variant, seed, "samples.csv"), keep_default_na=False) for variant in shown
        },
    )


def _every(
    name: str, runs: list[tuple[str, int]], file: str, read_table: Callable[[Path], pd.DataFrame]
) -> pd.DataFrame:
    return pd.concat(
        [read_table(_path(name, *run, file)).assign(variant=run[0], seed=run[1]) for run in runs], ignore_index=True
    )


def _path(name: str, variant: str, seed: int, file: str) -> Path:
    path = layout.diagnosis(name, variant, seed) / file
    if not path.exists():
        raise ReportError(
            f"run {variant}, seed {seed} of {name} has no diagnosis: {path} is missing. "
            f"Make it with: dvc repro diagnose@{name}-{variant}-{seed}"
        )
    return path
