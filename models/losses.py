"""The losses: one on the mask, and two contrastive ones between pixels and centers."""

import math

import torch
from torch.nn import functional as F

from models.configuration import AlignFormerConfig
from models.parallel import BatchPart, PartAware, gathered

EPS = 1e-12  # a shorter vector is not scaled to unit length
HARD_SHARE = 1 / 16  # share of an image's pixels: those outside the mask that the center scores highest
HASH_FACTOR = 6364136223846793005  # Knuth's, of a linear congruential generator modulo 2^64
OVERLAP = 0.5  # share of the smaller mask; above it, two masks of one image count as the same object


class Memory:
    """Samples of earlier batches, further negatives of the instance contrast.

    A cross-batch memory (Wang et al. 2020): the embeddings are as they were when their batch was trained on, and have
    no gradient. It is neither a parameter nor a buffer, so files and averages of weights are without it. Every process
    holds the samples of all.

    Attributes:
        size: how many samples it holds at most.
        rows: of each sample, the newest first: centers, instances (M, D) at unit length; image_ids, text_ids (M,)
            integers, the latter only where same words are no negatives; seen (M,) bool, whether the mask has a pixel.
    """

    def __init__(self, size: int):
        self.size = size
        self.rows: dict[str, torch.Tensor] = {}

    def exchange(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Take a batch in and return the rows from before it, none at first."""
        past = {name: values.to(batch[name].device) for name, values in self.rows.items()}
        new = {name: values.detach() for name, values in batch.items()}
        self.rows = {name: torch.cat([new[name], past.get(name, new[name][:0])])[: self.size] for name in new}
        return past

    def state_dict(self) -> dict[str, torch.Tensor]:
        return self.rows

    def load_state_dict(self, rows: dict[str, torch.Tensor]) -> None:
        self.rows = rows


class Losses(PartAware):
    """The mask loss and the variant's contrastive loss, computed over the batch of all processes.

    The attribute `part` holds where the samples of this process lie in that batch, `memory` the samples of earlier
    ones, which count in training alone; None for variants without one.
    """

    def __init__(self, config: AlignFormerConfig):
        super().__init__()
        self.config = config
        self.memory = Memory(config.contrastive_memory) if config.contrastive_memory else None

    def forward(
        self,
        logits: torch.Tensor,
        pixels: torch.Tensor,
        center: torch.Tensor,
        similarity: torch.Tensor,
        masks: torch.Tensor,
        image_ids: torch.Tensor | None,
        text_ids: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Loss, mask loss and unweighted contrastive loss: scalars; the last is 0 for variants without one.

        Args:
            logits, masks: (B, H, W); masks float, 0 or 1.
            pixels, center: (B, h, w, D) and (B, D), from `AlignFormer.project`.
            similarity: (B, h, w), their cosine.
            image_ids: (B,) integers; the instance contrast needs them.
            text_ids: (B,) integers, alike for the same words; given where same words are no negatives.

        Raises:
            ValueError: the variant has the instance contrast, and image_ids is None.
        """
        config = self.config
        mask = mask_loss(logits, masks, config.bce_weight, config.dice_weight, config.positive_weight, self.part)
        shares = F.adaptive_avg_pool2d(masks.unsqueeze(1), (pixels.shape[1], pixels.shape[2])).squeeze(1)  # (B, h, w)
        kept = away_from_edge(shares, config.contrastive_border) if config.contrastive_border else None
        if config.contrastive == "pixel":
            contrastive = pixel_contrast(similarity, shares, config.temperature, self.part, kept)
        elif config.contrastive == "instance":
            if image_ids is None:
                raise ValueError("the instance contrast needs image_ids: which image each sample comes from")
            contrastive = instance_contrast(
                pixels,
                center,
                similarity,
                shares,
                image_ids,
                config.temperature,
                self.part,
                kept,
                text_ids,
                self.memory if self.training else None,
            )
        else:
            contrastive = torch.zeros_like(mask)
        return mask + config.contrastive_weight * contrastive, mask, contrastive


def mask_loss(
    logits: torch.Tensor,
    masks: torch.Tensor,
    bce_weight: float,
    dice_weight: float,
    positive_weight: float,
    part: BatchPart | None = None,
) -> torch.Tensor:
    """Weighted sum of binary cross-entropy and dice loss, averaged over the samples.

    Args:
        logits, masks: (B, H, W); masks float, 0 or 1.
        positive_weight: weight in the cross-entropy of pixels inside the mask.
        part: see `models.parallel.gathered`.

    Dice (Milletari et al. 2016) is 1 - (2 sum(p m) + 1) / (sum(p) + sum(m) + 1).
    """
    bce = F.binary_cross_entropy_with_logits(
        logits, masks, pos_weight=logits.new_tensor(positive_weight), reduction="none"
    ).mean(dim=(1, 2))  # (B,)
    probabilities = logits.sigmoid()
    intersection = (probabilities * masks).sum(dim=(1, 2))  # (B,)
    total = probabilities.sum(dim=(1, 2)) + masks.sum(dim=(1, 2))  # (B,)
    dice = 1 - (2 * intersection + 1) / (total + 1)
    return gathered(bce_weight * bce + dice_weight * dice, part).mean()


def cosine(pixels: torch.Tensor, center: torch.Tensor) -> torch.Tensor:
    """Cosine between every pixel embedding and the center: (B, h, w, D), (B, D) -> (B, h, w)."""
    along = torch.einsum("bhwd,bd->bhw", pixels, F.normalize(center, dim=-1))
    return along / torch.linalg.vector_norm(pixels, dim=-1).clamp(min=EPS)


def at_least_float32(x: torch.Tensor) -> torch.Tensor:
    """Raise half precision to float32. Sums over pixels and exponentials need it; products do not."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def away_from_edge(masks: torch.Tensor, border: int) -> torch.Tensor:
    """Pixels (B, h, w) that the contrast keeps: none of the other side lies within `border` rows and columns.

    A pixel is inside from half of its area on: masks (B, h, w) are shares. An object that would lose all its inside
    pixels keeps them.
    """
    inside = (masks >= 0.5).to(masks.dtype)
    near, far = (F.max_pool2d(side, 2 * border + 1, stride=1, padding=border) for side in (inside, 1 - inside))
    kept, inside = near + far < 2, inside > 0
    lost = ~(kept & inside).any(dim=(1, 2), keepdim=True)  # (B, 1, 1)
    return kept | (inside & lost)


def hashed_words(
    input_ids: torch.Tensor, attention_mask: torch.Tensor, text_index: torch.Tensor | None = None
) -> torch.Tensor:
    """One integer for each sample's words (B,), whatever their padding: a polynomial hash of 64 bits.

    Arguments are those of `AlignFormer.forward`. Tokens lie on the left.
    """
    factors = torch.full_like(input_ids[0], HASH_FACTOR).cumprod(dim=0)  # (L,), modulo 2^64
    hashes = ((input_ids + 1) * attention_mask * factors).sum(dim=1)  # (E,)
    return hashes if text_index is None else hashes[text_index]


def pixel_contrast(
    similarity: torch.Tensor,
    masks: torch.Tensor,
    temperature: float,
    part: BatchPart | None = None,
    kept: torch.Tensor | None = None,
) -> torch.Tensor:
    """Per pixel: -log sigma(s) inside the mask, -log(1 - sigma(s)) outside, with s = cos(e(p), c) / temperature.

    The form that CRIS (Wang et al. 2022) calls text-to-pixel contrast.

    Args:
        similarity: (B, h, w) cosine between pixel embedding and center.
        masks: (B, h, w) share of each pixel's area inside the mask; a pixel counts as inside from one half on.
        part: see `models.parallel.gathered`.
        kept: (B, h, w) bool, pixels that have a loss, at least one of each sample; None: all.
    """
    inside = (masks >= 0.5).to(similarity.dtype)
    losses = F.binary_cross_entropy_with_logits(similarity / temperature, inside, reduction="none")
    if kept is None:
        return gathered(losses.mean(dim=(1, 2)), part).mean()
    return gathered((losses * kept).sum(dim=(1, 2)) / kept.sum(dim=(1, 2)), part).mean()


def instance_contrast(
    pixels: torch.Tensor,
    centers: torch.Tensor,
    similarity: torch.Tensor,
    masks: torch.Tensor,
    image_ids: torch.Tensor,
    temperature: float,
    part: BatchPart | None = None,
    kept: torch.Tensor | None = None,
    text_ids: torch.Tensor | None = None,
    memory: Memory | None = None,
) -> torch.Tensor:
    """Symmetric InfoNCE between the centers of a batch and the mean pixel embeddings of its instances.

    InfoNCE is the contrastive loss of van den Oord et al. (2018). The embedding of instance i is the mean of the pixel
    embeddings inside mask i, which averages out ambiguous pixels such as those at the boundary. Center i has two more
    negatives from its own image. One is the mean of the pixels wholly outside the mask that the center scores highest
    (`HARD_SHARE` of all pixels of the image). The other is the mean of everything outside the mask. Means are scaled to
    unit length.

    Two samples of one image are not each other's negatives if their masks overlap by more than `OVERLAP` of the smaller
    mask, such as two expressions of one annotation. A sample whose mask is empty at the model's input size is left out,
    and so is a negative without pixels.

    Args:
        pixels: (B, h, w, D), of any length; scaled to unit length here, as are all vectors.
        centers: (B, D).
        similarity: (B, h, w) cosine between pixel embedding and center.
        masks: (B, h, w) share of each pixel's area inside the mask.
        image_ids: (B,) integers.
        part: see `models.parallel.gathered`; the batch is that of all processes.
        kept: (B, h, w) bool, pixels that take part in the means; None: all.
        text_ids: (B,) integers; samples with the same one are not each other's negatives. None: they are.
        memory: its samples are negatives too, but for those of the same image. It takes the batch in.
    """
    pixels, masks = pixels.flatten(1, 2), masks.flatten(1)  # (B, N, D), (B, N)
    kept = torch.ones_like(masks, dtype=torch.bool) if kept is None else kept.flatten(1)  # (B, N)
    hard = _hard_pixels(similarity.flatten(1), (masks == 0) & kept)
    weights = torch.stack([masks * kept, hard, (1 - masks) * kept], dim=1)  # (B, 3, N)
    lengths = torch.linalg.vector_norm(pixels, dim=2).clamp(min=EPS)  # (B, N)
    means = F.normalize((weights / lengths[:, None]) @ pixels, dim=-1)  # (B, 3, D); zero where all weights are zero
    centers = F.normalize(centers, dim=-1)
    there = weights.sum(dim=2) > 0  # (B, 3)
    instances, negatives = means[:, 0], means[:, 1:]
    own = torch.einsum("bd,bkd->bk", centers, negatives).masked_fill(~there[:, 1:], -math.inf)  # (B, 2)

    centers, instances, own = gathered(centers, part), gathered(instances, part), gathered(own, part)
    masks, image_ids = gathered(masks, part), gathered(image_ids, part)
    seen = masks.sum(dim=1) > 0  # (B,), of the whole batch from here on
    itself = torch.eye(len(seen), dtype=torch.bool, device=seen.device)
    batch = {"centers": centers, "instances": instances, "image_ids": image_ids, "seen": seen}
    if text_ids is not None:
        batch["text_ids"] = gathered(text_ids, part)
    excluded = _no_negatives(batch, batch, same_object(masks, image_ids)) & ~itself  # (B, B)
    scores = centers @ instances.T  # (B, B)
    to_instance = [scores.masked_fill(excluded, -math.inf), own]  # (B, B), (B, 2)
    to_center = [scores.T.masked_fill(excluded, -math.inf)]  # (B, B)
    if memory is not None and (past := memory.exchange(batch)):
        excluded = _no_negatives(batch, past, image_ids[:, None] == past["image_ids"])  # (B, M)
        to_instance.append((centers @ past["instances"].T).masked_fill(excluded, -math.inf))
        to_center.append((instances @ past["centers"].T).masked_fill(excluded, -math.inf))
    targets = torch.arange(len(seen), device=seen.device)
    losses = sum(
        F.cross_entropy(torch.cat(scores, dim=1) / temperature, targets, reduction="none")
        for scores in (to_instance, to_center)
    )
    return torch.where(seen, losses, 0).sum() / (2 * seen.sum()).clamp(min=1)


def same_object(masks: torch.Tensor, image_ids: torch.Tensor) -> torch.Tensor:
    """Pairs (B, B) of different samples that show the same object of one image: masks (B, N), image_ids (B,)."""
    overlaps = masks @ masks.T  # (B, B); the diagonal holds each mask with itself
    own = overlaps.diagonal()
    overlapping = overlaps > OVERLAP * torch.minimum(own[:, None], own[None, :])
    itself = torch.eye(len(masks), dtype=torch.bool, device=masks.device)
    return (image_ids[:, None] == image_ids[None, :]) & overlapping & ~itself


def _no_negatives(rows: dict[str, torch.Tensor], columns: dict[str, torch.Tensor], same: torch.Tensor) -> torch.Tensor:
    """Pairs (B, M) whose column is no negative of the row: same (B, M), without a mask, or with the same words."""
    excluded = same | ~columns["seen"]
    if "text_ids" in rows:
        excluded = excluded | (rows["text_ids"][:, None] == columns["text_ids"])
    return excluded


def _hard_pixels(similarity: torch.Tensor, outside: torch.Tensor) -> torch.Tensor:
    """Weights (B, N): 1 for the pixels wholly outside the mask that its center scores highest, 0 for the others."""
    count = math.ceil(HARD_SHARE * outside.shape[1])
    best = similarity.detach().masked_fill(~outside, -math.inf).topk(count, dim=1).indices  # (B, count)
    return torch.zeros_like(similarity).scatter(1, best, 1.0) * outside
