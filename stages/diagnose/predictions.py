"""What a model predicts for every expression, on the decoder's grid and on the input's."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from models.alignformer import AlignFormer
from stages.data.samples import Expressions
from stages.runtime.progress import bar


class GridPrediction(NamedTuple):
    """The prediction for one expression on both grids.

    Attributes:
        row: the position of the expression in the table.
        similarity: (h, w) float32, cosine of pixel embedding and center on the decoder's grid.
        grouping: (h, w) float32, the logits of grouping on that grid.
        logits: (S, S) float32, the same interpolated to the input's size.
    """

    row: int
    similarity: np.ndarray
    grouping: np.ndarray
    logits: torch.Tensor


@torch.no_grad()
def predictions(
    model: AlignFormer, expressions: Expressions, batch_size: int, workers: int = 0, progress: str | None = None
) -> Iterator[GridPrediction]:
    """Predict every expression once, in batches of whole images.

    Args:
        workers: processes that load images; 0 to load them in this one.
        progress: label of the progress bar; None for no bar.

    Raises:
        ImageError: an image cannot be read.
    """
    model.eval()
    grouped: list[torch.Tensor] = []
    hook = model.grouping.register_forward_hook(lambda module, arguments, logits: grouped.append(logits))
    try:
        batches = expressions.by_image(batch_size, workers)
        for batch in bar(batches, progress or "", len(batches), hidden=not progress):
            output = model(**batch.inputs(model.device))
            maps = output.similarity, grouped.pop()  # (B, h, w) each
            similarity, grouping = (values.float().cpu().numpy() for values in maps)
            yield from map(GridPrediction, batch.rows, similarity, grouping, output.logits.float().cpu())
    finally:
        hook.remove()
