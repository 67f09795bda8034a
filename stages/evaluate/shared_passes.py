"""The scores of a model under several protocols: those whose input is the same share its forward passes.

`stages.scoring.score.score` scores under one protocol, as training needs it after each epoch. Here the same numbers,
to the bit, come from one pass for all protocols with one frame.
"""

from collections import ChainMap
from collections.abc import Sequence

import pandas as pd
import torch
from accelerate.utils import gather_object

from models.alignformer import AlignFormer
from models.frames import Frame
from models.processing import AlignFormerProcessor
from stages.data.prepared import encode_mask
from stages.data.samples import Expressions
from stages.runtime import processes
from stages.runtime.progress import bar
from stages.scoring.grid import cuts, on_grid
from stages.scoring.metrics import iou
from stages.scoring.protocols import Protocol
from stages.scoring.score import COUNTS, frame


def by_input(protocols: Sequence[Protocol], processor: AlignFormerProcessor) -> dict[Frame, list[Protocol]]:
    """Frame -> the protocols that bring images to the model in it, in the order in which they are given."""
    found: dict[Frame, list[Protocol]] = {}
    for protocol in protocols:
        found.setdefault(frame(protocol) or processor.frame, []).append(protocol)
    return found


@torch.no_grad()
def scores(
    model: AlignFormer,
    expressions: Expressions,
    protocols: Sequence[Protocol],
    batch_size: int,
    workers: int = 0,
    progress: str = "",
) -> dict[str, pd.DataFrame]:
    """Score every expression under several protocols. Several processes take turns at the batches.

    Args:
        expressions: made with the frame that all these protocols have.
        workers: processes that load images; 0 to load them in this one.
        progress: label of the progress bar.

    Returns:
        Name of a protocol -> what `stages.scoring.score.score` returns under it.

    Raises:
        ImageError: an image cannot be read.
    """
    model.eval()
    cut = {protocol.name: cuts(protocol.threshold, protocol).item() for protocol in protocols}
    counted: dict[str, dict[int, tuple]] = {name: {} for name in cut}
    batches = expressions.by_image(batch_size, workers, processes.share())
    for batch in bar(batches, progress, len(batches), hidden=not processes.here().is_main_process):
        logits = model(**batch.inputs(model.device)).logits.float().cpu()  # (B, S, S)
        for row, sample in zip(batch.rows, logits, strict=True):
            true_mask = expressions.true_mask(row)
            for protocol in protocols:
                values, truth = on_grid(sample, true_mask, expressions.frame, protocol)
                predicted = (values > cut[protocol.name]).numpy()
                intersection, union = int((predicted & truth).sum()), int((predicted | truth).sum())
                counted[protocol.name][row] = intersection, union, *truth.shape, encode_mask(predicted)
    parts = gather_object([counted])
    return {
        protocol.name: _table(expressions.rows, ChainMap(*(part[protocol.name] for part in parts)), protocol)
        for protocol in protocols
    }


def _table(rows: pd.DataFrame, counted: ChainMap[int, tuple], protocol: Protocol) -> pd.DataFrame:
    counts = pd.DataFrame([counted[row] for row in range(len(rows))], columns=COUNTS)
    counts.insert(2, "iou", iou(counts["intersection"].to_numpy(), counts["union"].to_numpy(), protocol))
    named = rows[["sent_id", "ref_id", "ann_id", "image_id", "split"]].assign(protocol=protocol.name)
    return pd.concat([named, counts], axis=1)
