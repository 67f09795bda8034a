"""Can a shortcut solve the dataset? Four shortcuts on one split, beside the trained model.

- `whole image`: the mask is the whole image.
- `colour words`: a gradient-boosted classifier, fitted with its threshold on train, judges each pixel only by its
  colour and the colour words of the expression.
- `shuffled expressions`: the trained model gets expressions of other images.
- `a thing of the right kind`: the true mask of a thing that some expression refers to, of the kind that is meant, at
  random. It is what knowing the noun is worth to whoever segments perfectly.

All are scored under protocol `original`. Needs `dvc repro evaluate` first. Adds its rows to
`benchmarks/results/shortcuts.csv`.
"""

import argparse
import re
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageFilter
from sklearn.ensemble import HistGradientBoostingClassifier

from benchmarks import baselines, table
from stages.ablate import without_model
from stages.data import prepared
from stages.data.samples import Expressions
from stages.evaluate.other_expressions import of_other_images
from stages.prepare.scenes.arrangement import COLOURS
from stages.runtime import layout, params
from stages.scoring import trained
from stages.scoring.metrics import summarise
from stages.scoring.protocols import PROTOCOLS
from stages.scoring.score import score

RESULTS = Path("benchmarks/results/shortcuts.csv")
PROTOCOL = PROTOCOLS["original"]
FITTED_ON, PIXELS = 1500, 150  # expressions of train, pixels of each
THRESHOLDS = np.linspace(0.1, 0.7, 25)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shortcuts", description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="scenes", help="a key of datasets in params.yaml")
    parser.add_argument("--variant", default="alignformer", help="a trained variant")
    parser.add_argument("--split", default="val")
    arguments = parser.parse_args()

    settings = params.read_or_exit()
    dataset = prepared.read(layout.prepared(arguments.dataset))
    rows = dataset.split(arguments.split)
    found = {
        ("whole image", None): summarise(without_model.counted(dataset, rows, PROTOCOL)["whole image"], PROTOCOL),
        ("colour words", None): summarise(baselines.counted(dataset, rows, _colour_words(dataset)), PROTOCOL),
        ("a thing of the right kind", None): summarise(_of_right_kind(dataset, rows), PROTOCOL),
    }
    for seed in settings.experiment.seeds:
        model, processor = trained.load(layout.model(arguments.dataset, arguments.variant, seed))
        others = rows["text"].to_numpy()[of_other_images(rows)]
        for name, texts in (("trained model", rows["text"]), ("shuffled expressions", others)):
            expressions = Expressions(dataset, rows.assign(text=texts), processor)
            scores = score(model, expressions, PROTOCOL, settings.evaluation.batch_size)
            found[f"{name}: {arguments.variant}", seed] = summarise(scores, PROTOCOL)
    command = f"python -m benchmarks.shortcuts --dataset {arguments.dataset} --variant {arguments.variant}"
    rows = [
        {
            **table.surroundings("torch", "transformers", "scikit-learn"),
            "dataset": arguments.dataset,
            "split": arguments.split,
            "method": method,
            "seed": seed,
            "expressions": metrics["expressions"],
            "mIoU": round(metrics["mIoU"], 4),
            "oIoU": round(metrics["oIoU"], 4),
            "command": f"{command} --split {arguments.split}",
        }
        for (method, seed), metrics in found.items()
    ]
    for row in rows:
        print(", ".join(f"{key} {row[key]}" for key in ("method", "seed", "expressions", "mIoU", "oIoU")))
    table.append(RESULTS, rows)


def _of_right_kind(dataset: prepared.PreparedDataset, rows: pd.DataFrame) -> pd.DataFrame:
    """Intersection and union of each true mask with that of a random thing of the same kind in the same image."""
    random, kinds = np.random.default_rng(0), rows["ann_id"].map(dataset.instances["category"])
    chosen = rows.groupby(["image_id", kinds])["ann_id"].transform(lambda ids: random.choice(ids.unique(), len(ids)))
    picked, meant = (
        [baselines.true_mask(dataset, row) for row in table.itertuples()]
        for table in (rows.assign(ann_id=chosen), rows)
    )
    return without_model.counts(zip(picked, meant, strict=True))


def _colour_words(dataset: prepared.PreparedDataset):
    """A segmentation that uses colours and colour words only, fitted on train."""
    rows = dataset.split("train").sample(FITTED_ON, random_state=0)
    random = np.random.default_rng(0)
    images = [baselines.image(dataset, row) for row in rows.itertuples()]
    truths = [baselines.true_mask(dataset, row) for row in rows.itertuples()]
    features, inside = [], []
    for image, truth, text in zip(images, truths, rows["text"], strict=True):
        pixels = random.integers(truth.size, size=PIXELS)
        features.append(_features(image, text)[pixels])
        inside.append(truth.ravel()[pixels])
    classifier = HistGradientBoostingClassifier(max_iter=200, random_state=0)
    classifier.fit(np.concatenate(features), np.concatenate(inside))

    def likelihood(image: np.ndarray, text: str) -> np.ndarray:
        return classifier.predict_proba(_features(image, text))[:, 1].reshape(image.shape[:2])

    held = [likelihood(image, text) for image, text in zip(images[:300], rows["text"][:300], strict=True)]
    quality = [_mean_iou([p > threshold for p in held], truths[:300]) for threshold in THRESHOLDS]
    best = THRESHOLDS[int(np.argmax(quality))]
    return lambda image, text: likelihood(image, text) > best


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
