"""Metrics of referring image segmentation, from the intersection I and union U of every expression.

Definitions: oIoU = sum I / sum U; mIoU = mean of I / U; Pr@X = share of expressions with I / U >= X, or > X under a
protocol that is strict. I and U are integers and are summed as integers. Where predicted and true mask are both empty,
the protocol states the IoU.
"""

import numpy as np
import pandas as pd

from stages.scoring.protocols import Protocol

PRECISION_THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
METRICS = ("oIoU", "mIoU", *(f"Pr@{threshold}" for threshold in PRECISION_THRESHOLDS))


def iou(intersection: np.ndarray, union: np.ndarray, protocol: Protocol) -> np.ndarray:
    """IoU of each expression, `protocol.both_empty` where the union is empty: (N,), (N,) -> (N,) float64."""
    return np.divide(intersection, union, out=np.full(len(union), protocol.both_empty), where=np.asarray(union) > 0)


def summarise(scores: pd.DataFrame, protocol: Protocol) -> dict[str, float]:
    """The metrics of some expressions, as fractions between 0 and 1.

    Args:
        scores: columns intersection and union, integers.
        protocol: the one that they were counted under.

    Returns:
        `METRICS`; `expressions`, how many there are; `both_empty`, in how many both masks are empty.

    Raises:
        ValueError: there is no expression, or I and U are not integers with 0 <= I <= U.
    """
    intersection, union = scores["intersection"].to_numpy(), scores["union"].to_numpy()
    if len(scores) == 0:
        raise ValueError("no expression to score")
    if intersection.dtype.kind not in "iu" or union.dtype.kind not in "iu":
        raise ValueError(f"I and U must be integers, found {intersection.dtype} and {union.dtype}")
    if not ((intersection >= 0) & (intersection <= union)).all():
        raise ValueError("0 <= I <= U does not hold for every expression")
    ious = iou(intersection, union, protocol)
    total_union = int(union.sum())
    passes = np.greater if protocol.strict else np.greater_equal
    return {
        "expressions": len(scores),
        "both_empty": int((union == 0).sum()),
        "oIoU": int(intersection.sum()) / total_union if total_union else protocol.both_empty,
        "mIoU": float(ious.mean()),
        **{f"Pr@{threshold}": float(passes(ious, threshold).mean()) for threshold in PRECISION_THRESHOLDS},
    }


def summarise_splits(scores: pd.DataFrame, protocol: Protocol) -> dict[str, dict[str, float]]:
    """Metrics of each split in `scores`, in the order in which the splits first appear."""
    return {split: summarise(rows, protocol) for split, rows in scores.groupby("split", sort=False)}
