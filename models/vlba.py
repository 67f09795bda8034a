"""Vision-language bidirectional attention (VLBA): pixels and words exchange features after a vision level.

One score map serves both directions: S = Q(pixels) K(words)^T / sqrt(d), with an instance norm over the pixels on Q.
Text to pixel: softmax over words, padded ones at -inf, times V(words), output projection, instance norm. Pixel to text:
softmax over pixels of S^T, times the instance norm of V(pixels), output projection, padded words set to zero again.

The code computes exactly this, but in an order that touches the N pixels as rarely as possible, since N is 14,400 for
L = 20 words in the published setting:

- An instance norm scales a channel of all pixels alike, so its scale is applied to the L words on the other side of the
  product. Its mean is subtracted once, before the projections, which have no bias.
- Projections of attended words are applied to the L words, before the words are spread over the N pixels.
- The variance of the attended words follows from the L x L covariance of their weights.

Words are alike: in trained models, the mean cosine between two of them is .93 to .97. What they have in common cancels
in text to pixel, so their mean is taken off first. Half precision would lose the differences in the sums otherwise.

Two controls tell what attention and exchange are worth: `GlobalWords` and `NoExchange`.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from models.encoders import of_samples
from models.grouping import masked_mean


class VLBAOutput(NamedTuple):
    """Shapes: pixels, features (B, N, C); words (B, L, T). `features` go to the pixel decoder.

    `pixels` are the argument, of P images, where they do not go on, and so are `features` without the direction text to
    pixel. Padded words are zero if the direction pixel to text exists, and unchanged if it does not.
    """

    pixels: torch.Tensor
    words: torch.Tensor
    features: torch.Tensor


class GatedFusion(nn.Module):
    """F = MLP([P(x) ; attended]); x + g(F) * F, g = tanh gate in [-1, 1]; without a gate, x is unchanged.

    P is the own projection, a linear layer and a GELU. The first layer of the MLP is `own(P(x)) + read(attended)`.
    """

    def __init__(self, dim: int, gated: bool = True):
        super().__init__()
        self.own = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim))
        self.read = nn.Linear(dim, dim, bias=False)
        self.mlp = nn.Sequential(nn.GELU(), nn.Linear(dim, dim), nn.GELU())
        self.gate = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim), nn.Tanh()) if gated else None

    def forward(
        self, x: torch.Tensor, read: torch.Tensor, image_index: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """x (B or P, N, dim) and `self.read(attended)` (B, N, dim) -> the updated x and F, both (B, N, dim).

        Without a gate, the first is x.
        """
        fused = self.mlp(of_samples(self.own(x), image_index) + read)  # (B, N, dim)
        return (of_samples(x, image_index) + self.gate(fused) * fused if self.gate else x), fused


class VLBA(nn.Module):
    """The attention between one level of the vision encoder and the words.

    Args:
        pixel_dim: channels C of the level; also the width d of the score map.
        word_dim: channels T of the words.
        to_pixel, to_text: the directions. One that is off has no parameters and leaves its side unchanged.
        pixels_go_on: whether a vision level reads the updated pixels. If not, they are not computed.
        words_go_on: whether a VLBA reads the updated words. If not, the words are final, and are F.
    """

    def __init__(
        self,
        pixel_dim: int,
        word_dim: int,
        to_pixel: bool = True,
        to_text: bool = True,
        pixels_go_on: bool = True,
        words_go_on: bool = True,
    ):
        super().__init__()
        self.to_pixel, self.to_text = to_pixel, to_text
        self.pixels_go_on, self.words_go_on = to_pixel and pixels_go_on, words_go_on
        self._add_scores(pixel_dim, word_dim)
        if self.to_pixel:
            self.word_value = nn.Linear(word_dim, pixel_dim, bias=False)
            self.pixel_out = nn.Linear(pixel_dim, pixel_dim, bias=False)
            self.pixel_fusion = GatedFusion(pixel_dim, gated=pixels_go_on)
        if self.to_text:
            self.pixel_value = nn.Linear(pixel_dim, word_dim, bias=False)
            self.word_out = nn.Linear(word_dim, word_dim)
            self.word_fusion = GatedFusion(word_dim, gated=words_go_on)

    def forward(
        self,
        pixels: torch.Tensor,
        words: torch.Tensor,
        word_mask: torch.Tensor,
        image_index: torch.Tensor | None = None,
    ) -> VLBAOutput:
        """One exchange. What depends on the pixels alone is computed once for each image.

        Args:
            pixels: (P, N, C).
            words: (B, L, T).
            word_mask: (B, L) bool, true for words, false for padding. In a row of padding alone, pixels read zeros.
            image_index: (B,) integers, each sample's image among the P images; None if P = B, one each.
        """
        read, gathered = self.exchange(pixels, words, word_mask, image_index)
        new_pixels, features, new_words = pixels, pixels, words
        if self.to_pixel:
            new_pixels, features = self.pixel_fusion(pixels, read, image_index)
        if self.to_text:
            present = word_mask.unsqueeze(-1)  # (B, L, 1)
            gathered = self.word_out(gathered) * present  # (B, L, T)
            updated, fused = self.word_fusion(words, self.word_fusion.read(gathered))
            new_words = (updated if self.words_go_on else fused) * present
        return VLBAOutput(new_pixels, new_words, features)

    def exchange(
        self,
        pixels: torch.Tensor,
        words: torch.Tensor,
        word_mask: torch.Tensor,
        image_index: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """What each side attends to, for the arguments of `forward`; None for a direction that is off.

        Returns:
            For pixels up to the first layer of the fusion, (B, N, C) or, the same for all, (B, 1, C); for words up to
            the output projection, (B, L, T).
        """
        centered = pixels - pixels.mean(dim=1, keepdim=True)  # (P, N, C)
        scores = self.scores(centered, words, image_index)  # (B, N, L)
        read = self._read_by_pixels(scores, words, word_mask) if self.to_pixel else None
        return read, self._gathered_by_words(scores, centered, image_index) if self.to_text else None

    def _add_scores(self, pixel_dim: int, word_dim: int) -> None:
        self.query = nn.Linear(pixel_dim, pixel_dim, bias=False)
        self.key = nn.Linear(word_dim, pixel_dim)

    def scores(
        self, centered: torch.Tensor, words: torch.Tensor, image_index: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The score map that both directions share: pixels minus their mean (P, N, C), words (B, L, T) -> (B, N, L)."""
        query = self.query(centered)  # (P, N, C)
        scale = of_samples(_scale(_variance(query)), image_index)  # (B, 1, C)
        key = self.key(words) * scale / math.sqrt(query.shape[-1])  # (B, L, C)
        return of_samples(query, image_index) @ key.transpose(1, 2)

    def attention(
        self,
        pixels: torch.Tensor,
        words: torch.Tensor,
        word_mask: torch.Tensor,
        image_index: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """The attention weights for the arguments of `forward`, for inspection.

        Returns:
            Text to pixel (B, N, L), each pixel's weights of the words, and pixel to text (B, L, N), each word's weights
            of the pixels, zero for padded words. None for a direction that does not exist.
        """
        scores = self.scores(pixels - pixels.mean(dim=1, keepdim=True), words, image_index)
        read = self._word_shares(scores, word_mask) if self.to_pixel else None
        gathered = self._pixel_shares(scores) * word_mask.unsqueeze(-1) if self.to_text else None
        return read, gathered

    @staticmethod
    def _word_shares(scores: torch.Tensor, word_mask: torch.Tensor) -> torch.Tensor:
        least = torch.finfo(scores.dtype).min  # not -inf, which would give NaN in a row of padding alone
        return scores.masked_fill(~word_mask.unsqueeze(1), least).softmax(dim=2)  # (B, N, L)

    @staticmethod
    def _pixel_shares(scores: torch.Tensor) -> torch.Tensor:
        return scores.softmax(dim=1).transpose(1, 2)  # (B, L, N)

    def _read_by_pixels(self, scores: torch.Tensor, words: torch.Tensor, word_mask: torch.Tensor) -> torch.Tensor:
        """Text to pixel, up to the first layer of the fusion: (B, N, L), (B, L, T), (B, L) -> (B, N, C)."""
        weights = self._word_shares(scores, word_mask)  # (B, N, L)
        weights = weights - weights.mean(dim=1, keepdim=True)
        # The weights of a pixel now sum to 0, so the product below is the same without the mean of the words.
        words = (words - masked_mean(words, word_mask).unsqueeze(1)).masked_fill(~word_mask.unsqueeze(-1), 0)
        values = self.pixel_out(self.word_value(words))  # (B, L, C)
        covariance = weights.transpose(1, 2) @ weights / weights.shape[1]  # (B, L, L)
        variance = (values * (covariance @ values)).sum(dim=1, keepdim=True)  # (B, 1, C), that of weights @ values
        return weights @ self.pixel_fusion.read(values * _scale(variance))

    def _gathered_by_words(
        self, scores: torch.Tensor, centered: torch.Tensor, image_index: torch.Tensor | None
    ) -> torch.Tensor:
        """Pixel to text, up to the output projection: (B, N, L), (P, N, C) -> (B, L, T)."""
        values = self.pixel_value(centered)  # (P, N, T)
        gathered = self._pixel_shares(scores) @ of_samples(values, image_index)  # (B, L, T)
        return gathered * of_samples(_scale(_variance(values)), image_index)


class GlobalWords(VLBA):
    """The control without attention: the mean of the words goes to every pixel alike.

    Otherwise as text to pixel, but for its norm: over pixels a constant has no variance, so the norm is over channels.
    """

    def _add_scores(self, pixel_dim: int, word_dim: int) -> None:
        """None: there is no attention."""

    def exchange(
        self,
        pixels: torch.Tensor,
        words: torch.Tensor,
        word_mask: torch.Tensor,
        image_index: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, None]:
        values = self.pixel_out(self.word_value(masked_mean(words, word_mask)))  # (B, C)
        return self.pixel_fusion.read(F.layer_norm(values, values.shape[-1:])).unsqueeze(1), None

    def attention(self, *_: torch.Tensor | None) -> tuple[None, None]:
        """There is none."""
        return None, None


class NoExchange(VLBA):
    """The control with all parameters of both directions, where nothing is exchanged.

    In place of the words, a pixel reads its own query. In place of the pixels, a word reads the sum of its own key and
    value.
    """

    def exchange(
        self,
        pixels: torch.Tensor,
        words: torch.Tensor,
        word_mask: torch.Tensor,
        image_index: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        centered = pixels - pixels.mean(dim=1, keepdim=True)  # (P, N, C)
        values = self.pixel_out(self.query(centered))  # (P, N, C)
        read = self.pixel_fusion.read(values * _scale(_variance(values)))  # (P, N, C)
        return of_samples(read, image_index), self.pixel_value(self.key(words) + self.word_value(words))

    def attention(self, *_: torch.Tensor | None) -> tuple[None, None]:
        """There is none."""
        return None, None


VLBA_KINDS: dict[str, Callable[..., VLBA]] = {  # by the variant's field `vlba`
    "text_to_pixel": partial(VLBA, to_text=False),
    "pixel_to_text": partial(VLBA, to_pixel=False),
    "bidirectional": VLBA,
    "global_words": partial(GlobalWords, to_text=False),
    "no_exchange": NoExchange,
}


def _variance(x: torch.Tensor) -> torch.Tensor:
    """Variance over N of (B, N, C) with mean 0 -> (B, 1, C)."""
    return (torch.linalg.vector_norm(x, dim=1, keepdim=True) / math.sqrt(x.shape[1])).square()


def _scale(variance: torch.Tensor, eps: float = 1e-5) -> torch.Tensor:
    """The factor of an instance norm."""
    return torch.rsqrt(variance.clamp(min=0) + eps)
