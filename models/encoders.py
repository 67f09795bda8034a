"""The two encoders. The vision encoder runs stage by stage, so that words can enter between stages.

A vision encoder of another kind is one more class with the same attributes and methods and an entry in `VISION_STAGES`.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
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
        pixels: (B, N, C), N = h * w.
        size: (h, w).
        extra: (B, K, C) tokens beside the pixels, which only the encoder's own stages read; None where it has none.
    """

    pixels: torch.Tensor
    size: tuple[int, int]
    extra: torch.Tensor | None = None

    def of(self, image_index: torch.Tensor) -> "Grid":
        """The grid of some of the images, in this order: (B',) integers."""
        return Grid(self.pixels[image_index], self.size, None if self.extra is None else self.extra[image_index])


class SwinStages(nn.Module):
    """A Swin transformer in stages. Run in sequence they compute what `SwinBackbone` does before its norms.

    Attributes:
        encoder: the library's model.
        dims: channels of each stage.
        upsampling: how much finer than its own grid each stage's features enter the pixel decoder.
    """

    def __init__(self, config: SwinConfig):
        super().__init__()
        self.encoder = SwinModel(config, add_pooling_layer=False)
        self.encoder.layernorm = nn.Identity()  # every stage has a norm of its own in AlignFormer
        self.dims = [config.embed_dim * 2**stage for stage in range(len(config.depths))]
        self.upsampling = [1] * len(self.dims)

    def embed(self, pixel_values: torch.Tensor) -> Grid:
        """Images (B, 3, H, W) -> patches."""
        return Grid(*self.encoder.embeddings(pixel_values, interpolate_pos_encoding=True))

    def stage(self, index: int, grid: Grid) -> Grid:
        """One stage, which starts by halving the grid unless it is the first."""
        pixels, size, _ = grid
        if index > 0:
            pixels = self.encoder.encoder.layers[index - 1].downsample(pixels, size)
            size = ((size[0] + 1) // 2, (size[1] + 1) // 2)
        for block in self.encoder.encoder.layers[index].blocks:
            pixels, _ = block(pixels, size, always_partition=True)
        return Grid(pixels, size)

    def parts(self, index: int) -> list[nn.Module]:
        """What computes a stage; the first has the embedding too."""
        layers = self.encoder.encoder.layers
        return [layers[index - 1].downsample if index else self.encoder.embeddings, layers[index].blocks]


class Dinov2Stages(nn.Module):
    """A DINOv2, a plain ViT, in four groups of blocks, all on one grid. In sequence they compute what `Dinov2Backbone`
    does before its norm. Position embeddings are interpolated to the input's size. Attributes and methods as above.

    The first two groups enter the pixel decoder on grids four and two times as fine, as in ViTDet (Li et al. 2022).
    """

    def __init__(self, config: Dinov2Config):
        super().__init__()
        config.use_mask_token = False  # it is for pretraining only
        self.encoder = Dinov2Model(config)
        self.encoder.layernorm = nn.Identity()
        self.upsampling = [4, 2, 1, 1]
        self.dims = [config.hidden_size] * len(self.upsampling)
        blocks = np.array_split(range(config.num_hidden_layers), len(self.dims))
        self._ends = [0, *np.cumsum([len(group) for group in blocks]).tolist()]

    def embed(self, pixel_values: torch.Tensor) -> Grid:
        tokens = self.encoder.embeddings(pixel_values)  # (B, 1 + N, C)
        patch_height, patch_width = self.encoder.embeddings.patch_embeddings.patch_size
        height, width = pixel_values.shape[-2:]
        return Grid(tokens[:, 1:], (height // patch_height, width // patch_width), tokens[:, :1])

    def stage(self, index: int, grid: Grid) -> Grid:
        tokens = torch.cat([grid.extra, grid.pixels], dim=1)  # (B, 1 + N, C)
        for block in self._blocks(index):
            tokens = block(tokens)
        return Grid(tokens[:, 1:], grid.size, tokens[:, :1])

    def parts(self, index: int) -> list[nn.Module]:
        return [*([] if index else [self.encoder.embeddings]), *self._blocks(index)]

    def _blocks(self, index: int) -> nn.ModuleList:
        start, end = list(pairwise(self._ends))[index]
        return self.encoder.encoder.layer[start:end]


class ResNetStages(nn.Module):
    """A ResNet in stages. In sequence they compute what `ResNetBackbone` does. Attributes and methods as above."""

    def __init__(self, config: ResNetConfig):
        super().__init__()
        self.encoder = ResNetModel(config)
        self.dims = list(config.hidden_sizes)
        self.upsampling = [1] * len(self.dims)

    def embed(self, pixel_values: torch.Tensor) -> Grid:
        return _flat(self.encoder.embedder(pixel_values))

    def stage(self, index: int, grid: Grid) -> Grid:
        maps = grid.pixels.unflatten(1, grid.size).permute(0, 3, 1, 2)  # (B, C, h, w), channels last in memory
        return _flat(self.encoder.encoder.stages[index](maps))

    def parts(self, index: int) -> list[nn.Module]:
        return [*([] if index else [self.encoder.embedder]), self.encoder.encoder.stages[index]]


def _flat(maps: torch.Tensor) -> Grid:
    """(B, C, h, w) -> the grid."""
    return Grid(maps.flatten(2).transpose(1, 2), tuple(maps.shape[2:]))


VISION_STAGES = {"swin": SwinStages, "dinov2": Dinov2Stages, "resnet": ResNetStages}


def vision_stages(config: PreTrainedConfig) -> nn.Module:
    """The staged vision encoder for a configuration. Raises ValueError for a kind that has none."""
    if config.model_type not in VISION_STAGES:
        raise ValueError(f"no staged vision encoder for {config.model_type!r}; there is one for {list(VISION_STAGES)}")
    return VISION_STAGES[config.model_type](config)


def text_encoder(config: PreTrainedConfig) -> PreTrainedModel:
    """A BERT-like text encoder without its pooler."""
    encoder = AutoModel.from_config(config)
    if hasattr(encoder, "pooler"):
        encoder.pooler = None
    return encoder
