"""Metrics of referring image segmentation, from the intersection I and union U of every expression.

Definitions: oIoU = sum I / sum U; mIoU = mean of I / U; Pr@X = share of expressions with I / U >= X. I and U are
integers and are summed as integers; an expression whose predicted and true masks are both empty has IoU 1 under
protocol `original`.
"""

import numpy as np
import pandas as pd

PRECISION_THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
METRICS = ("oIoU", "mIoU", *(f"Pr@{threshold}" for threshold in PRECISION_THRESHOLDS))


def iou(intersection: np.ndarray, union: np.ndarray) -> np.ndarray:
    """IoU in float64 of each expression, 1 where the union is empty. Shapes: (N,), (N,) -> (N,)."""
    return np.divide(intersection, union, out=np.ones(len(union)), where=np.asarray(union) > 0)


def summarise(scores: pd.DataFrame) -> dict[str, float]:
    """Metrics of the expressions in `scores` (columns intersection, union, integers), as fractions between 0 and 1.

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
    ious = iou(intersection, union)
    total_union = int(union.sum())
    return {
        "expressions": len(scores),
        "oIoU": int(intersection.sum()) / total_union if total_union else 1.0,
        "mIoU": float(ious.mean()),
        **{f"Pr@{threshold}": float((ious >= threshold).mean()) for threshold in PRECISION_THRESHOLDS},
    }


def summarise_splits(scores: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Metrics of each split in `scores`, in the order in which the splits first appear."""
    return {split: summarise(rows) for split, rows in scores.groupby("split", sort=False)}
