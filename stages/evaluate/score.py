"""Scores: the intersection and union of every expression, under a protocol."""

from dataclasses import dataclass

import pandas as pd
import torch
from tqdm import tqdm

from models.alignformer import AlignFormer
from stages.evaluate.metrics import iou
from stages.prepared import encode_mask
from stages.samples import Expressions


@dataclass(frozen=True)
class Protocol:
    """How I and U are counted. `original`: at the original image size, every expression, sigmoid > threshold."""

    name: str
    threshold: float


PROTOCOLS = {"original": Protocol("original", threshold=0.5)}


@torch.no_grad()
def score(
    model: AlignFormer, expressions: Expressions, protocol: Protocol, batch_size: int, progress: str | None = None
) -> pd.DataFrame:
    """Score every expression.

    Args:
        progress: label of the progress bar; without it there is none.

    Returns:
        One row an expression, in the order of `expressions.rows`: sent_id, ref_id, ann_id, image_id, split,
        intersection and union (int64, pixels of the original image), iou (float64), prediction (counts of the COCO
        compressed RLE of the predicted mask).
    """
    model.eval()
    intersections, unions, predictions = [], [], []
    batches = expressions.loader(batch_size)
    for batch in tqdm(batches, desc=progress, disable=None if progress else True, leave=False):
        inputs = batch.inputs(model.device)
        del inputs["masks"]
        logits = model(**inputs).logits
        truths = [expressions.true_mask(row) for row in batch.rows]
        masks = expressions.processor.post_process_referring_segmentation(
            logits, [truth.shape for truth in truths], protocol.threshold
        )
        for mask, truth in zip(masks, truths, strict=True):
            intersections.append(int((mask & truth).sum()))
            unions.append(int((mask | truth).sum()))
            predictions.append(encode_mask(mask))
    rows = expressions.rows
    scores = rows[["sent_id", "ref_id", "ann_id", "image_id", "split"]].assign(
        intersection=pd.Series(intersections, dtype="int64"), union=pd.Series(unions, dtype="int64")
    )
    scores["iou"] = iou(scores["intersection"].to_numpy(), scores["union"].to_numpy())
    scores["prediction"] = predictions
    return scores
