"""Can a data set be solved by a shortcut? Three attempts, on one split, beside the trained model.

- `everything`: the whole picture is the answer.
- `colour words`: each pixel judged by its colour and the colour words of the expression alone; a gradient-boosted
  classifier and its threshold are fitted on train.
- `shuffled expressions`: the trained model is given expressions of other pictures.

All are scored under protocol `original`. Needs `dvc repro evaluate` first. Adds its rows to
`benchmarks/results/shortcuts.csv`.
"""

import argparse
import datetime
import platform
import re
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageFilter
from sklearn.ensemble import HistGradientBoostingClassifier

from stages import layout, params, prepared, trained
from stages.evaluate.metrics import summarise
from stages.evaluate.protocols import PROTOCOLS
from stages.evaluate.score import score
from stages.prepare.scenes.arrangement import COLOURS
from stages.samples import Expressions

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
        ("everything", None): _scored(dataset, rows, lambda image, text: np.ones(image.shape[:2], bool)),
        ("colour words", None): _scored(dataset, rows, _colour_words(dataset)),
    }
    for seed in settings.experiment.seeds:
        model, processor = trained.load(layout.model(arguments.dataset, arguments.variant, seed))
        for name, texts in (("trained model", rows["text"]), ("shuffled expressions", _shuffled(rows, seed))):
            expressions = Expressions(dataset, rows.assign(text=texts), processor)
            scores = score(model, expressions, PROTOCOL, settings.evaluation.batch_size)
            found[f"{name}: {arguments.variant}", seed] = summarise(scores, PROTOCOL)
    table = pd.DataFrame(
        [
            {
                "date": datetime.date.today().isoformat(),
                "machine": f"{platform.machine()}, CPU",
                "dataset": arguments.dataset,
                "split": arguments.split,
                "method": method,
                "seed": seed,
                "expressions": metrics["expressions"],
                "mIoU": round(metrics["mIoU"], 4),
                "oIoU": round(metrics["oIoU"], 4),
                "command": f"python -m benchmarks.shortcuts --dataset {arguments.dataset} "
                f"--variant {arguments.variant} --split {arguments.split}",
            }
            for (method, seed), metrics in found.items()
        ]
    ).astype({"seed": "Int64"})
    print(table[["method", "seed", "expressions", "mIoU", "oIoU"]].to_string(index=False))
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(RESULTS, mode="a", header=not RESULTS.exists(), index=False)


def _scored(dataset: prepared.PreparedDataset, rows: pd.DataFrame, segment) -> dict[str, float]:
    """Metrics of `segment(image (height, width, 3), text) -> mask`."""
    masks = [segment(_image(dataset, row), row.text) for row in rows.itertuples()]
    return _metrics(masks, [_truth(dataset, row) for row in rows.itertuples()])


def _metrics(masks: list[np.ndarray], truths: list[np.ndarray]) -> dict[str, float]:
    pairs = list(zip(masks, truths, strict=True))
    return summarise(
        pd.DataFrame(
            {
                "intersection": [int((mask & truth).sum()) for mask, truth in pairs],
                "union": [int((mask | truth).sum()) for mask, truth in pairs],
            }
        ),
        PROTOCOL,
    )


def _colour_words(dataset: prepared.PreparedDataset):
    """A segmentation by colours and colour words alone, fitted on train."""
    rows = dataset.split("train").sample(FITTED_ON, random_state=0)
    random = np.random.default_rng(0)
    images, truths = zip(*((_image(dataset, row), _truth(dataset, row)) for row in rows.itertuples()), strict=True)
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
    quality = [_metrics([p > threshold for p in held], list(truths[:300]))["mIoU"] for threshold in THRESHOLDS]
    best = THRESHOLDS[int(np.argmax(quality))]
    return lambda image, text: likelihood(image, text) > best


def _features(image: np.ndarray, text: str) -> np.ndarray:
    """Colour of each pixel, sharp and smoothed, and which colour words the text has: (height * width, 12)."""
    smooth = np.asarray(Image.fromarray(image).filter(ImageFilter.BoxBlur(2)))
    colours = np.concatenate([image, smooth], axis=-1).reshape(-1, 6)
    words = [bool(re.search(rf"\b{colour}\b", text)) for colour in COLOURS]
    return np.concatenate([colours, np.tile(words, (len(colours), 1))], axis=1).astype(np.float32)


def _shuffled(rows: pd.DataFrame, seed: int) -> list[str]:
    """Every expression given to another picture than its own: the texts moved on by a random number of pictures."""
    pictures = rows["image_id"].drop_duplicates().to_numpy()
    step = int(np.random.default_rng(seed).integers(1, len(pictures)))
    source = dict(zip(pictures, np.roll(pictures, step), strict=True))
    texts = {picture: group["text"].tolist() for picture, group in rows.groupby("image_id")}
    place = rows.groupby("image_id").cumcount()
    return [
        texts[source[picture]][index % len(texts[source[picture]])]
        for picture, index in zip(rows["image_id"], place, strict=True)
    ]


def _image(dataset: prepared.PreparedDataset, row) -> np.ndarray:
    with Image.open(dataset.instances.at[row.ann_id, "image"]) as image:
        return np.asarray(image.convert("RGB"))


def _truth(dataset: prepared.PreparedDataset, row) -> np.ndarray:
    instance = dataset.instances.loc[row.ann_id]
    return prepared.decode_mask(instance["mask"], instance["height"], instance["width"]).astype(bool)


if __name__ == "__main__":
    main()
