"""The scores: intersection and union of predicted and true mask for every expression, under a protocol."""

from collections import ChainMap

import pandas as pd
import torch
from accelerate.utils import gather_object

from models.alignformer import AlignFormer
from models.frames import Frame, Letterbox, Stretch
from stages.data.prepared import encode_mask
from stages.data.samples import Expressions
from stages.runtime import processes
from stages.runtime.progress import bar
from stages.scoring.grid import cuts, on_grid
from stages.scoring.metrics import iou
from stages.scoring.protocols import Protocol

FITS = {"stretch": Stretch, "letterbox": Letterbox}
COUNTS = ["intersection", "union", "height", "width", "prediction"]


def frame(protocol: Protocol) -> Frame | None:
    """The frame for `Expressions` in which the protocol brings images to the input size; None for the recipe's own."""
    return FITS[protocol.fit](protocol.size) if protocol.fit else None


@torch.no_grad()
def score(
    model: AlignFormer,
    expressions: Expressions,
    protocol: Protocol,
    batch_size: int,
    workers: int = 0,
    progress: str | None = None,
) -> pd.DataFrame:
    """Score every expression. Several processes take turns at the batches, and each returns the whole table.

    Args:
        expressions: made with the frame of the protocol.
        workers: processes that load images; 0 to load them in this one.
        progress: label of the progress bar; None for no bar.

    Returns:
        One row for each expression, in the order of `expressions.rows`: sent_id, ref_id, ann_id, image_id, split,
        protocol (its name), intersection and union (int64, pixels of the protocol's grid), iou (float64), height and
        width of that grid (int64), prediction (counts of the COCO compressed RLE of the predicted mask on that grid).

    Raises:
        ImageError: an image cannot be read.
        ValueError: the frame of the expressions is not that of the protocol.
    """
    if protocol.fit and expressions.frame != frame(protocol):
        raise ValueError(f"protocol {protocol.name} needs {frame(protocol)}, the expressions have {expressions.frame}")
    model.eval()
    counted, cut = {}, cuts(protocol.threshold, protocol).item()
    quiet = not progress or not processes.here().is_main_process
    batches = expressions.by_image(batch_size, workers, processes.share())
    for batch in bar(batches, progress or "", len(batches), hidden=quiet):
        logits = model(**batch.inputs(model.device)).logits.float().cpu()  # (B, S, S)
        for row, sample in zip(batch.rows, logits, strict=True):
            values, truth = on_grid(sample, expressions.true_mask(row), expressions.frame, protocol)
            predicted = (values > cut).numpy()
            intersection, union = int((predicted & truth).sum()), int((predicted | truth).sum())
            counted[row] = intersection, union, *truth.shape, encode_mask(predicted)
    counted = dict(ChainMap(*gather_object([counted])))
    rows = expressions.rows[["sent_id", "ref_id", "ann_id", "image_id", "split"]].assign(protocol=protocol.name)
    counts = pd.DataFrame([counted[row] for row in range(len(rows))], columns=COUNTS)
    counts.insert(2, "iou", iou(counts["intersection"].to_numpy(), counts["union"].to_numpy(), protocol))
    return pd.concat([rows, counts], axis=1)
