"""Calibration and thresholds: predicted probabilities against what is inside, on the protocol's grid.

Probabilities are those that the protocol compares with its threshold: where it resizes logits, the sigmoid of the
resized logits. Every pixel of that grid counts once for every expression.
"""

import numpy as np
import pandas as pd
import torch

from models.frames import Frame
from stages.scoring import grid
from stages.scoring.metrics import iou
from stages.scoring.protocols import Protocol

BINS = 20  # of probability, of equal width; a bin holds its upper end, as thresholds are to be exceeded
THRESHOLDS = np.arange(1, BINS) / BINS


class Calibration:
    """Counts by bin of probability over the expressions of a split, and I and U of each at every threshold."""

    def __init__(self, protocol: Protocol, frame: Frame):
        self.protocol, self.frame = protocol, frame
        self.pixels, self.inside = np.zeros(BINS, dtype=np.int64), np.zeros(BINS, dtype=np.int64)
        self.probabilities = np.zeros(BINS)  # their sum
        self.squared_error = 0.0
        self.overlaps: dict[int, np.ndarray] = {}  # row -> I and U at every threshold (2, BINS - 1)

    def add(self, row: int, logits: torch.Tensor, truth: np.ndarray) -> None:
        """The expression of a row: logits (S, S) at the input's size, true mask (height, width) at the original one."""
        values, truth = grid.on_grid(logits, truth, self.frame, self.protocol)
        values, truth = values.double().flatten(), truth.ravel()
        probabilities = grid.probabilities(values, self.protocol).numpy()

        cuts = grid.cuts(THRESHOLDS, self.protocol)
        bins = np.searchsorted(cuts, values.numpy())  # how many thresholds each pixel exceeds
        pixels, inside = np.bincount(bins, minlength=BINS), np.bincount(bins[truth], minlength=BINS)
        self.pixels += pixels
        self.inside += inside
        self.probabilities += np.bincount(bins, weights=probabilities, minlength=BINS)
        self.squared_error += float(np.square(probabilities - truth).sum())
        predicted, intersection = (counts[::-1].cumsum()[::-1][1:] for counts in (pixels, inside))
        self.overlaps[row] = np.stack([intersection, predicted + inside.sum() - intersection])

    @property
    def brier(self) -> float:
        """Mean over the pixels of (probability - truth)^2 (Brier 1950)."""
        return self.squared_error / int(self.pixels.sum())

    @property
    def expected_error(self) -> float:
        """Expected calibration error: mean over the pixels of |mean probability - share inside| of their bin.

        Naeini et al., AAAI 2015, with `BINS` bins.
        """
        return float(np.abs(self.probabilities - self.inside).sum() / self.pixels.sum())

    def bins(self) -> pd.DataFrame:
        """A row a bin: low, high, pixels, probability (mean) and inside (share); the last two NaN in an empty bin."""
        edges = np.arange(BINS + 1) / BINS
        filled = np.where(self.pixels > 0, self.pixels, np.nan)
        return pd.DataFrame(
            {
                "low": edges[:-1],
                "high": edges[1:],
                "pixels": self.pixels,
                "probability": self.probabilities / filled,
                "inside": self.inside / filled,
            }
        )

    def counts(self) -> np.ndarray:
        """I and U of the N expressions, in the order of their rows, at every threshold: (2, BINS - 1, N), int64."""
        return np.stack([self.overlaps[row] for row in sorted(self.overlaps)], axis=-1)

    def ious(self) -> np.ndarray:
        """IoU of every expression at every threshold: (BINS - 1, N)."""
        intersection, union = self.counts().reshape(2, -1)
        return iou(intersection, union, self.protocol).reshape(len(THRESHOLDS), -1)

    def curve(self) -> pd.DataFrame:
        """A row a threshold: threshold, mIoU, oIoU."""
        overall = iou(*self.counts().sum(axis=-1), self.protocol)
        return pd.DataFrame({"threshold": THRESHOLDS, "mIoU": self.ious().mean(axis=1), "oIoU": overall})


def best_threshold(calibrations: list[Calibration]) -> float:
    """The threshold with the highest mIoU over all expressions of some splits; the lowest of equally good ones."""
    ious = np.concatenate([calibration.ious() for calibration in calibrations], axis=1)
    return float(THRESHOLDS[ious.mean(axis=1).argmax()])
