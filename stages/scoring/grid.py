"""How a protocol brings logits and true mask to the grid on which it counts pixels."""

import numpy as np
import torch

from models.frames import Frame
from stages.scoring.protocols import Protocol


def on_grid(
    logits: torch.Tensor, truth: np.ndarray, frame: Frame, protocol: Protocol
) -> tuple[torch.Tensor, np.ndarray]:
    """Values and true mask on the protocol's grid, (h, w) each; values are logits or probabilities, see `cuts`.

    Args:
        logits: (S, S) at the input's size.
        truth: bool, (height, width) of the original image.
        frame: how the image was brought to the input's size.
    """
    values = logits.sigmoid() if _compares_probabilities(protocol) else logits
    if protocol.grid == "input":
        return values, frame.mask(truth)
    return frame.restore(values, truth.shape, protocol.interpolation), truth


def cuts(thresholds: float | np.ndarray, protocol: Protocol) -> np.ndarray:
    """The values of `on_grid` that belong to some probabilities: float64, the same shape.

    A protocol that interpolates probabilities compares those; one that interpolates logits compares logits.
    """
    probabilities = torch.as_tensor(thresholds, dtype=torch.float64)
    return (probabilities if _compares_probabilities(protocol) else probabilities.logit()).numpy()


def probabilities(values: torch.Tensor, protocol: Protocol) -> torch.Tensor:
    """The probabilities of values of `on_grid`, any shape."""
    return values if _compares_probabilities(protocol) else values.sigmoid()


def _compares_probabilities(protocol: Protocol) -> bool:
    return protocol.interpolated == "probabilities"
