"""The losses: of the mask, and two contrastive ones between pixels and centers."""

import math

import torch
from torch.nn import functional as F

HARD_SHARE = 1 / 16  # of all pixels of a picture: the ones outside the mask that its center scores highest
OVERLAP = 0.5  # of the smaller mask: above it, two masks of one image are taken for the same thing


def mask_loss(
    logits: torch.Tensor, masks: torch.Tensor, bce_weight: float, dice_weight: float, positive_weight: float
) -> torch.Tensor:
    """Weighted sum of binary cross-entropy and dice loss.

    Args:
        logits, masks: (B, H, W); masks float, 0 or 1.
        positive_weight: weight of pixels inside the mask in the cross-entropy.

    Dice (Milletari et al. 2016) is 1 - (2 sum(p m) + 1) / (sum(p) + sum(m) + 1) for each sample, then the mean.
    """
    bce = F.binary_cross_entropy_with_logits(logits, masks, pos_weight=logits.new_tensor(positive_weight))
    probabilities = logits.sigmoid()
    intersection = (probabilities * masks).sum(dim=(1, 2))  # (B,)
    total = probabilities.sum(dim=(1, 2)) + masks.sum(dim=(1, 2))  # (B,)
    dice = 1 - (2 * intersection + 1) / (total + 1)
    return bce_weight * bce + dice_weight * dice.mean()


def pixel_contrast(
    pixels: torch.Tensor, centers: torch.Tensor, masks: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Every pixel a sample: -log sigma(s) inside the mask, -log(1 - sigma(s)) outside, s = cos(e(p), c) / temperature.

    The form that CRIS (Wang et al. 2022) calls text-to-pixel contrast.

    Args:
        pixels: (B, h, w, D), L2-normalised.
        centers: (B, D), L2-normalised.
        masks: (B, h, w) share of each pixel's area inside the mask; at least one half counts as inside.
    """
    scores = torch.einsum("bhwd,bd->bhw", pixels, centers) / temperature
    return F.binary_cross_entropy_with_logits(scores, (masks >= 0.5).to(scores.dtype))


def instance_contrast(
    pixels: torch.Tensor, centers: torch.Tensor, masks: torch.Tensor, image_ids: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Symmetric InfoNCE between the centers of a batch and the mean pixel embeddings of its instances.

    f_i is the mean embedding inside mask i, so that boundary and other ambiguous pixels are averaged out. Center i has
    two further negatives from its own picture: the mean of the pixels wholly outside the mask that it scores highest
    (`HARD_SHARE` of all pixels of the picture), and the mean of all outside. Means are scaled to unit length.

    Samples of one image whose masks overlap by more than `OVERLAP` of the smaller mask (two expressions of one
    annotation among them) are never each other's negatives. A sample whose mask is empty at the model's input size is
    left out, and so is a negative that has no pixel.

    Args:
        pixels: (B, h, w, D), L2-normalised.
        centers: (B, D), L2-normalised.
        masks: (B, h, w) share of each pixel's area inside the mask.
        image_ids: (B,) integers.
    """
    pixels, masks = pixels.flatten(1, 2), masks.flatten(1)  # (B, N, D), (B, N)
    seen = masks.sum(dim=1) > 0  # (B,)
    pixels, centers, masks, image_ids = pixels[seen], centers[seen], masks[seen], image_ids[seen]
    if len(masks) == 0:
        return pixels.sum() * 0
    instances = _weighted_mean(pixels, masks)  # (B, D)
    scores = (centers @ instances.T / temperature).masked_fill(same_thing(masks, image_ids), -math.inf)  # (B, B)
    own = [
        ((centers * _weighted_mean(pixels, weights)).sum(-1) / temperature).masked_fill(weights.sum(1) == 0, -math.inf)
        for weights in (_hard_pixels(pixels, centers, masks), 1 - masks)
    ]
    targets = torch.arange(len(scores), device=scores.device)
    center_to_instance = F.cross_entropy(torch.cat([scores, torch.stack(own, dim=1)], dim=1), targets)
    instance_to_center = F.cross_entropy(scores.T, targets)
    return (center_to_instance + instance_to_center) / 2


def same_thing(masks: torch.Tensor, image_ids: torch.Tensor) -> torch.Tensor:
    """Pairs (B, B) of different samples that show the same thing of one image. Shapes: masks (B, N), image_ids (B,)."""
    overlaps = masks @ masks.T  # (B, B); on the diagonal each mask with itself
    own = overlaps.diagonal()
    overlapping = overlaps > OVERLAP * torch.minimum(own[:, None], own[None, :])
    itself = torch.eye(len(masks), dtype=torch.bool, device=masks.device)
    return (image_ids[:, None] == image_ids[None, :]) & overlapping & ~itself


def _weighted_mean(pixels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """(B, N, D), (B, N) -> L2-normalised mean (B, D); the zero vector where all weights are zero."""
    return F.normalize(torch.einsum("bnd,bn->bd", pixels, weights), dim=-1)


def _hard_pixels(pixels: torch.Tensor, centers: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Weights (B, N): 1 for the pixels wholly outside the mask that the own center scores highest, 0 for the others."""
    scores = torch.einsum("bnd,bd->bn", pixels, centers).detach()
    outside = masks == 0
    count = math.ceil(HARD_SHARE * scores.shape[1])
    best = scores.masked_fill(~outside, -math.inf).topk(count, dim=1).indices  # (B, count)
    chosen = torch.zeros_like(masks).scatter(1, best, 1.0)
    return chosen * outside
