"""Predictions of others -> the same scores as those of a variant, under the protocols of `params.yaml`."""

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from models.frames import Letterbox, Stretch
from stages.data import prepared
from stages.data.prepared import PreparedDataset, decode_mask, encode_mask
from stages.runtime import layout, predictions
from stages.runtime.atomic_write import atomic_write
from stages.runtime.params import Params
from stages.runtime.progress import bar
from stages.score import predicted
from stages.score.predicted import Predicted
from stages.score.segmentations import empty
from stages.scoring.metrics import iou, summarise_splits
from stages.scoring.protocols import PROTOCOLS, Protocol

FITS = {"stretch": Stretch, "letterbox": Letterbox}
COUNTS = ["intersection", "union", "height", "width", "prediction"]


def score(name: str, settings: Params) -> None:
    """Score all systems of others that have predictions on a dataset; write their scores, and what was scored.

    Raises:
        PredictionsError: a file is missing or wrong.
        FileNotFoundError: the dataset is not prepared.
    """
    protocols, paths = _protocols(settings), settings.experiment.predictions(name)
    dataset = prepared.read(layout.prepared(name))
    with atomic_write(layout.others(name)) as partial:
        partial.mkdir()
        about = {}
        for other, path in paths.items():
            allow_missing = settings.experiment.others[other].allow_missing
            scores, about[other] = _one(dataset, path, other, allow_missing, protocols)
            scores.to_parquet(partial / layout.scores_of_other(name, other).name, index=False)
        (partial / layout.about_others(name).name).write_text(_json(about), encoding="utf-8")


def try_out(name: str, path: Path, other: str, allow_missing: bool, settings: Params) -> Path:
    """Score one file that `params.yaml` does not list; write scores and metrics. Returns the path of the scores.

    Raises:
        PredictionsError, FileNotFoundError: as `score`.
    """
    dataset = prepared.read(layout.prepared(name))
    scores, about = _one(dataset, path, other, allow_missing, _protocols(settings))
    folder = layout.tried(name, other)
    with atomic_write(folder) as partial:
        partial.mkdir()
        scores.to_parquet(partial / "scores.parquet", index=False)
        (partial / "metrics.json").write_text(_json(about), encoding="utf-8")
    return folder / "scores.parquet"


def _protocols(settings: Params) -> list[Protocol]:
    return [PROTOCOLS[name] for name in settings.evaluation.protocols]


def _one(
    dataset: PreparedDataset, path: str | Path, other: str, allow_missing: bool, protocols: Sequence[Protocol]
) -> tuple[pd.DataFrame, dict]:
    """The scores of one system under the first protocol, and what was scored under each, which is printed too."""
    own, *also = protocols
    found = predicted.read(predictions.place(path), dataset, own, allow_missing)
    scores = scored(dataset, found, own, other)
    about = described(found, scores, own)
    if also:
        about["also"] = {each.name: also_under(dataset, found, each, other) for each in also}
    tell(other, about)
    return scores, about


def scored(dataset: PreparedDataset, found: Predicted, protocol: Protocol, label: str) -> pd.DataFrame:
    """The rows of `stages.scoring.score.score`, on all evaluation splits; one without a prediction has an empty mask.

    Where the protocol counts on the input's grid, true and predicted masks of the image's size are brought there by the
    protocol's frame, which takes the nearest pixel.
    """
    frame = FITS[protocol.fit](protocol.size) if protocol.fit and protocol.grid == "input" else None

    def on_grid(mask: np.ndarray) -> np.ndarray:
        return frame.mask(mask) if frame else mask

    @lru_cache(maxsize=8)  # the expressions of a ref follow each other
    def truth(ann_id: int) -> np.ndarray:
        instance = dataset.instances.loc[ann_id]
        return on_grid(decode_mask(instance["mask"], int(instance["height"]), int(instance["width"])).view(bool))

    rows = pd.concat([dataset.split(split) for split in dataset.evaluation_splits])
    rows = rows[["sent_id", "ref_id", "ann_id", "image_id", "split"]].assign(protocol=protocol.name)
    counted = []
    for sent_id, ann_id in bar(zip(rows["sent_id"], rows["ann_id"], strict=True), label, len(rows)):
        true = truth(ann_id)
        mask = on_grid((found.masks.get(sent_id) or empty(*true.shape)).pixels())
        intersection, union = int((mask & true).sum()), int((mask | true).sum())
        counted.append((intersection, union, *true.shape, encode_mask(mask)))
    counts = pd.DataFrame(counted, columns=COUNTS, index=rows.index)
    counts.insert(2, "iou", iou(counts["intersection"].to_numpy(), counts["union"].to_numpy(), protocol))
    return pd.concat([rows, counts], axis=1)


def also_under(
    dataset: PreparedDataset, found: Predicted, protocol: Protocol, other: str
) -> dict[str, dict[str, float]] | None:
    """The metrics of the same masks by split, under another protocol than the one that they were read for.

    None where a mask has the size of that one's grid alone, which this protocol does not count on.
    """
    sizes = predicted.sizes(dataset, protocol)
    if any((mask.height, mask.width) not in sizes[sent_id] for sent_id, mask in found.masks.items()):
        return None
    return summarise_splits(scored(dataset, found, protocol, f"{other}, {protocol.name}"), protocol)


def described(found: Predicted, scores: pd.DataFrame, protocol: Protocol) -> dict:
    """What was scored.

    Returns:
        protocol; missing: split -> how many expressions without a prediction were scored as empty masks; of_train: how
        many predictions were not scored; splits: split -> `metrics.summarise`.
    """
    missing = scores.loc[scores["sent_id"].isin(found.missing), "split"].value_counts(sort=False)
    return {
        "protocol": protocol.name,
        "missing": {split: int(missing[split]) for split in scores["split"].unique() if split in missing},
        "of_train": found.of_train,
        "splits": summarise_splits(scores, protocol),
    }


def tell(other: str, about: dict) -> None:
    """Print the metrics, and what a reader must know of them."""
    for protocol, splits in {about["protocol"]: about["splits"], **about.get("also", {})}.items():
        print(f"{other}, protocol {protocol}" + (": masks of another size than it counts" if splits is None else ""))
        for split, values in (splits or {}).items():
            print(f"{split}: mIoU {values['mIoU']:.4f}, oIoU {values['oIoU']:.4f}, {values['expressions']} expressions")
    for split, count in about["missing"].items():
        print(f"note: expressions of {split} without a prediction, scored as empty masks: {count:,}")
    if about["of_train"]:
        print(f"note: predictions of train, not scored: {about['of_train']:,}")


def _json(content: dict) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
