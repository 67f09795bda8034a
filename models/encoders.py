"""The two encoders. The vision encoder runs level by level, so that words can enter between levels.

To add a kind of vision encoder, write one more class that follows `VisionEncoder` and enter it in `VISION_ENCODERS`.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from transformers import (
    AutoModel,
    Dinov2Config,
    Dinov2Model,
    PreTrainedConfig,
    PreTrainedModel,
    ResNetConfig,
    ResNetModel,
    SwinConfig,
    SwinModel,
)


class Grid(NamedTuple):
    """Images inside a vision encoder.

    Attributes:
        tokens: (B, N, C), N = h * w, one per position of the grid.
        size: (h, w).
        prefix_tokens: (B, K, C) tokens without a position, such as a class token, which only the encoder's own levels
            read; None if there are none.
    """

    tokens: torch.Tensor
    size: tuple[int, int]
    prefix_tokens: torch.Tensor | None = None

    def of(self, image_index: torch.Tensor | None) -> "Grid":
        """The grid of the images at `image_index`, (B',) integers, in that order; None: the same."""
        if image_index is None:
            return self
        prefix = None if self.prefix_tokens is None else of_samples(self.prefix_tokens, image_index)
        return Grid(of_samples(self.tokens, image_index), self.size, prefix)


class Feature(NamedTuple):
    """What the pixel decoder reads of a level: (B, h, w, C), or of P images where words changed nothing before it.

    Attributes:
        maps: (P or B, h, w, C).
        image_index: (B,) integers, each sample's image among P; None where there is one for each sample.
    """

    maps: torch.Tensor
    image_index: torch.Tensor | None = None


def of_samples(images: torch.Tensor, image_index: torch.Tensor | None) -> torch.Tensor:
    """What belongs to P images (P, ...), for each of the B samples about them (B, ...); None: one sample each."""
    return images if image_index is None else images.index_select(0, image_index)


class EncodedImages(NamedTuple):
    """What the first levels of a vision encoder made of B images: the rest of the model needs nothing else of them.

    Attributes:
        grids: the grid behind each of these levels.
        size: (H, W) of the images.
    """

    grids: list[Grid]
    size: tuple[int, int]

    def to(self, *args, **kwargs) -> "EncodedImages":
        """As `torch.Tensor.to`."""
        return self.map(lambda tensor: tensor.to(*args, **kwargs))

    def map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> "EncodedImages":
        """The same, with a function of each tensor in its place."""
        kept = [None if grid.prefix_tokens is None else function(grid.prefix_tokens) for grid in self.grids]
        grids = [Grid(function(grid.tokens), grid.size, prefix) for grid, prefix in zip(self.grids, kept, strict=True)]
        return EncodedImages(grids, self.size)


class LevelsError(ValueError):
    """A setting does not fit the levels of the vision encoder."""


class VisionEncoder(Protocol):
    """A vision encoder that runs level by level.

    Attributes:
        encoder: the transformers model; pretrained weights are loaded into it.
        dims: channels of each level.
        upsampling: for each level, how many times finer than the level's own grid its features enter the pixel decoder.
    """

    encoder: PreTrainedModel
    dims: list[int]
    upsampling: list[int]

    def embed(self, pixel_values: torch.Tensor) -> Grid:
        """Normalised images (B, 3, H, W) -> the input grid of the first level."""
        ...

    def level(self, index: int, grid: Grid) -> Grid:
        """Run one level: the grid of the previous level -> the grid of this one."""
        ...

    def parts(self, index: int) -> list[nn.Module]:
        """The modules of a level; the first level includes the embedding."""
        ...


class SwinLevels(nn.Module):
    """A Swin transformer. Its levels in sequence compute what `SwinBackbone` does before its norms."""

    def __init__(self, config: SwinConfig):
        super().__init__()
        self.encoder: Any = SwinModel(config, add_pooling_layer=False)
        self.encoder.layernorm = nn.Identity()  # AlignFormer has one norm per level
        self.dims = [config.embed_dim * 2**level for level in range(len(config.depths))]
        self.upsampling = [1] * len(self.dims)

    def embed(self, pixel_values: torch.Tensor) -> Grid:
        return Grid(*self.encoder.embeddings(pixel_values, interpolate_pos_encoding=True))

    def level(self, index: int, grid: Grid) -> Grid:
        tokens, size, _ = grid
        if index > 0:
            tokens = self.encoder.encoder.layers[index - 1].downsample(tokens, size)
            size = ((size[0] + 1) // 2, (size[1] + 1) // 2)
        for block in self.encoder.encoder.layers[index].blocks:
            tokens, _ = block(tokens, size, always_partition=True)
        return Grid(tokens, size)

    def parts(self, index: int) -> list[nn.Module]:
        layers = self.encoder.encoder.layers
        return [layers[index - 1].downsample if index else self.encoder.embeddings, layers[index].blocks]


DINOV2_LEVELS = 4


class Dinov2Levels(nn.Module):
    """A DINOv2, which is a plain vision transformer (ViT): its levels are four groups of blocks, all on one grid.

    In sequence they compute what `Dinov2Backbone` does before its norm. Position embeddings are interpolated to the
    input size. The first levels enter the pixel decoder on finer grids, as in ViTDet (Li et al. 2022): four and two
    times as fine, or as the configuration's `upsampling` says.

    Raises:
        LevelsError: `upsampling` is not of so many levels, or of one that is finer than the level before it.
    """

    def __init__(self, config: Dinov2Config):
        super().__init__()
        config.use_mask_token = False  # used in pretraining only
        self.encoder: Any = Dinov2Model(config)
        self.encoder.layernorm = nn.Identity()
        self.upsampling = getattr(config, "upsampling", None) or [4, 2, 1, 1]
        self.dims = [config.hidden_size] * DINOV2_LEVELS
        if len(self.upsampling) != len(self.dims) or sorted(self.upsampling, reverse=True) != self.upsampling:
            raise LevelsError(
                f"upsampling is {self.upsampling}; it needs {len(self.dims)} numbers, none larger than the one before"
            )
        blocks = np.array_split(range(config.num_hidden_layers), len(self.dims))
        self._ends = [0, *np.cumsum([len(group) for group in blocks]).tolist()]

    def embed(self, pixel_values: torch.Tensor) -> Grid:
        tokens = self.encoder.embeddings(pixel_values)  # (B, 1 + N, C)
        patch_height, patch_width = self.encoder.embeddings.patch_embeddings.patch_size
        height, width = pixel_values.shape[-2:]
        return Grid(tokens[:, 1:], (height // patch_height, width // patch_width), tokens[:, :1])

    def level(self, index: int, grid: Grid) -> Grid:
        assert grid.prefix_tokens is not None
        tokens = torch.cat([grid.prefix_tokens, grid.tokens], dim=1)  # (B, 1 + N, C)
        for block in self._blocks(index):
            tokens = block(tokens)
        return Grid(tokens[:, 1:], grid.size, tokens[:, :1])

    def parts(self, index: int) -> list[nn.Module]:
        return [*([] if index else [self.encoder.embeddings]), *self._blocks(index)]

    def _blocks(self, index: int) -> nn.ModuleList:
        start, end = list(pairwise(self._ends))[index]
        return self.encoder.encoder.layer[start:end]


class PositionEmbedding(nn.Module):
    """A learned vector for each position of a grid of side x side, interpolated to other grids."""

    def __init__(self, dim: int, side: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, dim, side, side))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(B, C, h, w) -> the same with the vector of its position added to each pixel."""
        return maps + F.interpolate(self.weight, size=maps.shape[-2:], mode="bilinear", align_corners=False)


class ResNetLevels(nn.Module):
    """A ResNet. Its levels in sequence compute what `ResNetBackbone` does.

    Where the configuration has `position_grid`, the side of a grid, a position embedding is added behind the stem.
    """

    def __init__(self, config: ResNetConfig):
        super().__init__()
        self.encoder: Any = ResNetModel(config)
        side = getattr(config, "position_grid", None)
        self.positions = PositionEmbedding(config.embedding_size, side) if side else nn.Identity()
        self.dims = [*self.encoder.config.hidden_sizes]
        self.upsampling = [1] * len(self.dims)

    def embed(self, pixel_values: torch.Tensor) -> Grid:
        return _flat(self.positions(self.encoder.embedder(pixel_values)))

    def level(self, index: int, grid: Grid) -> Grid:
        maps = grid.tokens.unflatten(1, grid.size).permute(0, 3, 1, 2)  # (B, C, h, w), channels last in memory
        return _flat(self.encoder.encoder.stages[index](maps))

    def parts(self, index: int) -> list[nn.Module]:
        return [*([] if index else [self.encoder.embedder, self.positions]), self.encoder.encoder.stages[index]]


def _flat(maps: torch.Tensor) -> Grid:
    """(B, C, h, w) -> the grid."""
    return Grid(maps.flatten(2).transpose(1, 2), (maps.shape[2], maps.shape[3]))


VISION_ENCODERS = {"swin": SwinLevels, "dinov2": Dinov2Levels, "resnet": ResNetLevels}


def vision_encoder(config: PreTrainedConfig) -> VisionEncoder:
    """The vision encoder for a configuration. Raises ValueError if `VISION_ENCODERS` lacks its `model_type`."""
    if config.model_type not in VISION_ENCODERS:
        known = ", ".join(VISION_ENCODERS)
        raise ValueError(f"no vision encoder of kind {config.model_type!r} runs level by level here; known: {known}")
    return VISION_ENCODERS[config.model_type](config)


def text_encoder(config: PreTrainedConfig) -> PreTrainedModel:
    """A BERT-like text encoder without its pooler."""
    encoder = AutoModel.from_config(config)
    if hasattr(encoder, "pooler"):
        encoder.pooler = None
    return encoder
