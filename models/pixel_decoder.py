"""Multi-scale features -> pixel embeddings: a light top-down pyramid whose mixing depends on the sentence."""

import torch
from torch import nn
from torch.nn import functional as F

from models.encoders import Feature, of_samples


class TextConditionedMixing(nn.Module):
    """A depthwise-separable residual block, scaled and shifted by the sentence.

    x + MLP(scale(s) * norm(depthwise(x)) + shift(s)), feature-wise modulation as in FiLM (Perez et al. 2018).
    """

    def __init__(self, dim: int, word_dim: int):
        super().__init__()
        self.spatial = nn.Conv2d(dim, dim, kernel_size=5, padding=2, groups=dim)
        self.norm = nn.LayerNorm(dim)
        self.modulation = nn.Linear(word_dim, 2 * dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x: torch.Tensor, sentence: torch.Tensor) -> torch.Tensor:
        """Features (B, h, w, D) and sentence (B, T) -> (B, h, w, D)."""
        mixed = self.norm(self.spatial(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))  # (B, h, w, D)
        scale, shift = self.modulation(sentence)[:, None, None].chunk(2, dim=-1)  # (B, 1, 1, D) each
        return x + self.mlp((1 + scale) * mixed + shift)


class PixelDecoder(nn.Module):
    """Top-down pyramid over the levels of the vision encoder.

    Args:
        level_dims: channels of each level, finest first.
        upsampling: for each level, the factor s by which it is upsampled: every pixel becomes s x s pixels.
        dim: channels D of the pixel embeddings.
        word_dim: channels T of the sentence.
    """

    def __init__(self, level_dims: list[int], upsampling: list[int], dim: int, word_dim: int):
        super().__init__()
        self.upsampling = upsampling
        self.laterals = nn.ModuleList(
            nn.Linear(level_dim, s * s * dim) for level_dim, s in zip(level_dims, upsampling, strict=True)
        )
        self.mixings = nn.ModuleList(TextConditionedMixing(dim, word_dim) for _ in level_dims)
        self.norm = nn.LayerNorm(dim)

    def forward(self, features: list[Feature], sentence: torch.Tensor) -> torch.Tensor:
        """Features of C_i channels, finest level first, sentence (B, T) -> embeddings (B, s_0 h_0, s_0 w_0, D)."""
        x = None
        for feature, lateral, s, mixing in list(
            zip(features, self.laterals, self.upsampling, self.mixings, strict=True)
        )[::-1]:
            own = spread(of_samples(lateral(feature.maps), feature.image_index), s)  # (B, s h, s w, D)
            x = own if x is None else own + resize(x, (own.shape[1], own.shape[2]))
            x = mixing(x, sentence)
        return self.norm(x)


class PlainDecoder(nn.Module):
    """The plain head: the last level beside the sentence, one hidden layer and one 3 x 3 convolution.

    It shows what the encoders alone give away, and is no part of AlignFormer. Each pixel becomes 2 x 2 pixels.
    """

    def __init__(self, level_dims: list[int], dim: int, word_dim: int):
        super().__init__()
        self.joined = nn.Linear(level_dims[-1] + word_dim, level_dims[-1])
        self.spatial = nn.Conv2d(level_dims[-1], 4 * dim, kernel_size=3, padding=1)
        self.norm = nn.LayerNorm(dim)

    def forward(self, features: list[Feature], sentence: torch.Tensor) -> torch.Tensor:
        """Features, of which it reads the last of h x w pixels, sentence (B, T) -> embeddings (B, 2 h, 2 w, D)."""
        last = of_samples(*features[-1])  # (B, h, w, C)
        said = sentence[:, None, None].expand(-1, *last.shape[1:3], -1)  # (B, h, w, T)
        hidden = F.gelu(self.joined(torch.cat([last, said], dim=-1)))
        found = self.spatial(hidden.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)  # (B, h, w, 4 D)
        return self.norm(spread(found, 2))


def spread(x: torch.Tensor, s: int) -> torch.Tensor:
    """Spread the channels of each pixel over s x s pixels: (B, h, w, s * s * D) -> (B, s * h, s * w, D).

    This is `nn.PixelShuffle` for channels-last features, except that a channel's index counts (s, s, D).
    """
    if s == 1:
        return x
    batch, height, width, _ = x.shape
    x = x.unflatten(3, (s, s, -1)).transpose(2, 3)  # (B, h, s, w, s, D)
    return x.reshape(batch, s * height, s * width, -1)


def resize(x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Bilinear resize of channels-last features: (B, h, w, D) -> (B, *size, D)."""
    return F.interpolate(x.permute(0, 3, 1, 2), size=size, mode="bilinear", align_corners=False).permute(0, 2, 3, 1)
