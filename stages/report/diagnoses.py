"""What `diagnose` found out about the runs of a dataset, read for the report."""

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from stages.report.dataset_numbers import ReportError, check_finite
from stages.runtime import experiments, layout
from stages.runtime.run import Run


@dataclass(frozen=True)
class Diagnoses:
    """The diagnoses of all runs of a dataset; tables of all of them have the columns variant and seed.

    Attributes:
        alignment: one row for each run and expression: sent_id, image_id, split; ap, ap_ring and ap_distractors
            (average precision), base, base_ring and base_distractors (that of random scores).
        calibration: one row for each run, split and bin: low, high, pixels, probability (mean), inside (share).
        thresholds: one row for each run, split and threshold: threshold, mIoU, oIoU.
        summaries: variant -> `summary.json` of each of its runs.
        embeddings: variant -> one row for each point of the chosen expressions: sent_id, row, column, x, y, kind,
            similarity.
        attention: variant -> one row for each level, direction, word and pixel of the chosen expressions; empty where
            a variant has no attention.
        samples: variant -> the chosen expressions, the same for all: sent_id, ann_id, text, and the shares of the
            variance that the map shows, variance_x and variance_y.
    """

    alignment: pd.DataFrame
    calibration: pd.DataFrame
    thresholds: pd.DataFrame
    summaries: dict[str, list[dict]]
    embeddings: dict[str, pd.DataFrame]
    attention: dict[str, pd.DataFrame]
    samples: dict[str, pd.DataFrame]


def read(name: str, seeds: dict[str, list[int]], shown: list[str], shown_seed: int) -> Diagnoses:
    """Read the diagnoses of a dataset.

    Args:
        name: of the dataset.
        seeds: variant -> the seeds that it was scored with.
        shown: the variants whose maps are wanted.
        shown_seed: the seed whose maps are wanted.

    Raises:
        ReportError: a run has no diagnosis, or one with a number that is none; the message names the command that makes
            it.
    """
    runs = [Run(name, variant, seed) for variant, of_variant in seeds.items() for seed in of_variant]
    shown_runs = [Run(name, variant, shown_seed) for variant in shown]
    return Diagnoses(
        alignment=_every(runs, "alignment.parquet", ["sent_id", "image_id"]),
        calibration=_every(runs, "calibration.csv", ["low", "pixels"]),
        thresholds=_every(runs, "thresholds.csv", ["threshold", "mIoU", "oIoU"]),
        summaries={
            variant: [_summary(Run(name, variant, seed)) for seed in of_variant]
            for variant, of_variant in seeds.items()
        },
        embeddings={run.variant: _table(run, "embedding.parquet", ["x", "y", "similarity"]) for run in shown_runs},
        attention={run.variant: _table(run, "attention.parquet", ["share"]) for run in shown_runs},
        samples={run.variant: pd.read_csv(_path(run, "samples.csv"), keep_default_na=False) for run in shown_runs},
    )


def _every(runs: list[Run], file: str, numbers: list[str]) -> pd.DataFrame:
    tables = [_table(run, file, numbers).assign(variant=run.variant, seed=run.seed) for run in runs]
    return pd.concat(tables, ignore_index=True)


def _table(run: Run, file: str, numbers: list[str]) -> pd.DataFrame:
    """A table of a run, in which the columns `numbers` have finite values; others may lack some."""
    path = _path(run, file)
    table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    check_finite(table, numbers, path, _again(run))
    return table


def _summary(run: Run) -> dict:
    path = _path(run, "summary.json")

    def refuse(constant: str) -> None:
        raise ReportError(f"{path} holds {constant}, which is no number. {_again(run)}")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def _again(run: Run) -> str:
    return f"Make it again with: {experiments.dvc('repro -f -s', run.stage('diagnose'))}"


def _path(run: Run, file: str) -> Path:
    path = layout.diagnosis(*run) / file
    if not path.exists():
        raise ReportError(
            f"run {run.variant}, seed {run.seed} of {run.dataset} has no diagnosis: {path} is missing. "
            f"Make it with: {experiments.dvc('repro', run.stage('diagnose'))}"
        )
    return path
