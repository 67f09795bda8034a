"""The model as MLflow serves it. `stages.tracking` puts this file and `models/` beside the weights, and MLflow runs it.

This file therefore imports nothing of the project but `models`. A row of the input is an image, as the bytes of its
file (base64 in JSON), and an expression. A row of the output is the mask, as COCO RLE at the image's size, and its
score.
"""

import io

import pandas as pd
from PIL import Image, ImageOps, UnidentifiedImageError
from pycocotools import mask as coco

from models.alignformer import AlignFormer
from models.prediction import Prediction, segment
from models.processing import AlignFormerProcessor


class ReferringSegmentation:
    """The model that `mlflow.pyfunc.load_model` returns and `mlflow models serve` answers with."""

    def __init__(self, folder: str):
        self.model = AlignFormer.from_pretrained(folder).eval()
        self.processor = AlignFormerProcessor.from_pretrained(folder)

    def predict(self, rows: pd.DataFrame, params: dict | None = None) -> pd.DataFrame:
        """Columns image and text -> segmentation and score. Raises ValueError, which names the number of the row."""
        threshold = (params or {}).get("threshold", 0.5)
        return pd.DataFrame([self._row(number, *row, threshold) for number, row in enumerate(_pairs(rows))])

    def _row(self, number: int, content: bytes, text: str, threshold: float) -> dict:
        try:
            (found,) = segment(self.model, self.processor, [decoded(content)], [text], threshold)
        except ValueError as error:
            raise ValueError(f"row {number}: {error}") from error
        return _answer(found)


def decoded(content: bytes) -> Image.Image:
    """The content of an image file -> RGB, turned as its EXIF data say. Raises ValueError if it is no whole image."""
    try:
        with Image.open(io.BytesIO(content)) as file:
            return ImageOps.exif_transpose(file).convert("RGB")
    except UnidentifiedImageError as error:  # its message has the address of the stream
        raise ValueError("it cannot be read as an image: its format is not one that Pillow knows") from error
    except (OSError, SyntaxError, ValueError, RuntimeError, Image.DecompressionBombError) as error:
        raise ValueError(f"it cannot be read as an image: {error}") from error


def _pairs(rows: pd.DataFrame):
    return zip(rows["image"], rows["text"], strict=True)


def _answer(found: Prediction) -> dict:
    encoded = coco.encode(found.mask.astype("uint8", order="F"))
    size = [int(side) for side in encoded["size"]]
    return {"segmentation": {"size": size, "counts": encoded["counts"].decode()}, "score": found.score}


def _load_pyfunc(folder: str) -> ReferringSegmentation:
    """MLflow calls this with the model folder."""
    return ReferringSegmentation(folder)
