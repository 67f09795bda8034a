"""AlignFormer: encoders with VLBA in between, pixel decoder, center embedding, grouping."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoModel, PreTrainedModel
from transformers import initialization as init
from transformers.utils.generic import ModelOutput

from models.configuration import AlignFormerConfig
from models.encoders import text_encoder, vision_encoder
from models.grouping import CenterEmbedding, Grouping, masked_mean
from models.losses import Losses, at_least_float32, cosine
from models.pixel_decoder import PixelDecoder
from models.vlba import VLBA


@dataclass
class AlignFormerOutput(ModelOutput):
    """What AlignFormer computes for B samples.

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
        vision_config, text_config = config.encoders
        self.vision = vision_encoder(vision_config)
        dims, word_dim = self.vision.dims, text_config.hidden_size
        self.text = text_encoder(text_config)
        self.stage_norms = nn.ModuleList(nn.LayerNorm(dim) for dim in dims)  # of the levels; so named in weight files
        self.pixel_decoder = PixelDecoder(dims, self.vision.upsampling, config.pixel_dim, word_dim)
        self.center = CenterEmbedding(word_dim, config.pixel_dim)
        self.grouping = Grouping(config.pixel_dim)
        self.losses = Losses(config)
        self.frozen: list[nn.Module] = []
        self.vlba = nn.ModuleDict()  # by the level of the vision encoder that it stands after
        with torch.random.fork_rng(devices=[]):  # what only some variants have leaves the draws of the others alone
            if config.vlba != "none":
                for level in range(len(dims))[-(config.vlba_levels or len(dims)) :]:
                    self.vlba[str(level)] = VLBA(dims[level], word_dim, config.vlba, last=level == len(dims) - 1)
            if config.contrastive != "none":
                self.projection = nn.Linear(config.pixel_dim, config.pixel_dim)
        self.post_init()

    @classmethod
    def from_pretrained(cls, *args, **kwargs):
        """As of transformers; channels last, as the model was scored, so that it answers the same to the bit."""
        loaded = super().from_pretrained(*args, **kwargs)
        model: nn.Module = loaded[0] if isinstance(loaded, tuple) else loaded
        model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        return loaded

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Xavier-uniform weights and zero biases for the parts that are AlignFormer's own; encoders keep theirs."""
        if isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d):
            init.kaiming_uniform_(module.weight, nonlinearity="linear")
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)

    def freeze(self, vision_levels: int = 0, text: bool = False) -> None:
        """Keep the first levels of the vision encoder, and the text encoder, as they are: no gradient, no dropout."""
        self.frozen = [part for level in range(vision_levels) for part in self.vision.parts(level)]
        self.frozen += [self.text] if text else []
        for part in self.frozen:
            part.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "AlignFormer":
        super().train(mode)
        for part in self.frozen:
            part.eval()
        return self

    @property
    def levels_without_words(self) -> int:
        """How many levels of the vision encoder compute the same for every expression: they run once per image."""
        if self.config.vlba in ("none", "pixel_to_text"):
            return len(self.vision.dims)
        return int(next(iter(self.vlba))) + 1

    def forward(
        self,
        pixel_values: torch.Tensor,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        masks: torch.Tensor | None = None,
        image_ids: torch.Tensor | None = None,
        image_index: torch.Tensor | None = None,
        text_index: torch.Tensor | None = None,
    ) -> AlignFormerOutput:
        """Segment what each expression means.

        B samples may share P image_index and E text_index, each of which is then encoded once as far as it goes.

        Args:
            pixel_values: (P, 3, H, W) normalised images.
            input_ids: (E, L) tokens of the expressions.
            attention_mask: (E, L), 1 where a token is.
            masks: (B, H, W) true masks, 0 or 1; with them the losses are computed.
            image_ids: (B,) integers, which image each sample comes from; needed by the instance contrast.
            image_index: (B,) integers, which of the P images each sample is about; None where P = B, one each.
            text_index: (B,) integers, which of the E expressions it has; None where E = B, one each.
        """
        pixels, center = self.represent(pixel_values, input_ids, attention_mask, image_index, text_index)
        logits = at_least_float32(self.grouping(pixels, center)).unsqueeze(1)  # (B, 1, h, w)
        logits = F.interpolate(logits, size=pixel_values.shape[-2:], mode="bilinear", align_corners=False).squeeze(1)

        pixels, center = self.project(pixels, center)
        output = AlignFormerOutput(logits=logits, similarity=cosine(pixels, center))
        if masks is not None:
            output.loss, output.mask_loss, output.contrastive_loss = self.losses(
                logits, pixels, center, output.similarity, masks.to(logits.dtype), image_ids
            )
        return output

    def represent(
        self,
        pixel_values: torch.Tensor,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        image_index: torch.Tensor | None = None,
        text_index: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What grouping compares: pixel embeddings (B, h, w, D) and centers (B, D). Arguments: see `forward`."""
        word_mask = attention_mask.bool()
        readable = word_mask[:, None, None, :].expand(-1, 1, word_mask.shape[1], -1)  # (E, 1, L, L); made by the
        words = self.text(input_ids=input_ids, attention_mask=readable).last_hidden_state  # library, it costs a sync
        if text_index is not None:
            words, word_mask = words[text_index], word_mask[text_index]  # (B, L, T), (B, L)
        features, words = self.encode(pixel_values, words, word_mask, image_index)
        pixels = self.pixel_decoder(features, masked_mean(words, word_mask))  # (B, h, w, D)
        return pixels, self.center(words, word_mask)

    def encode(
        self,
        pixel_values: torch.Tensor,
        words: torch.Tensor,
        word_mask: torch.Tensor,
        image_index: torch.Tensor | None = None,
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Vision levels with VLBA between: images, words -> features of each level (B, h, w, C), final words."""
        grid = self.vision.embed(pixel_values)  # of P images
        features = []
        for level, norm in enumerate(self.stage_norms):
            grid = self.vision.level(level, grid)
            sample = grid if image_index is None else grid.of(image_index)  # of B samples
            feature = sample.tokens  # (B, N, C)
            if str(level) in self.vlba:
                tokens, words, feature = self.vlba[str(level)](sample.tokens, words, word_mask)
                if tokens is not sample.tokens:
                    grid, image_index = sample._replace(tokens=tokens), None  # from here on every sample has its own
            features.append(norm(feature).unflatten(1, grid.size))  # (B, h, w, C)
        return features, words

    def project(self, pixels: torch.Tensor, center: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Vectors whose cosine the contrastive losses train: (B, h, w, D), (B, D) -> the same shapes."""
        if self.config.contrastive == "none":
            return at_least_float32(pixels.detach()), at_least_float32(center.detach())
        return at_least_float32(self.projection(pixels)), at_least_float32(self.projection(center))


AutoModel.register(AlignFormerConfig, AlignFormer)
