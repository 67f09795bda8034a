"""What the page shows: datasets and samples to choose from, and what a model finds for an expression in an image."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from uuid import uuid4

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
from stages.serving import source

SAMPLES = 12
HEAT = matplotlib.colormaps["viridis"]
KEPT = 8  # images that were dropped onto the page last
ONE_AT_A_TIME = Lock()  # both sides of the page may use the same model, and `look_inside` registers hooks on it

_images: dict[str, Image.Image] = {}


@dataclass(frozen=True)
class DemoSample:
    """An image of a dataset with its expressions: text -> true mask (height, width), bool."""

    dataset: str
    image_id: int
    image: Image.Image
    expressions: dict[str, np.ndarray]


@dataclass(frozen=True)
class Answer:
    """What one model finds for one expression.

    Attributes:
        overlay: the image with the mask.
        truth: the image with the true mask; None where that is not known.
        score: as in `models.prediction`.
        share: how much of the image is inside the mask.
        iou: with the true mask; None where that is not known.
        heat: the similarity of each pixel with the center, over the image.
        least, most: the similarity at the two ends of the colours.
        attention: VLBA word by word, one entry for each direction; empty where the variant has no VLBA.
        unknown: words that the model's vocabulary lacks.
    """

    overlay: Image.Image
    truth: Image.Image | None
    score: float
    share: float
    iou: float | None
    heat: Image.Image
    least: float
    most: float
    attention: list[AttentionTiles]
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


def keep(image: Image.Image) -> str:
    """Keep an image, as one of the last `KEPT`. Returns the name by which `kept` finds it."""
    name = uuid4().hex
    _images[name] = image
    for older in list(_images)[:-KEPT]:
        _images.pop(older, None)
    return name


def kept(name: str) -> Image.Image:
    """An image that `keep` was given. Raises ValueError where it is not there any more."""
    try:
        return _images[name]
    except KeyError:
        raise ValueError("the image is not kept any more: drop it again") from None


def ask(name: str, image: Image.Image, text: str, truth: np.ndarray | None = None) -> Answer:
    """Ask a model what an expression means.

    Args:
        name: of the model, one of `source.runs`.
        image: RGB.
        truth: the true mask, bool, (height, width); None where it is not known.

    Raises:
        ValueError: the expression is empty or too long.
        NoModelError, OtherModelError: the model is not there any more, or was trained by other code.
    """
    folder = source.folder(name)
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
        truth=None if truth is None else overlays.overlay(image, truth),
        score=found.score,
        share=float(found.mask.mean()),
        iou=None if truth is None else float((found.mask & truth).sum() / max(1, (found.mask | truth).sum())),
        heat=overlays.heat_map(image, similarity, HEAT),
        least=float(similarity.min()),
        most=float(similarity.max()),
        attention=tiles.tiles(shares, text, 0, image, found.mask, None),
        unknown=processor.unknown_words(text),
    )


@lru_cache(maxsize=4)
def _load(folder: Path, changed: int) -> tuple[AlignFormer, AlignFormerProcessor]:
    """The model, loaded again only where its weights have changed since."""
    model, processor = trained.load(folder)
    return model.eval(), processor


@lru_cache
def _read(dataset: str) -> PreparedDataset:
    return prepared.read(layout.prepared(dataset))


def _sample(dataset: str, table: PreparedDataset, image_id: int) -> DemoSample:
    rows = table.expressions[table.expressions["image_id"] == image_id]
    first = table.instances.loc[rows["ann_id"].iloc[0]]
    image = prepared.read_image(first["image"], (first["width"], first["height"]))
    return DemoSample(dataset, int(image_id), image, dict(_meant(table, rows)))


def _meant(table: PreparedDataset, rows: pd.DataFrame) -> Iterator[tuple[str, np.ndarray]]:
    for row in rows.itertuples():
        instance = table.instances.loc[row.ann_id]
        yield row.text, prepared.decode_mask(instance["mask"], instance["height"], instance["width"]).astype(bool)
