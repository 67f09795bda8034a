"""The two encoders. The vision encoder runs stage by stage, so that words can enter between stages.

A vision encoder of another kind is one more class with the same two methods and an entry in `VISION_STAGES`.
"""

import torch
from torch import nn
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel, ResNetConfig, ResNetModel, SwinConfig, SwinModel

Size = tuple[int, int]


class SwinStages(nn.Module):
    """A Swin transformer in stages. Run in sequence they compute what `SwinBackbone` does before its norms.

    Attributes:
        dims: channels of each stage.
    """

    def __init__(self, config: SwinConfig):
        super().__init__()
        self.swin = SwinModel(config, add_pooling_layer=False)
        self.swin.layernorm = nn.Identity()  # every stage has a norm of its own in AlignFormer
        self.dims = [config.embed_dim * 2**stage for stage in range(len(config.depths))]

    def embed(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, Size]:
        """Images (B, 3, H, W) -> patches (B, N, C) and their grid (h, w), N = h * w."""
        return self.swin.embeddings(pixel_values, interpolate_pos_encoding=True)

    def stage(self, index: int, pixels: torch.Tensor, size: Size) -> tuple[torch.Tensor, Size]:
        """One stage, which starts by halving the grid unless it is the first: (B, N, C) -> (B, N', C') and its grid."""
        if index > 0:
            pixels = self.swin.encoder.layers[index - 1].downsample(pixels, size)
            size = ((size[0] + 1) // 2, (size[1] + 1) // 2)
        for block in self.swin.encoder.layers[index].blocks:
            pixels, _ = block(pixels, size, always_partition=True)
        return pixels, size


class ResNetStages(nn.Module):
    """A ResNet in stages. Run in sequence they compute what `ResNetBackbone` does; attributes and methods as above."""

    def __init__(self, config: ResNetConfig):
        super().__init__()
        self.resnet = ResNetModel(config)
        self.dims = list(config.hidden_sizes)

    def embed(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, Size]:
        return _flat(self.resnet.embedder(pixel_values.contiguous(memory_format=torch.channels_last)))

    def stage(self, index: int, pixels: torch.Tensor, size: Size) -> tuple[torch.Tensor, Size]:
        maps = pixels.unflatten(1, size).permute(0, 3, 1, 2)  # (B, C, h, w), channels last in memory
        return _flat(self.resnet.encoder.stages[index](maps))


def _flat(maps: torch.Tensor) -> tuple[torch.Tensor, Size]:
    """(B, C, h, w) -> (B, h * w, C) and the grid (h, w)."""
    return maps.flatten(2).transpose(1, 2), tuple(maps.shape[2:])


VISION_STAGES = {"swin": SwinStages, "resnet": ResNetStages}


def vision_stages(config: PreTrainedConfig) -> nn.Module:
    """The staged vision encoder for a configuration. Raises ValueError for a kind that has none."""
    if config.model_type not in VISION_STAGES:
        raise ValueError(f"no staged vision encoder for {config.model_type!r}; there is one for {list(VISION_STAGES)}")
    return VISION_STAGES[config.model_type](config)


def text_encoder(config: PreTrainedConfig) -> PreTrainedModel:
    """A BERT-like text encoder without its pooler."""
    return AutoModel.from_config(config, add_pooling_layer=False)
