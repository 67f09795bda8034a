"""Images and expressions -> tensors; logits -> masks at the original size."""

from collections.abc import Sequence
from typing import Literal

import torch
from PIL import Image
from transformers import AutoProcessor, BatchFeature, PreTrainedTokenizerFast, ProcessorMixin
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil
from transformers.utils.generic import ModelOutput

from models.configuration import AlignFormerConfig
from models.frames import Stretch
from models.images import rgb
from models.postprocessing import masks_at_original_size


class TooLongError(ValueError):
    """An expression has more tokens than the model reads."""


class AlignFormerProcessor(ProcessorMixin):
    """Images and expressions -> inputs of `AlignFormer.forward`; its outputs -> masks at the original size."""

    def __init__(self, image_processor: ViTImageProcessorPil, tokenizer: PreTrainedTokenizerFast, **kwargs):
        super().__init__(image_processor, tokenizer, **kwargs)

    @property
    def frame(self) -> Stretch:
        """The frame in which the model was trained."""
        return Stretch(self.image_processor.size["height"])

    def __call__(
        self,
        images: Image.Image | Sequence[Image.Image],
        text: str | Sequence[str],
        padding: bool | str = True,
        truncation: bool = False,
        return_tensors: Literal["pt"] = "pt",
    ) -> BatchFeature:
        """A batch of pairs: one image per expression, or one image for all expressions.

        Args:
            images: P images of any size, in a mode that `models.images.rgb` converts, P = B or P = 1. They are not
                turned; `models.images.read` gives upright ones.
            text: B expressions.
            padding: passed to the tokenizer.
            truncation: cut an expression that is longer than the model reads, instead of an error.
            return_tensors: `pt`, torch tensors.

        Returns:
            pixel_values (P, 3, S, S) float32, the same to the bit as in training; input_ids and attention_mask (B, L)
            int64. If one image has several expressions, also image_index (B,) int64, so that it is encoded once.

        Raises:
            ValueError: an expression is empty, or longer than the model reads while `truncation` is off, or the numbers
                of images and expressions do not match. The message names the expression or the numbers.
        """
        images = [images] if isinstance(images, Image.Image) else list(images)
        text = [text] if isinstance(text, str) else list(text)
        if len(images) not in (1, len(text)) or not text:
            raise ValueError(f"{len(images)} images and {len(text)} expressions: give one image each, or one for all")
        for expression in text:
            self.check(expression, truncation)
        mean, std = self.image_processor.image_mean, self.image_processor.image_std
        pixels = [self.frame.pixels(rgb(image), mean, std) for image in images]
        words = self.tokenizer(text, padding=padding, truncation=True, return_tensors=return_tensors)
        inputs = {"pixel_values": torch.stack(pixels)}
        inputs |= {name: words[name] for name in ("input_ids", "attention_mask")}
        if len(images) < len(text):
            inputs["image_index"] = torch.zeros(len(text), dtype=torch.int64)
        return BatchFeature(inputs)

    def check(self, expression: str, truncation: bool = False) -> None:
        """Raise ValueError if an expression is empty, and TooLongError if the model reads less, without `truncation`.

        Empty is also one whose characters the tokenizer drops, such as zero-width spaces.
        """
        if not expression.strip():
            raise ValueError("the expression is empty")
        if not self.tokenizer(expression, add_special_tokens=False, verbose=False)["input_ids"]:
            raise ValueError(f"the expression is empty: the tokenizer drops all of {expression!a}")
        tokens, most = len(self.tokenizer(expression, verbose=False)["input_ids"]), self.tokenizer.model_max_length
        if tokens > most and not truncation:
            raise TooLongError(
                f"the expression has {tokens} tokens and the model reads {most}, start and end token included: "
                f"{expression!r}"
            )

    def unknown_words(self, expression: str) -> list[str]:
        """Words of an expression that are not in the model's vocabulary: all become the same unknown token."""
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
            outputs: AlignFormer's output with logits (B, H, W).
            target_sizes: (height, width) of each original image in pixels; None for the model's own size.
            threshold: probability above which a pixel is inside.

        Returns:
            B bool tensors on the CPU, each of its target size.
        """
        return masks_at_original_size(outputs["logits"], target_sizes, threshold, self.frame)


AutoProcessor.register(AlignFormerConfig, AlignFormerProcessor)
