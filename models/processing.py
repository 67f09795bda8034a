"""Image + text -> tensors; logits -> masks at the original size."""

import numpy as np
import torch
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast, ProcessorMixin
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil


class AlignFormerProcessor(ProcessorMixin):
    """Stretches and normalises images, tokenizes expressions, and turns logits back into masks."""

    def __init__(self, image_processor: ViTImageProcessorPil, tokenizer: PreTrainedTokenizerFast, **kwargs):
        super().__init__(image_processor, tokenizer, **kwargs)

    def post_process_referring_segmentation(
        self, logits: torch.Tensor, target_sizes: list[tuple[int, int]], threshold: float = 0.5
    ) -> list[np.ndarray]:
        """Masks at the original size: logits resized bilinearly, then sigmoid > threshold.

        Args:
            logits: (B, H, W).
            target_sizes: (height, width) of each original image, pixels.
            threshold: probability above which a pixel is inside.

        Returns:
            B arrays of bool, each of its target size.
        """
        cut = float(torch.logit(torch.tensor(threshold, dtype=torch.float64)))
        masks = []
        for sample, size in zip(logits.float().cpu(), target_sizes, strict=True):
            if tuple(size) != tuple(sample.shape):
                sample = F.interpolate(sample[None, None], size=size, mode="bilinear", align_corners=False)[0, 0]
            masks.append((sample > cut).numpy())
        return masks
