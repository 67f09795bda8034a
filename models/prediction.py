"""Images and expressions -> masks with scores. Every tool of the project that uses a trained model calls this."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from models.alignformer import AlignFormer
from models.processing import AlignFormerProcessor


class Prediction(NamedTuple):
    """The object that one expression refers to in one image.

    Attributes:
        mask: (height, width) of the image, bool.
        score: mean probability of the pixels inside the mask, at the model's own size; 0 if there are none.
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
    truncation: bool = False,
) -> list[Prediction]:
    """Segment the object that each expression refers to.

    Args:
        model: in evaluation mode, `model.eval()`.
        processor: the model's processor.
        images: one per expression, or one for all.
        text: B expressions.
        threshold: probability above which a pixel is inside.
        truncation: cut expressions that are longer than the model reads, as in training and evaluation.

    Returns:
        B predictions.

    Raises:
        ValueError: an expression is empty, or longer than the model reads while `truncation` is off, or the numbers
            of images and expressions do not match.
    """
    inputs = processor(images, text, truncation=truncation)
    outputs = model(**inputs.to(model.device))
    sizes = [(image.height, image.width) for image in images] * (len(text) // len(images))
    masks = processor.post_process_referring_segmentation(outputs, sizes, threshold)
    probabilities = outputs.logits.float().sigmoid().cpu()
    return [
        Prediction(mask.numpy(), float(inside.mean()) if len(inside := image[image > threshold]) else 0.0)
        for mask, image in zip(masks, probabilities, strict=True)
    ]
