"""AlignFormer: encoders with VLBA in between, pixel decoder, center embedding, grouping."""

import hashlib
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoModel, PreTrainedModel
from transformers import initialization as init
from transformers.utils.generic import ModelOutput

from models.configuration import AlignFormerConfig
from models.encoders import (
    EncodedImages,
    Feature,
    Grid,
    LevelsError,
    of_samples,
    text_encoder,
    vision_encoder,
)
from models.grouping import CenterEmbedding, CosineGrouping, Grouping, masked_mean
from models.losses import Losses, at_least_float32, cosine, hashed_words
from models.pixel_decoder import PixelDecoder, PlainDecoder
from models.vlba import VLBA_KINDS


@dataclass
class AlignFormerOutput(ModelOutput):
    """What AlignFormer computes for B samples.

    Attributes:
        loss: scalar, mask loss plus weighted contrastive loss. All three losses are None if no masks were given.
        mask_loss: scalar.
        contrastive_loss: scalar, before its weight is applied; 0 for variants without one.
        logits: (B, H, W) at the resolution of the input; positive means inside.
        similarity: (B, h, w) cosine between each pixel embedding and the center, at the decoder's resolution; both are
            projected first if the variant has a contrastive loss or draws the mask by this cosine.
    """

    loss: torch.Tensor | None = None
    mask_loss: torch.Tensor | None = None
    contrastive_loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    similarity: torch.Tensor | None = None


class AlignFormer(PreTrainedModel):
    """A referring image segmentation model: an image and an expression -> the mask of the object it refers to.

    Under one seed, all variants start with the same weights in the tensors that they have in common, by name and shape.

    Raises:
        LevelsError: VLBA is to follow more levels than the vision encoder has, or more are to be frozen.
    """

    config_class = AlignFormerConfig
    main_input_name = "pixel_values"
    _supports_sdpa = True

    def __init__(self, config: AlignFormerConfig):
        super().__init__(config)
        vision_config, text_config = config.encoders
        self.vision = vision_encoder(vision_config)
        dims, word_dim = self.vision.dims, text_config.hidden_size
        levels = range(len(dims))
        for key, count in (("vlba_levels", config.vlba_levels or 0), ("frozen", config.frozen_levels)):
            if count > len(levels):
                raise LevelsError(f"{key} is {count}, but the vision encoder has {len(levels)} levels")
        self.frozen_levels = len(levels) if config.frozen_encoders else config.frozen_levels
        self.text = text_encoder(text_config)
        self.stage_norms = nn.ModuleList(nn.LayerNorm(dim) for dim in dims)  # one per level; weight files use this name
        if config.head == "plain":
            self.pixel_decoder = PlainDecoder(dims, config.pixel_dim, word_dim)
            self.stage_norms[:-1].requires_grad_(False)  # nothing reads what they norm
        else:
            self.pixel_decoder = PixelDecoder(dims, self.vision.upsampling, config.pixel_dim, word_dim)
        self.center = CenterEmbedding(word_dim, config.pixel_dim)
        self.grouping = CosineGrouping() if config.grouping == "cosine" else Grouping(config.pixel_dim)
        self.losses = Losses(config)
        self.vlba = nn.ModuleDict()  # keyed by the vision level it follows
        if config.vlba != "none":
            for level in levels[-(config.vlba_levels or len(levels)) :]:
                last = level == levels[-1]
                self.vlba[str(level)] = VLBA_KINDS[config.vlba](
                    dims[level],
                    word_dim,
                    pixels_go_on=not last and level + 1 >= self.frozen_levels,
                    words_go_on=not last,
                )
        if config.contrastive != "none" or config.grouping == "cosine":
            self.projection = nn.Linear(config.pixel_dim, config.pixel_dim)
        self.post_init()
        self.frozen = [part for level in levels[: self.frozen_levels] for part in self.vision.parts(level)]
        self.frozen += [self.text] if config.frozen_text or config.frozen_encoders else []
        for part in self.frozen:
            part.requires_grad_(False).eval()

    @classmethod
    def from_pretrained(cls, *args, **kwargs):
        """Load as transformers does, then switch to the channels-last memory format.

        The model was scored in that format; only in it are its outputs the same to the bit.
        """
        loaded = super().from_pretrained(*args, **kwargs)
        model: nn.Module = loaded[0] if isinstance(loaded, tuple) else loaded
        model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        return loaded

    @torch.no_grad()
    def initialize_weights(self) -> None:
        """Draw the weights of every module from a random stream that follows from torch's seed and the module's name.

        Weights that were loaded stay, and so does torch's random state.
        """
        seed = torch.initial_seed()
        models: dict[str, PreTrainedModel] = {}  # the innermost one around a module knows how to initialise it
        with torch.random.fork_rng(devices=[]):
            for name, module in self.named_modules():
                models[name] = module if isinstance(module, PreTrainedModel) else models[name.rpartition(".")[0]]
                stream = hashlib.sha256(f"{seed} {name}".encode()).digest()
                torch.default_generator.manual_seed(int.from_bytes(stream[:4]))
                models[name]._init_weights(module)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialise AlignFormer's own layers; transformers initialises the encoders."""
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

    def train(self, mode: bool = True) -> "AlignFormer":
        super().train(mode)
        for part in self.frozen:
            part.eval()
        return self

    @property
    def levels_without_words(self) -> int:
        """How many vision levels compute the same for every expression of an image; they run once per image."""
        changed = (int(level) + 1 for level, exchange in self.vlba.items() if exchange.pixels_go_on)
        return next(changed, len(self.vision.dims))

    @torch.no_grad()
    def encode_images(self, pixel_values: torch.Tensor, levels: int) -> EncodedImages:
        """The first so many levels of P images (P, 3, H, W), without gradients: in place of these, the others' input.

        Raises:
            ValueError: words take part in one of these levels.
        """
        if levels > self.levels_without_words:
            raise ValueError(f"{levels} levels are asked for, but words take part after {self.levels_without_words}")
        grid, grids = self.vision.embed(pixel_values), []
        for level in range(levels):
            grid = self.vision.level(level, grid)
            grids.append(grid)
        height, width = pixel_values.shape[-2:]
        return EncodedImages(grids, (height, width))

    def forward(
        self,
        pixel_values: torch.Tensor | EncodedImages,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        masks: torch.Tensor | None = None,
        image_ids: torch.Tensor | None = None,
        image_index: torch.Tensor | None = None,
        text_index: torch.Tensor | None = None,
    ) -> AlignFormerOutput:
        """Segment the object that each expression refers to.

        B samples may share P images and E expressions. Each image is then encoded once up to the first level that reads
        words, and each expression is encoded once.

        Args:
            pixel_values: (P, 3, H, W) normalised images, or what `encode_images` made of them.
            input_ids: (E, L) tokens of the expressions.
            attention_mask: (E, L), 1 for a token, 0 for padding. A row of padding alone is an expression that says
                nothing: pixels read zeros, and the sentence is zero.
            masks: (B, H, W) true masks, 0 or 1; the losses are computed only if they are given.
            image_ids: (B,) integers, the id of each sample's image; the instance contrast needs them.
            image_index: (B,) integers, each sample's image among the P images; None if P = B, one each.
            text_index: (B,) integers, each sample's expression among the E expressions; None if E = B, one each.

        Raises:
            ValueError: the variant has the instance contrast, and masks are given without image_ids.
        """
        pixels, center = self.represent(pixel_values, input_ids, attention_mask, image_index, text_index)
        compared = self.project(pixels, center)
        with torch.autocast(pixels.device.type, enabled=False):  # cosines of alike vectors differ in their last bits
            similarity = cosine(*compared)
        logits = at_least_float32(self.grouping(pixels, center, similarity)).unsqueeze(1)  # (B, 1, h, w)
        with torch.autocast(pixels.device.type, enabled=False):
            size = pixel_values.size if isinstance(pixel_values, EncodedImages) else pixel_values.shape[-2:]
            logits = F.interpolate(logits, size=size, mode="bilinear", align_corners=False).squeeze(1)  # (B, H, W)
            output = AlignFormerOutput(logits=logits, similarity=similarity)
            if masks is not None:
                same = self.config.contrastive_same_words
                text_ids = None if same else hashed_words(input_ids, attention_mask, text_index)
                output.loss, output.mask_loss, output.contrastive_loss = self.losses(
                    logits, *compared, similarity, masks.to(logits.dtype), image_ids, text_ids
                )
        return output

    def represent(
        self,
        pixel_values: torch.Tensor | EncodedImages,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        image_index: torch.Tensor | None = None,
        text_index: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Pixel embeddings (B, h, w, D) and centers (B, D) for grouping. Arguments are those of `forward`."""
        word_mask = attention_mask.bool()
        read = word_mask | ~word_mask.any(dim=1, keepdim=True)  # (E, L); attention to nothing would give NaN
        # Expanded here, since transformers would synchronise with the GPU to do it.
        readable = read[:, None, None, :].expand(-1, 1, read.shape[1], -1)  # (E, 1, L, L)
        words = self.text(input_ids=input_ids, attention_mask=readable).last_hidden_state  # (E, L, T)
        if text_index is not None:
            words, word_mask = words[text_index], word_mask[text_index]  # (B, L, T), (B, L)
        features, words = self.encode(pixel_values, words, word_mask, image_index)
        pixels = self.pixel_decoder(features, masked_mean(words, word_mask))  # (B, h, w, D)
        return pixels, self.center(words, word_mask)

    def encode(
        self,
        pixel_values: torch.Tensor | EncodedImages,
        words: torch.Tensor,
        word_mask: torch.Tensor,
        image_index: torch.Tensor | None = None,
    ) -> tuple[list[Feature], torch.Tensor]:
        """Run the vision levels with VLBA between them: the feature of each level, final words (B, L, T)."""
        if isinstance(pixel_values, EncodedImages):
            known, grid = pixel_values.grids, pixel_values.grids[0]
        else:
            known, grid = [], self.vision.embed(pixel_values)  # of P images
        features = []
        for level, norm in enumerate(self.stage_norms):
            grid = known[level] if level < len(known) else self.vision.level(level, grid)
            # Behind encoded images, what follows is all that a step costs, so samples of an image share what they can.
            read, of = (grid, image_index) if known else (grid.of(image_index), None)
            feature = read.tokens  # (P or B, N, C)
            if str(level) in self.vlba:
                tokens, words, feature = self.vlba[str(level)](read.tokens, words, word_mask, of)
                if tokens is not read.tokens:  # from here on, one grid per sample
                    prefix = read.prefix_tokens
                    grid = Grid(tokens, read.size, None if prefix is None else of_samples(prefix, of))
                    image_index = None
                if feature is not read.tokens:
                    of = None
            features.append(Feature(norm(feature).unflatten(1, grid.size), of))
        return features, words

    def project(self, pixels: torch.Tensor, center: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The vectors that the contrastive losses compare: (B, h, w, D), (B, D) -> the same shapes.

        For variants without a projection they are the inputs, detached.
        """
        if not hasattr(self, "projection"):
            return at_least_float32(pixels.detach()), at_least_float32(center.detach())
        return at_least_float32(self.projection(pixels)), at_least_float32(self.projection(center))


AutoModel.register(AlignFormerConfig, AlignFormer)
