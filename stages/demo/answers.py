"""What the page shows: models and samples to choose from, and what a model makes of an image and an expression."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock

import matplotlib
import numpy as np
import pandas as pd
from PIL import Image

from models.alignformer import AlignFormer
from models.prediction import segment
from models.processing import AlignFormerProcessor
from stages.attention import tiles
from stages.attention.shares import attention_table, look_inside
from stages.attention.tiles import AttentionTiles
from stages.data import prepared
from stages.data.prepared import PreparedDataset
from stages.drawing import overlays
from stages.runtime import layout
from stages.scoring import trained

SAMPLES = 12
HEAT = matplotlib.colormaps["viridis"]
ONE_AT_A_TIME = Lock()  # both sides may ask one model, and looking inside hangs hooks on it


@dataclass(frozen=True)
class DemoSample:
    """An image of a dataset, with what is said of it: text -> true mask (height, width), bool."""

    dataset: str
    image_id: int
    image: Image.Image
    expressions: dict[str, np.ndarray]


@dataclass(frozen=True)
class Answer:
    """What one model makes of one expression.

    Attributes:
        overlay: the image with the mask.
        score: see `models.prediction`.
        share: of the image that is inside the mask.
        iou: with the true mask, where there is one.
        heat: similarity of each pixel with the center, over the image.
        least, most: similarity at the two ends of the colours.
        words: attention word by word, a direction each; none where the variant has no VLBA.
        unknown: words that the model has never seen.
    """

    overlay: Image.Image
    score: float
    share: float
    iou: float | None
    heat: Image.Image
    least: float
    most: float
    words: list[AttentionTiles]
    unknown: list[str]


def datasets() -> list[str]:
    """Every prepared dataset."""
    return sorted(path.parent.name for path in layout.DATA.glob("*/dataset.json"))


@lru_cache
def samples(dataset: str) -> list[DemoSample]:
    """`SAMPLES` images of the evaluation splits, evenly spaced by image_id."""
    table = _read(dataset)
    images = np.unique(table.expressions.loc[table.expressions["split"] != "train", "image_id"])
    count = min(SAMPLES, len(images))
    return [_sample(dataset, table, image) for image in images[(2 * np.arange(count) + 1) * len(images) // (2 * count)]]


def ask(name: str, image: Image.Image, text: str, truth: np.ndarray | None = None) -> Answer:
    """What a model makes of an expression.

    Args:
        name: one of `source.runs`.
        image: RGB.
        truth: the true mask, where it is known.

    Raises:
        ValueError: the expression is empty or too long.
        FileNotFoundError, OtherModelError: there is no such model, or no longer.
    """
    folder = layout.RESULTS / "models" / name
    model, processor = _load(folder, (folder / "model.safetensors").stat().st_mtime_ns)
    inputs = processor([image], [text])
    with ONE_AT_A_TIME:
        (found,) = segment(model, processor, [image], [text])
        inside = look_inside(model, inputs)
    words = processor.tokenizer.convert_ids_to_tokens(inputs["input_ids"][0].tolist())
    shares = attention_table(inside, 0, words).assign(sent_id=0)
    similarity = inside.similarity[0].numpy()
    return Answer(
        overlay=overlays.overlay(image, found.mask),
        score=found.score,
        share=float(found.mask.mean()),
        iou=None if truth is None else float((found.mask & truth).sum() / max(1, (found.mask | truth).sum())),
        heat=_heat(image, similarity),
        least=float(similarity.min()),
        most=float(similarity.max()),
        words=tiles.tiles(shares, text, 0, image, found.mask, None),
        unknown=processor.unknown_words(text),
    )


@lru_cache(maxsize=4)
def _load(folder: Path, changed: int) -> tuple[AlignFormer, AlignFormerProcessor]:
    """The model, loaded once until its weights change."""
    model, processor = trained.load(folder)
    return model.eval(), processor


@lru_cache
def _read(dataset: str) -> PreparedDataset:
    return prepared.read(layout.prepared(dataset))


def _sample(dataset: str, table: PreparedDataset, image_id: int) -> DemoSample:
    rows = table.expressions[table.expressions["image_id"] == image_id]
    first = table.instances.loc[rows["ann_id"].iloc[0]]
    with Image.open(first["image"]) as file:
        image = file.convert("RGB")
    return DemoSample(dataset, int(image_id), image, dict(_meant(table, rows)))


def _meant(table: PreparedDataset, rows: pd.DataFrame) -> Iterator[tuple[str, np.ndarray]]:
    for row in rows.itertuples():
        instance = table.instances.loc[row.ann_id]
        yield row.text, prepared.decode_mask(instance["mask"], instance["height"], instance["width"]).astype(bool)


def _heat(image: Image.Image, similarity: np.ndarray) -> Image.Image:
    """A map (h, w) over the grey image, in colours from its least to its most."""
    spread = similarity.max() - similarity.min()
    scaled = (similarity - similarity.min()) / (spread or 1)
    cells = Image.fromarray(np.uint8(255 * HEAT(scaled)[..., :3])).resize(image.size, Image.Resampling.NEAREST)
    return Image.blend(image.convert("L").convert("RGB"), cells, 0.65)
