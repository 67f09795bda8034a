"""AlignFormer: encoders with VLBA in between, pixel decoder, center embedding, grouping."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from models.configuration import AlignFormerConfig
from models.encoders import text_encoder, vision_stages
from models.grouping import CenterEmbedding, Grouping, masked_mean
from models.losses import instance_contrast, mask_loss, pixel_contrast
from models.pixel_decoder import PixelDecoder
from models.vlba import VLBA


@dataclass
class AlignFormerOutput(ModelOutput):
    """What AlignFormer answers.

    Attributes:
        loss: scalar, mask loss plus weighted contrastive loss; present where masks were given, as the two below.
        mask_loss: scalar.
        contrastive_loss: scalar, not weighted; 0 for the variants without one.
        logits: (B, H, W) at the resolution of the input; positive means inside.
        similarity: (B, h, w) cosine of pixel embedding and center at the decoder's resolution (projected where a
            contrastive loss trains a projection).
    """

    loss: torch.Tensor | None = None
    mask_loss: torch.Tensor | None = None
    contrastive_loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    similarity: torch.Tensor | None = None


class AlignFormer(PreTrainedModel):
    """A referring image segmentation model: an image and an expression -> the mask of what the expression means.

    The parts that all variants share are made and initialised first, so that under one seed they start from the same
    weights in every variant.
    """

    config_class = AlignFormerConfig
    main_input_name = "pixel_values"
    _supports_sdpa = True

    def __init__(self, config: AlignFormerConfig):
        super().__init__(config)
        word_dim = config.text_config.hidden_size
        self.vision = vision_stages(config.vision_config)
        self.text = text_encoder(config.text_config)
        self.stage_norms = nn.ModuleList(nn.LayerNorm(dim) for dim in self.vision.dims)
        self.pixel_decoder = PixelDecoder(self.vision.dims, config.pixel_dim, word_dim)
        self.center = CenterEmbedding(word_dim, config.pixel_dim)
        self.grouping = Grouping(config.pixel_dim)
        with torch.random.fork_rng(
            devices=[]
        ):  # what only some variants have leaves the draws of the shared parts alone
            if config.vlba != "none":
                self.vlba = nn.ModuleList(
                    VLBA(dim, word_dim, config.vlba, last=stage == len(self.vision.dims) - 1)
                    for stage, dim in enumerate(self.vision.dims)
                )
            if config.contrastive != "none":
                self.projection = nn.Linear(config.pixel_dim, config.pixel_dim)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Xavier-uniform weights and zero biases for the parts that are AlignFormer's own; encoders keep theirs."""
        if isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d):
            init.kaiming_uniform_(module.weight, nonlinearity="linear")
            init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)

    def forward(
        self,
        pixel_values: torch.Tensor,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        masks: torch.Tensor | None = None,
        image_ids: torch.Tensor | None = None,
    ) -> AlignFormerOutput:
        """Segment what each expression means.

        Args:
            pixel_values: (B, 3, H, W) normalised images.
            input_ids: (B, L) tokens of the expressions.
            attention_mask: (B, L), 1 where a token is.
            masks: (B, H, W) true masks, 0 or 1; with them the losses are computed.
            image_ids: (B,) integers, which image each sample comes from; needed by the instance contrast.
        """
        word_mask = attention_mask.bool()
        words = self.text(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state  # (B, L, T)
        features, words = self.encode(pixel_values, words, word_mask)
        pixels = self.pixel_decoder(features, masked_mean(words, word_mask))  # (B, h, w, D)
        center = self.center(words, word_mask)  # (B, D)
        logits = self.grouping(pixels, center).unsqueeze(1)  # (B, 1, h, w)
        logits = F.interpolate(logits, size=pixel_values.shape[-2:], mode="bilinear", align_corners=False).squeeze(1)

        pixels, center = self.project(pixels, center)
        output = AlignFormerOutput(logits=logits, similarity=torch.einsum("bhwd,bd->bhw", pixels, center))
        if masks is not None:
            self.add_losses(output, pixels, center, masks.to(logits.dtype), image_ids)
        return output

    def encode(
        self, pixel_values: torch.Tensor, words: torch.Tensor, word_mask: torch.Tensor
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Vision stages with VLBA after each: images, words -> features of each stage (B, h, w, C), final words."""
        pixels, size = self.vision.embed(pixel_values)
        features = []
        for stage, norm in enumerate(self.stage_norms):
            pixels, size = self.vision.stage(stage, pixels, size)  # (B, N, C)
            feature = pixels
            if self.config.vlba != "none":
                pixels, words, feature = self.vlba[stage](pixels, words, word_mask)
            features.append(norm(feature).unflatten(1, size))  # (B, h, w, C)
        return features, words

    def project(self, pixels: torch.Tensor, center: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Unit vectors whose cosine the contrastive losses train: (B, h, w, D), (B, D) -> the same shapes."""
        if self.config.contrastive != "none":
            pixels, center = self.projection(pixels), self.projection(center)
        return F.normalize(pixels, dim=-1), F.normalize(center, dim=-1)

    def add_losses(
        self,
        output: AlignFormerOutput,
        pixels: torch.Tensor,
        center: torch.Tensor,
        masks: torch.Tensor,
        image_ids: torch.Tensor | None,
    ) -> None:
        """Fill in the losses. Shapes: pixels (B, h, w, D) and center (B, D), unit vectors; masks (B, H, W)."""
        config = self.config
        output.mask_loss = mask_loss(
            output.logits, masks, config.bce_weight, config.dice_weight, config.positive_weight
        )
        shares = F.adaptive_avg_pool2d(masks.unsqueeze(1), pixels.shape[1:3]).squeeze(1)  # (B, h, w)
        if config.contrastive == "pixel":
            output.contrastive_loss = pixel_contrast(pixels, center, shares, config.temperature)
        elif config.contrastive == "instance":
            output.contrastive_loss = instance_contrast(pixels, center, shares, image_ids, config.temperature)
        else:
            output.contrastive_loss = torch.zeros_like(output.mask_loss)
        output.loss = output.mask_loss + config.contrastive_weight * output.contrastive_loss
