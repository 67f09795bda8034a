"""Words -> center embedding -> pixels grouped around it -> mask logits."""

import math

import torch
from torch import nn

FIRST_SCALE = 10.0  # of the cosine at the start of training, so that logits lie between -10 and 10


def masked_mean(words: torch.Tensor, word_mask: torch.Tensor) -> torch.Tensor:
    """Mean over the words that are not padding, zero where all are: (B, L, T), (B, L) bool -> (B, T)."""
    there = word_mask.unsqueeze(-1)  # (B, L, 1)
    return words.masked_fill(~there, 0).sum(dim=1) / there.sum(dim=1).clamp(min=1)


class CenterEmbedding(nn.Module):
    """Center c = MLP(masked mean of the final words)."""

    def __init__(self, word_dim: int, dim: int):
        super().__init__()
        self.mlp = nn.Sequential(nn.LayerNorm(word_dim), nn.Linear(word_dim, dim), nn.GELU(), nn.Linear(dim, dim))

    def forward(self, words: torch.Tensor, word_mask: torch.Tensor) -> torch.Tensor:
        """(B, L, T), (B, L) -> (B, D)."""
        return self.mlp(masked_mean(words, word_mask))


class CosineGrouping(nn.Module):
    """logit(p) = exp(a) * s(p) + b, with the cosine s of projected pixel and center, and two learned numbers.

    CLIP (Radford et al. 2021) learns the logarithm of the scale too.
    """

    def __init__(self):
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(FIRST_SCALE)))
        self.bias = nn.Parameter(torch.tensor(0.0))

    def forward(self, pixels: torch.Tensor, center: torch.Tensor, similarity: torch.Tensor) -> torch.Tensor:
        """Cosines (B, h, w) -> logits (B, h, w); pixels (B, h, w, D) and center (B, D) are not used."""
        return self.log_scale.exp() * similarity + self.bias


class Grouping(nn.Module):
    """logit(p) = e(p) . w(c) / sqrt(D) + b(c)."""

    def __init__(self, dim: int):
        super().__init__()
        self.weight = nn.Linear(dim, dim)
        self.bias = nn.Linear(dim, 1)

    def forward(self, pixels: torch.Tensor, center: torch.Tensor, similarity: torch.Tensor) -> torch.Tensor:
        """Pixel embeddings (B, h, w, D), center (B, D) -> logits (B, h, w); cosines (B, h, w) are not used."""
        weight = self.weight(center) / math.sqrt(center.shape[-1])  # (B, D)
        return torch.einsum("bhwd,bd->bhw", pixels, weight) + self.bias(center)[..., None]
