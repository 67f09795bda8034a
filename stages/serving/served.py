"""The model as MLflow serves it. `stages.tracking` puts this file and `models/` beside the weights, and MLflow runs it.

This file therefore imports nothing of the project but `models`. A row of the input is an image, as the bytes of its
file (base64 in JSON), and an expression. A row of the output is the mask, as COCO RLE at the image's size, and its
score.
"""

import io

import pandas as pd
from pycocotools import mask as coco

from models import images
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
            (found,) = segment(self.model, self.processor, [images.read(io.BytesIO(content))], [text], threshold)
        except ValueError as error:
            raise ValueError(f"row {number}: {error}") from error
        return _answer(found)


def _pairs(rows: pd.DataFrame):
    return zip(rows["image"], rows["text"], strict=True)


def _answer(found: Prediction) -> dict:
    encoded = coco.encode(found.mask.astype("uint8", order="F"))
    size = [int(side) for side in encoded["size"]]
    return {"segmentation": {"size": size, "counts": encoded["counts"].decode()}, "score": found.score}


def _load_pyfunc(folder: str) -> ReferringSegmentation:
    """MLflow calls this with the model folder."""
    return ReferringSegmentation(folder)
