"""Vision-language bidirectional attention (VLBA): pixels and words exchange features after a vision stage.

One score map serves both directions: S = Q(pixels) K(words)^T / sqrt(d). Text to pixel: softmax over words, padded ones
at -inf, times V(words). Pixel to text: softmax over pixels of S^T, times V(pixels), padded words set to zero again.
Layers that an instance norm follows have no bias: it would cancel.
"""

import math
from typing import NamedTuple

import torch
from torch import nn


class VLBAOutput(NamedTuple):
    """Shapes: pixels, features (B, N, C); words (B, L, T). `features` go to the pixel decoder.

    Padded words are zero where the direction pixel to text exists, and as they came where it does not.
    """

    pixels: torch.Tensor
    words: torch.Tensor
    features: torch.Tensor


class GatedFusion(nn.Module):
    """F = MLP([own ; attended]); x + g(F) * F, g = tanh gate in [-1, 1]; without a gate x stays as it is."""

    def __init__(self, dim: int, gated: bool = True):
        super().__init__()
        self.own = nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(2 * dim, dim), nn.GELU(), nn.Linear(dim, dim), nn.GELU())
        self.gate = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim), nn.Tanh()) if gated else None

    def forward(self, x: torch.Tensor, attended: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Two tensors (..., dim) -> the updated x and F, both (..., dim)."""
        fused = self.mlp(torch.cat([self.own(x), attended], dim=-1))  # (..., dim)
        return (x + self.gate(fused) * fused if self.gate else x), fused


class VLBA(nn.Module):
    """The attention between one vision stage and the words.

    Args:
        pixel_dim: channels C of the vision stage; also the width d of the score map.
        word_dim: channels T of the words.
        direction: text_to_pixel, pixel_to_text or bidirectional. A direction that is off has no parameters, and its
            side passes through unchanged.
        last: whether no vision stage follows that would read updated pixels; only `features` leave then.
    """

    def __init__(self, pixel_dim: int, word_dim: int, direction: str, last: bool = False):
        super().__init__()
        self.query = nn.Linear(pixel_dim, pixel_dim, bias=False)
        self.key = nn.Linear(word_dim, pixel_dim)
        self.to_pixel = direction in ("text_to_pixel", "bidirectional")
        self.to_text = direction in ("pixel_to_text", "bidirectional")
        if self.to_pixel:
            self.word_value = nn.Linear(word_dim, pixel_dim, bias=False)
            self.pixel_out = nn.Linear(pixel_dim, pixel_dim, bias=False)
            self.pixel_fusion = GatedFusion(pixel_dim, gated=not last)
        if self.to_text:
            self.pixel_value = nn.Linear(pixel_dim, pixel_dim, bias=False)
            self.word_out = nn.Linear(pixel_dim, word_dim)
            self.word_fusion = GatedFusion(word_dim)

    def forward(self, pixels: torch.Tensor, words: torch.Tensor, word_mask: torch.Tensor) -> VLBAOutput:
        """One exchange.

        Args:
            pixels: (B, N, C).
            words: (B, L, T).
            word_mask: (B, L) bool, true where a word is; every row has at least one.
        """
        scores = self.scores(pixels, words)  # (B, N, L)
        present = word_mask.unsqueeze(-1)  # (B, L, 1)
        new_pixels, features, new_words = pixels, pixels, words
        if self.to_pixel:
            reads = scores.masked_fill(~word_mask.unsqueeze(1), -math.inf).softmax(dim=2)  # (B, N, L)
            attended = over_pixels_norm(self.pixel_out(reads @ self.word_value(words)))  # (B, N, C)
            new_pixels, features = self.pixel_fusion(pixels, attended)
        if self.to_text:
            gathers = scores.softmax(dim=1).transpose(1, 2)  # (B, L, N)
            attended = self.word_out(gathers @ over_pixels_norm(self.pixel_value(pixels))) * present  # (B, L, T)
            new_words = self.word_fusion(words, attended)[0] * present
        return VLBAOutput(new_pixels, new_words, features)

    def scores(self, pixels: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        """The score map both directions share: (B, N, C), (B, L, T) -> (B, N, L)."""
        query = over_pixels_norm(self.query(pixels))  # (B, N, C)
        return query @ self.key(words).transpose(1, 2) / math.sqrt(query.shape[-1])


def over_pixels_norm(x: torch.Tensor, eps: float = 1e-5) -> torch.Tensor:
    """Instance norm without parameters: (B, N, C), each channel of each sample to mean 0 and variance 1 over N."""
    centered = x - x.mean(dim=1, keepdim=True)
    return centered * torch.rsqrt(centered.square().mean(dim=1, keepdim=True) + eps)
