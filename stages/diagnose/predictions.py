"""What a model says of every expression, at the decoder's grid and at the input's."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from models.alignformer import AlignFormer
from stages.data.samples import Expressions


class GridPrediction(NamedTuple):
    """Of one expression.

    Attributes:
        row: its position in the table.
        similarity: (h, w) float32, cosine of pixel embedding and center at the decoder's grid.
        grouping: (h, w) float32, the logits of grouping at that grid.
        logits: (S, S) float32, what these become at the input's size.
    """

    row: int
    similarity: np.ndarray
    grouping: np.ndarray
    logits: torch.Tensor


@torch.no_grad()
def predictions(
    model: AlignFormer, expressions: Expressions, batch_size: int, workers: int = 0, progress: str | None = None
) -> Iterator[GridPrediction]:
    """Every expression once, in batches of whole images; what is compared with them comes from the caller.

    Args:
        workers: processes that load images; 0 for this one.
        progress: label of the progress bar; without it there is none.

    Raises:
        ImageError: an image cannot be read.
    """
    model.eval()
    grouped: list[torch.Tensor] = []
    hook = model.grouping.register_forward_hook(lambda module, arguments, logits: grouped.append(logits))
    try:
        batches = expressions.by_image(batch_size, workers)
        for batch in tqdm(batches, desc=progress, disable=not progress or None, leave=False):
            output = model(**batch.inputs(model.device))
            maps = output.similarity, grouped.pop()  # (B, h, w) each
            similarity, grouping = (values.float().cpu().numpy() for values in maps)
            yield from map(GridPrediction, batch.rows, similarity, grouping, output.logits.float().cpu())
    finally:
        hook.remove()
