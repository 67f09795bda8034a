"""Predictions on the same expressions for every run, as images in MLflow: hits, misses and false alarms."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from PIL import Image

from stages.data import prepared
from stages.data.prepared import PreparedDataset
from stages.drawing import mask_comparison, overlays
from stages.tracking import store
from stages.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun

EXPRESSIONS = 12
SIZE = (192, 192)  # pixels, at most
LONGEST = 60  # characters of an expression in the name of a file


def chosen(dataset: PreparedDataset) -> pd.DataFrame:
    """The expressions: of each split that is evaluated as many, evenly spread over its sent_ids."""
    splits = dataset.evaluation_splits
    rows = []
    for index, split in enumerate(splits):
        own = dataset.split(split)
        wanted = min(len(own), EXPRESSIONS // len(splits) + (index < EXPRESSIONS % len(splits)))
        rows.append(own.iloc[[(2 * part + 1) * len(own) // (2 * wanted) for part in range(wanted)]])
    return pd.concat(rows)


def keys(dataset: PreparedDataset) -> list[str]:
    """The keys of the images: number, split and expression."""
    return [
        f"predictions/{store.legal(f'{number:02} {row.split} {row.text[:LONGEST]}').replace('/', ' ').strip()}"
        for number, row in enumerate(chosen(dataset).itertuples(), start=1)
    ]


def send(opened: Store, mlflow_run: "MlflowRun", dataset: PreparedDataset, scores: Path) -> bool:
    """Send the images that a run lacks. Returns whether it lacked any.

    Args:
        scores: the table of the run's scores, with the predicted masks of the best epoch.
    """
    names = keys(dataset)
    there = " ".join(store.files_of_run(opened, mlflow_run.info.run_id))
    lacking = [f"{Path(name).name}+step" not in there for name in names]
    if not any(lacking):
        return False
    predicted = pd.read_parquet(scores).set_index("sent_id")
    for name, lacks, row in zip(names, lacking, chosen(dataset).itertuples(), strict=True):
        if lacks:
            image = draw(dataset, int(row.ann_id), predicted.loc[row.sent_id])
            opened.client.log_image(mlflow_run.info.run_id, image, key=name, step=0)
    return True


def draw(dataset: PreparedDataset, ann_id: int, predicted: pd.Series) -> Image.Image:
    """An instance's image with the true and the predicted mask compared, at most `SIZE`."""
    instance = dataset.instances.loc[ann_id]
    size = int(instance["width"]), int(instance["height"])
    bounds = overlays.fitted(size, SIZE)
    image = prepared.read_image(instance["image"], size).resize(bounds, Image.Resampling.BICUBIC)
    return mask_comparison.draw(
        image, _mask(instance["mask"], instance, bounds), _mask(predicted["prediction"], predicted, bounds)
    )


def _mask(counts: str, grid: pd.Series, size: tuple[int, int]) -> np.ndarray:
    """(height, width) of the size, boolean."""
    mask = prepared.decode_mask(counts, int(grid["height"]), int(grid["width"]))
    return np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST)) > 0
