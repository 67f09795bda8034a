"""Predictions to look at: which expressions are shown, and their images with the masks."""

import io
from dataclasses import dataclass

import numpy as np
import pandas as pd
from PIL import Image

from stages.data import prepared
from stages.drawing import mask_comparison
from stages.report.dataset_numbers import ReportError
from stages.report.dataset_results import DatasetResults
from stages.runtime import experiments

EXPRESSIONS = 12
EXTREMES = 6  # expressions of a gallery that shows one end
APART = 0.1  # difference in IoU from which two variants are said to disagree on an expression
PANEL_WIDTH = 192  # pixels


@dataclass(frozen=True)
class ShownPrediction:
    """A variant's mask compared with the true one, over the image, and the intersection over union (IoU) of both."""

    variant: str
    iou: float
    image: Image.Image


@dataclass(frozen=True)
class Example:
    """One expression of a gallery, with its image and the predictions of the shown variants."""

    sent_id: int
    split: str
    text: str
    image: Image.Image
    predictions: list[ShownPrediction]


@dataclass(frozen=True)
class Gallery:
    """Expressions chosen by one rule.

    Attributes:
        key: short name, unique within the report of a dataset.
        title: what they have in common.
        rule: how they were chosen.
        examples: what is shown.
    """

    key: str
    title: str
    rule: str
    examples: list[Example]


def galleries(results: DatasetResults) -> list[Gallery]:
    """Evenly spread expressions, the largest gains and losses of the highlighted variant, its worst and its best.

    A gallery that has nothing to show, such as gains where the reference is alone, is left out.
    """
    found = [
        Gallery(
            "even",
            "Evenly spread",
            f"The expressions of each split are sorted by the IoU of {results.highlight} and cut into parts of equal "
            "size. The one in the middle of each part is shown, so failures appear in their true share.",
            examples(results),
        )
    ]
    gains, losses = _apart(results, 1), _apart(results, -1)
    counted = (
        f"Of {sum(results.counts.values()):,} expressions, {results.highlight} is above {results.reference} by more "
        f"than {APART:g} IoU on {len(gains):,} and below by as much on {len(losses):,}."
    )
    by_rule = {
        "gains": ("Largest disagreement: gains", counted, gains),
        "losses": ("Largest disagreement: losses", counted, losses),
        "worst": ("Worst", f"Lowest IoU of {results.highlight} on any split.", _by_iou(results, True)),
        "best": ("Best", f"Highest IoU of {results.highlight} on any split.", _by_iou(results, False)),
    }
    for key, (title, rule, rows) in by_rule.items():
        chosen = rows.drop_duplicates("image_id")["sent_id"].head(EXTREMES)
        if len(chosen):
            rule += " At most one expression of an image; of equal ones, the one with the smaller sent_id."
            found.append(Gallery(key, title, rule, show(results, chosen.tolist())))
    return found


def choose(results: DatasetResults, number: int = EXPRESSIONS) -> list[int]:
    """The sent_ids of the evenly spread expressions, ordered by split and then by IoU.

    Each split gives the same number of expressions, as nearly as `number` allows. Its expressions are sorted by the IoU
    of the highlighted variant and cut into that many equal parts, and the middle one of each part is taken: failures
    appear in their true share and nothing is picked by hand.
    """
    scores = results.scores[results.highlight].reset_index()
    chosen = []
    for index, split in enumerate(results.splits):
        rows = scores[scores["split"] == split].sort_values(["iou", "sent_id"])
        wanted = number // len(results.splits) + (index < number % len(results.splits))
        count = min(wanted, len(rows))
        places = [(2 * part + 1) * len(rows) // (2 * count) for part in range(count)]
        chosen.extend(int(sent_id) for sent_id in rows["sent_id"].iloc[places])
    return chosen


def examples(results: DatasetResults, number: int = EXPRESSIONS) -> list[Example]:
    """The evenly spread expressions with their images and predictions. Raises as `show`."""
    return show(results, choose(results, number))


def show(results: DatasetResults, sent_ids: list[int]) -> list[Example]:
    """Expressions with their images and predictions, images `PANEL_WIDTH` pixels wide.

    Raises:
        ReportError: an image is missing, unreadable or not of the size the prepared dataset states.
    """
    expressions = results.dataset.expressions.set_index("sent_id")
    return [_example(results, sent_id, expressions.loc[sent_id]) for sent_id in sent_ids]


def image_and_mask(results: DatasetResults, ann_id: int, width: int) -> tuple[Image.Image, np.ndarray]:
    """The image of an instance, RGB, `width` pixels wide, and its true mask over it, boolean. Raises as `show`."""
    instance = results.dataset.instances.loc[ann_id]
    height = max(1, round(width * int(instance["height"]) / int(instance["width"])))
    image = _open(results.name, instance).resize((width, height), Image.Resampling.BICUBIC)
    return image, _mask(instance["mask"], instance, width, height)


def webp(image: Image.Image) -> bytes:
    """An image as WebP, small enough to lie in the page."""
    stream = io.BytesIO()
    image.save(stream, format="WEBP", quality=82, method=6)
    return stream.getvalue()


def _by_iou(results: DatasetResults, ascending: bool) -> pd.DataFrame:
    """Scores of the highlighted variant, sorted by IoU."""
    scores = results.scores[results.highlight].reset_index()
    return scores.sort_values(["iou", "sent_id"], ascending=[ascending, True])


def _apart(results: DatasetResults, sign: int) -> pd.DataFrame:
    """Expressions on which the highlighted variant is above (1) or below (-1) the reference, by more than `APART`.

    The largest difference comes first. There are none where the reference has no scores of the same seed.
    """
    scores = results.scores[results.highlight].reset_index()
    if results.reference not in results.scores:
        return scores.head(0)
    by = sign * (
        scores["iou"].to_numpy() - results.scores[results.reference]["iou"].reindex(scores["sent_id"]).to_numpy()
    )
    rows = scores.assign(by=by)
    return rows[rows["by"] > APART].sort_values(["by", "sent_id"], ascending=[False, True])


def _example(results: DatasetResults, sent_id: int, expression: pd.Series) -> Example:
    image, truth = image_and_mask(results, expression["ann_id"], PANEL_WIDTH)
    predictions = []
    for variant, scores in results.scores.items():
        score = scores.loc[sent_id]
        predicted = _mask(score["prediction"], score, image.width, image.height)
        predictions.append(ShownPrediction(variant, float(score["iou"]), mask_comparison.draw(image, truth, predicted)))
    return Example(sent_id, expression["split"], expression["text"], image, predictions)


def _open(dataset: str, instance: pd.Series) -> Image.Image:
    try:
        return prepared.read_image(instance["image"], (instance["width"], instance["height"]))
    except ValueError as error:
        raise ReportError(
            f"{instance['image']} (annotation {instance.name} of {dataset}) cannot be read: {error}. "
            f"Make the dataset again with: {experiments.dvc('repro -f -s', f'prepare@{dataset}')}"
        ) from error


def _mask(counts: str, grid: pd.Series, width: int, height: int) -> np.ndarray:
    """A mask over the whole image, encoded on any grid -> (height, width), boolean."""
    mask = prepared.decode_mask(counts, int(grid["height"]), int(grid["width"]))
    return np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST)) > 0
