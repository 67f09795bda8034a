"""Images and expressions -> masks with scores: the one way in which every tool of the project asks a trained model."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from models.alignformer import AlignFormer
from models.processing import AlignFormerProcessor


class Prediction(NamedTuple):
    """What one expression means in one image.

    Attributes:
        mask: (height, width) of the image, bool.
        score: mean probability of the cells that the model's own grid has inside, 0 where it has none.
    """

    mask: np.ndarray
    score: float


@torch.inference_mode()
def segment(
    model: AlignFormer,
    processor: AlignFormerProcessor,
    images: Sequence[Image.Image],
    text: Sequence[str],
    threshold: float = 0.5,
) -> list[Prediction]:
    """Segment what each expression means.

    Args:
        model: ready to predict, `model.eval()`.
        processor: of the model.
        images: one for each expression, or one for all.
        text: B expressions.
        threshold: probability above which a pixel is inside.

    Returns:
        B predictions.

    Raises:
        ValueError: as of the processor.
    """
    inputs = processor(images, text)
    outputs = model(**inputs.to(model.device))
    sizes = [(image.height, image.width) for image in images] * (len(text) // len(images))
    masks = processor.post_process_referring_segmentation(outputs, sizes, threshold)
    probabilities = outputs.logits.float().sigmoid().cpu()
    return [
        Prediction(mask.numpy(), float(inside.mean()) if len(inside := cells[cells > threshold]) else 0.0)
        for mask, cells in zip(masks, probabilities, strict=True)
    ]
