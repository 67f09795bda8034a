"""Diagnoses of runs as `stages.diagnose` writes them, made up: near the true mask where a run is good."""

import json
from collections.abc import Iterable

import numpy as np
import pandas as pd

from stages.data import prepared
from stages.runtime import layout

GRID = 4
WORDS = ["[CLS]", "the", "thing", "[SEP]"]
MEASURES = [f"{name}{region}" for name in ("ap", "logit_ap", "base") for region in ("", "_ring", "_distractors")]


def write(name: str, variants: Iterable[str], seeds: Iterable[int], without_attention: Iterable[str] = ("baseline",)):
    """All files of every run; a summary that lies there already is added to."""
    dataset = prepared.read(layout.prepared(name))
    for place, variant in enumerate(variants):
        for seed in seeds:
            _write_run(name, dataset, variant, seed, 0.5 + 0.05 * place, variant not in without_attention)


def alignment(rows: pd.DataFrame, level: float, generator: np.random.Generator) -> pd.DataFrame:
    """One row an expression; not every expression has a distractor."""
    values = np.clip(generator.normal(level, 0.1, (len(rows), len(MEASURES))), 0, 1)
    table = pd.concat([rows[["sent_id", "image_id", "split"]].reset_index(drop=True), pd.DataFrame(values)], axis=1)
    table.columns = ["sent_id", "image_id", "split", *MEASURES]
    without = table["sent_id"] % 3 == 0
    table.loc[without, [name for name in MEASURES if name.endswith("_distractors")]] = np.nan
    return table


def attention(sent_id: int, generator: np.random.Generator) -> pd.DataFrame:
    """Two levels, both directions, shares that sum to 1 as they do in VLBA."""
    parts = []
    for level, side in ((0, GRID), (1, GRID // 2)):
        shares = generator.random((len(WORDS), side, side))
        over = {"text_to_pixel": shares.sum(axis=0), "pixel_to_text": shares.sum(axis=(1, 2), keepdims=True)}
        word, row, column = np.indices(shares.shape).reshape(3, -1)
        for direction, total in over.items():
            about = {"level": level, "direction": direction, "word_index": word, "word": np.array(WORDS)[word]}
            where = {"row": row, "column": column, "share": (shares / total).ravel()}
            parts.append(pd.DataFrame({"sent_id": sent_id, **about, **where}))
    return pd.concat(parts, ignore_index=True)


def embedding(sent_id: int, generator: np.random.Generator) -> pd.DataFrame:
    """Pixels of one image around its center, which is the last row."""
    row, column = np.indices((GRID, GRID)).reshape(2, -1)
    x, y = generator.normal(size=(2, GRID * GRID + 1))
    kinds = [*np.where((row < 2) & (column < 2), "inside", "outside"), "center"]
    places = {"row": [*row, -1], "column": [*column, -1]}
    return pd.DataFrame({"sent_id": sent_id, **places, "x": x, "y": y, "kind": kinds, "similarity": 0.5})


def _write_run(
    name: str, dataset: prepared.PreparedDataset, variant: str, seed: int, level: float, attends: bool
) -> None:
    generator = np.random.default_rng([seed, len(variant)])
    folder = layout.diagnosis(name, variant, seed)
    folder.mkdir(parents=True, exist_ok=True)
    splits = dataset.evaluation_splits
    scored = pd.concat([dataset.split(split) for split in splits])
    alignment(scored, level, generator).to_parquet(folder / "alignment.parquet", index=False)

    low, cuts = np.arange(20) / 20, np.arange(1, 20) / 20
    bins = {"low": low, "high": low + 0.05, "pixels": 1000, "probability": low + 0.02, "inside": low**2}
    pd.concat([pd.DataFrame({"split": split, **bins}) for split in splits]).to_csv(
        folder / "calibration.csv", index=False
    )
    curve = {"threshold": cuts, "mIoU": level - (cuts - 0.4) ** 2, "oIoU": level - (cuts - 0.45) ** 2}
    pd.concat([pd.DataFrame({"split": split, **curve}) for split in splits]).to_csv(
        folder / "thresholds.csv", index=False
    )
    samples = dataset.split(splits[0]).head(2)
    table = samples[["sent_id", "image_id", "ann_id", "text"]]
    table = table.assign(words=" ".join(WORDS), variance_x=0.5, variance_y=0.25)
    table.to_csv(folder / "samples.csv", index=False)
    ids = table["sent_id"]
    pd.concat([embedding(sent_id, generator) for sent_id in ids]).to_parquet(folder / "embedding.parquet", index=False)
    looked = pd.concat([attention(sent_id, generator) for sent_id in ids])
    (looked if attends else looked.head(0)).to_parquet(folder / "attention.parquet", index=False)

    path = folder / "summary.json"
    summary = json.loads(path.read_text()) if path.exists() else {}
    of_split = {"brier": 0.05, "expected_error": 0.03, "mIoU": level, "mIoU_best_threshold": level + 0.01}
    summary |= {"best_threshold": 0.4, "calibration": {split: of_split for split in splits}}
    path.write_text(json.dumps(summary))
