"""Logits -> masks at the original size, for use of a trained model. `stages.scoring` scores masks under a protocol."""

from collections.abc import Sequence

import torch

from models.frames import Stretch


def masks_at_original_size(
    logits: torch.Tensor, target_sizes: Sequence[tuple[int, int]] | None, threshold: float, frame: Stretch
) -> list[torch.Tensor]:
    """Logits (B, H, W) resized bilinearly to (height, width) each, then sigmoid > threshold: B bool tensors on the CPU.

    If `target_sizes` is None, masks have the model's own size.
    """
    logits = logits.float().cpu()
    cut = float(torch.logit(torch.tensor(threshold, dtype=torch.float64)))
    own_size = logits.shape[1], logits.shape[2]
    sizes = [own_size] * len(logits) if target_sizes is None else target_sizes
    return [frame.restore(sample, size) > cut for sample, size in zip(logits, sizes, strict=True)]
