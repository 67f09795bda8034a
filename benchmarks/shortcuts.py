"""Can a shortcut solve the dataset? Two shortcuts, beside the controls that the report has.

- `colour words`: a gradient-boosted classifier, fitted with its threshold on train, judges each pixel only by its
  colour and the colour words of the expression.
- `a thing of the right kind`: the true mask of a thing that some expression refers to, of the kind that is meant, at
  random. It is what knowing the noun is worth to whoever segments perfectly.

Both are scored under protocol `original`. Needs `dvc repro prepare` first. Adds its rows to
`benchmarks/results/shortcuts.csv`.
"""

import argparse
import re
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageFilter
from sklearn.ensemble import HistGradientBoostingClassifier

from benchmarks import table
from models import images
from stages.ablate import without_model
from stages.data import prepared
from stages.prepare.scenes.arrangement import COLOURS
from stages.runtime import layout
from stages.scoring.metrics import summarise
from stages.scoring.protocols import PROTOCOLS

RESULTS = Path("benchmarks/results/shortcuts.csv")
PROTOCOL = PROTOCOLS["original"]
FITTED_ON, PIXELS = 1500, 150  # expressions of train, pixels of each
THRESHOLDS = np.linspace(0.1, 0.7, 25)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shortcuts", description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="scenes", help="a key of datasets in params.yaml")
    parser.add_argument("--split", default="val")
    arguments = parser.parse_args()

    dataset = prepared.read(layout.prepared(arguments.dataset))
    expressions = dataset.split(arguments.split)
    rows = [
        {
            **table.surroundings("scikit-learn"),
            "dataset": arguments.dataset,
            "split": arguments.split,
            "method": method,
            "expressions": len(expressions),
            **{name: round(summarise(counts, PROTOCOL)[name], 4) for name in ("mIoU", "oIoU")},
            "command": f"python -m benchmarks.shortcuts --dataset {arguments.dataset} --split {arguments.split}",
        }
        for method, counts in (
            ("colour words", _of_colour_words(dataset, expressions)),
            ("a thing of the right kind", _of_right_kind(dataset, expressions)),
        )
    ]
    for row in rows:
        print(", ".join(f"{key} {row[key]}" for key in ("method", "expressions", "mIoU", "oIoU")))
    table.append(RESULTS, rows)


def _image(dataset: prepared.PreparedDataset, row) -> np.ndarray:
    """The image of an expression: uint8 (height, width, 3)."""
    return np.asarray(images.read(dataset.instances.at[row.ann_id, "image"]))


def _true_mask(dataset: prepared.PreparedDataset, row) -> np.ndarray:
    """The true mask of an expression: bool (height, width)."""
    instance = dataset.instances.loc[row.ann_id]
    return prepared.decode_mask(instance["mask"], instance["height"], instance["width"]).astype(bool)


def _of_right_kind(dataset: prepared.PreparedDataset, rows: pd.DataFrame) -> pd.DataFrame:
    """Intersection and union of each true mask with that of a random thing of the same kind in the same image."""
    random, kinds = np.random.default_rng(0), rows["ann_id"].map(dataset.instances["category"])
    chosen = rows.groupby(["image_id", kinds])["ann_id"].transform(lambda ids: random.choice(ids.unique(), len(ids)))
    picked, meant = (
        [_true_mask(dataset, row) for row in each.itertuples()] for each in (rows.assign(ann_id=chosen), rows)
    )
    return without_model.counts(zip(picked, meant, strict=True))


def _of_colour_words(dataset: prepared.PreparedDataset, tested: pd.DataFrame) -> pd.DataFrame:
    """Intersection and union of each true mask with what the classifier, fitted on train, makes of the colours."""
    rows = dataset.split("train").sample(FITTED_ON, random_state=0)
    random = np.random.default_rng(0)
    seen = [_image(dataset, row) for row in rows.itertuples()]
    truths = [_true_mask(dataset, row) for row in rows.itertuples()]
    features, inside = [], []
    for image, truth, text in zip(seen, truths, rows["text"], strict=True):
        pixels = random.integers(truth.size, size=PIXELS)
        features.append(_features(image, text)[pixels])
        inside.append(truth.ravel()[pixels])
    classifier = HistGradientBoostingClassifier(max_iter=200, random_state=0)
    classifier.fit(np.concatenate(features), np.concatenate(inside))

    def likelihood(image: np.ndarray, text: str) -> np.ndarray:
        return classifier.predict_proba(_features(image, text))[:, 1].reshape(image.shape[:2])

    held = [likelihood(image, text) for image, text in zip(seen[:300], rows["text"][:300], strict=True)]
    quality = [_mean_iou([p > threshold for p in held], truths[:300]) for threshold in THRESHOLDS]
    best = THRESHOLDS[int(np.argmax(quality))]
    pairs = (
        (likelihood(_image(dataset, row), row.text) > best, _true_mask(dataset, row)) for row in tested.itertuples()
    )
    return without_model.counts(pairs)


def _mean_iou(masks: list[np.ndarray], truths: list[np.ndarray]) -> float:
    return summarise(without_model.counts(zip(masks, truths, strict=True)), PROTOCOL)["mIoU"]


def _features(image: np.ndarray, text: str) -> np.ndarray:
    """Each pixel's colour, sharp and smoothed, and the colour words of the text: (height * width, 12)."""
    smooth = np.asarray(Image.fromarray(image).filter(ImageFilter.BoxBlur(2)))
    colours = np.concatenate([image, smooth], axis=-1).reshape(-1, 6)
    words = [bool(re.search(rf"\b{colour}\b", text)) for colour in COLOURS]
    return np.concatenate([colours, np.tile(words, (len(colours), 1))], axis=1).astype(np.float32)


if __name__ == "__main__":
    main()
