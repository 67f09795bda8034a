"""Image + text -> tensors; logits -> masks at the original size.

A frame is how an image of any size becomes the model's square input, and how a map over that square comes back:
`Stretch` is AlignFormer's own, `Letterbox` is that of CRIS.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F
from transformers import AutoProcessor, BatchFeature, PreTrainedTokenizerFast, ProcessorMixin
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil
from transformers.utils import ModelOutput

from models.configuration import AlignFormerConfig

Interpolation = Literal["bilinear", "bicubic"]


@dataclass(frozen=True)
class Stretch:
    """The whole image stretched to `size` x `size` pixels.

    Its values are those of `ViTImageProcessorPil` within 1e-5, in a third of its time: resized by Pillow as there,
    then scaled and shifted in one go.
    """

    size: int

    def pixels(self, image: Image.Image, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
        """An RGB image, resized bilinearly and normalised: (3, size, size) float32."""
        return _normalised(image.resize((self.size, self.size), Image.Resampling.BILINEAR), mean, std)

    def mask(self, mask: np.ndarray) -> np.ndarray:
        """A mask (height, width), bool -> (size, size), bool: the pixel under the center of each cell."""
        if mask.shape == (self.size, self.size):
            return mask
        rows, columns = ((2 * np.arange(self.size) + 1) * side // (2 * self.size) for side in mask.shape)
        return mask[rows][:, columns]

    def restore(
        self, maps: torch.Tensor, target_size: tuple[int, int], mode: Interpolation = "bilinear"
    ) -> torch.Tensor:
        """A map (size, size) over the input -> (height, width) over the image; of an image as large, the map."""
        if tuple(target_size) == tuple(maps.shape):
            return maps
        return F.interpolate(maps[None, None], size=target_size, mode=mode, align_corners=False)[0, 0]


@dataclass(frozen=True)
class Letterbox:
    """The image scaled to fit into `size` x `size` pixels, centerd, its proportions kept.

    As in CRIS (Wang et al., CVPR 2022), which warps by `cv2.warpAffine`: pixel x of the image lies at
    scale * x + bias of the input, both counted from the center of their first pixel; bicubic with a = -0.75, no
    smoothing before shrinking. The border is the mean colour, and 0 on the way back. Other than there, positions are
    not rounded to 1/32 of a pixel nor values to whole numbers.
    """

    size: int

    def pixels(self, image: Image.Image, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
        """An RGB image, warped bicubically and normalised: (3, size, size) float32; the border is 0."""
        values = _normalised(image, mean, std)
        rows, columns = self._positions(image.height, image.width)
        black, white = (_normalised(Image.new("RGB", (1, 1), colour), mean, std) for colour in ("black", "white"))
        return _sampled(values, rows, columns, "bicubic").clamp(black, white)

    def mask(self, mask: np.ndarray) -> np.ndarray:
        """A mask (height, width), bool -> (size, size), bool: the nearest pixel, False on the border."""
        rows, columns = ((positions + 0.5).floor().long().numpy() for positions in self._positions(*mask.shape))
        inside = np.outer((rows >= 0) & (rows < mask.shape[0]), (columns >= 0) & (columns < mask.shape[1]))
        warped = mask[rows.clip(0, mask.shape[0] - 1)][:, columns.clip(0, mask.shape[1] - 1)]
        return warped & inside

    def restore(
        self, maps: torch.Tensor, target_size: tuple[int, int], mode: Interpolation = "bilinear"
    ) -> torch.Tensor:
        """A map (size, size) over the input -> (height, width) over the image, 0 outside the map."""
        scale, (top, left) = self._scale_and_bias(*target_size)
        rows, columns = (torch.arange(side, dtype=torch.float64) * scale for side in target_size)
        return _sampled(maps[None], rows + top, columns + left, mode)[0]

    def _scale_and_bias(self, height: int, width: int) -> tuple[float, tuple[float, float]]:
        scale = min(self.size / height, self.size / width)
        return scale, ((self.size - height * scale) / 2, (self.size - width * scale) / 2)

    def _positions(self, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Where rows and columns of the input lie in the image, pixels: (size,), (size,) float64."""
        scale, (top, left) = self._scale_and_bias(height, width)
        cells = torch.arange(self.size, dtype=torch.float64)
        return (cells - top) / scale, (cells - left) / scale


Frame = Stretch | Letterbox


def _normalised(image: Image.Image, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """(value / 255 - mean) / std of each channel: (3, height, width) float32."""
    values = torch.from_numpy(np.stack(image.split())).float()  # (3, height, width)
    mean, std = (torch.tensor(constants, dtype=torch.float64)[:, None, None] for constants in (mean, std))
    return values.mul_((1 / (255 * std)).float()).sub_((mean / std).float())


def _sampled(values: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, mode: Interpolation) -> torch.Tensor:
    """Values (C, h, w) between the pixels, at every pair of R rows and Q columns, 0 outside: (C, R, Q)."""
    height, width = values.shape[1:]
    grid = torch.meshgrid((2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1, indexing="xy")
    grid = torch.stack(grid, dim=-1).to(values)  # (R, Q, 2), in -1..1 from edge to edge
    return F.grid_sample(values[None], grid[None], mode=mode, padding_mode="zeros", align_corners=False)[0]


class AlignFormerProcessor(ProcessorMixin):
    """Images and expressions -> what `AlignFormer.forward` takes; what it answers -> masks at the original size."""

    def __init__(self, image_processor: ViTImageProcessorPil, tokenizer: PreTrainedTokenizerFast, **kwargs):
        super().__init__(image_processor, tokenizer, **kwargs)

    @property
    def frame(self) -> Stretch:
        """The frame the model is trained in."""
        return Stretch(self.image_processor.size["height"])

    def __call__(
        self,
        images: Image.Image | Sequence[Image.Image],
        text: str | Sequence[str],
        padding: bool | str = True,
        truncation: bool = False,
        return_tensors: Literal["pt"] = "pt",
    ) -> BatchFeature:
        """A batch of pairs: one image an expression, or one image that all expressions are about.

        Args:
            images: P images of any size and mode, P = B or P = 1.
            text: B expressions.
            padding: as of the tokenizer.
            truncation: read only the first words of an expression that is longer than the model reads.
            return_tensors: tensors are of torch.

        Returns:
            pixel_values (P, 3, S, S) float32, the same to the bit as in training; input_ids and attention_mask (B, L)
            int64; where one image has several expressions also image_index (B,) int64, so that it is encoded once.

        Raises:
            ValueError: an expression is empty, or longer than the model reads and not to be truncated, or the numbers
                of images and expressions do not fit together. The message names the expression.
        """
        images = [images] if isinstance(images, Image.Image) else list(images)
        text = [text] if isinstance(text, str) else list(text)
        if len(images) not in (1, len(text)) or not text:
            raise ValueError(f"{len(images)} images and {len(text)} expressions: give one image each, or one for all")
        for expression in text:
            self.check(expression, truncation)
        mean, std = self.image_processor.image_mean, self.image_processor.image_std
        pixels = [self.frame.pixels(image.convert("RGB"), mean, std) for image in images]
        words = self.tokenizer(text, padding=padding, truncation=True, return_tensors=return_tensors)
        inputs = {"pixel_values": torch.stack(pixels)}
        inputs |= {name: words[name] for name in ("input_ids", "attention_mask")}
        if len(images) < len(text):
            inputs["image_index"] = torch.zeros(len(text), dtype=torch.int64)
        return BatchFeature(inputs)

    def check(self, expression: str, truncation: bool = False) -> None:
        """Raise ValueError where an expression is empty or, unless it may be truncated, longer than the model reads."""
        if not expression.strip():
            raise ValueError("the expression is empty")
        tokens, most = len(self.tokenizer(expression, verbose=False)["input_ids"]), self.tokenizer.model_max_length
        if tokens > most and not truncation:
            raise ValueError(
                f"the expression has {tokens} tokens and the model reads {most}, both with those at its beginning and "
                f"its end: {expression!r}"
            )

    def unknown_words(self, expression: str) -> list[str]:
        """Words of an expression that the model's vocabulary lacks: it reads each as the same unknown word."""
        tokenizer = self.tokenizer
        ids = tokenizer(expression, verbose=False, return_offsets_mapping=True)
        pairs = zip(ids["input_ids"], ids["offset_mapping"], strict=True)
        return [expression[start:end] for token, (start, end) in pairs if token == tokenizer.unk_token_id]

    def post_process_referring_segmentation(
        self,
        outputs: ModelOutput,
        target_sizes: Sequence[tuple[int, int]] | None = None,
        threshold: float = 0.5,
    ) -> list[torch.Tensor]:
        """Masks at the original size: logits resized bilinearly, then sigmoid > threshold.

        Args:
            outputs: of AlignFormer; its logits (B, H, W) are read.
            target_sizes: (height, width) of each original image, pixels; None for the model's own size.
            threshold: probability above which a pixel is inside.

        Returns:
            B tensors of bool on the CPU, each of its target size.
        """
        logits = outputs.logits.float().cpu()
        cut = float(torch.logit(torch.tensor(threshold, dtype=torch.float64)))
        target_sizes = [tuple(logits.shape[1:])] * len(logits) if target_sizes is None else target_sizes
        return [self.frame.restore(sample, size) > cut for sample, size in zip(logits, target_sizes, strict=True)]


AutoProcessor.register(AlignFormerConfig, AlignFormerProcessor)
