"""The fields in which variants of AlignFormer differ, declared once for the model configuration and `params.yaml`."""

from dataclasses import dataclass, field
from typing import Literal

CONTRAST_FIELDS = (  # matter only where there is a contrastive loss
    "contrastive_weight",
    "temperature",
    "contrastive_border",
    "contrastive_same_words",
    "contrastive_memory",
)


@dataclass(kw_only=True)
class VariantFields:
    """The fields of a variant. The defaults are the full AlignFormer.

    The metadata of a field are its bounds and its description in the schema of `params.yaml`.
    """

    vlba: Literal["none", "text_to_pixel", "pixel_to_text", "bidirectional", "global_words", "no_exchange"] = field(
        default="bidirectional",
        metadata={"description": "directions of the attention between words and pixels, or a control without it"},
    )
    vlba_levels: int | None = field(
        default=None,
        metadata={
            "gt": 0,
            "description": "how many vision levels, counted from the last, it follows; not given: all",
        },
    )
    head: Literal["pyramid", "plain"] = field(
        default="pyramid",
        metadata={"description": "AlignFormer's, or a plain head on the last vision level: a control"},
    )
    frozen_encoders: bool = field(
        default=False,
        metadata={"description": "both pretrained encoders keep their weights, whatever the recipe trains: a control"},
    )
    grouping: Literal["projected", "cosine"] = field(
        default="projected",
        metadata={
            "description": "what draws the mask: the product of pixels and a vector made from the center, or the "
            "cosine that the contrast compares"
        },
    )
    contrastive: Literal["none", "pixel", "instance"] = field(
        default="instance", metadata={"description": "contrastive loss added to the mask loss"}
    )
    contrastive_weight: float = field(default=0.01, metadata={"ge": 0, "description": "its weight in the sum"})
    temperature: float = field(
        default=0.05, metadata={"gt": 0, "description": "divisor of the cosine similarity in both contrastive losses"}
    )
    contrastive_border: int = field(
        default=0,
        metadata={
            "ge": 0,
            "description": "pixels of the grid on either side of the mask's edge that the contrast leaves out",
        },
    )
    contrastive_same_words: bool = field(
        default=True,
        metadata={"description": "whether samples with the very same words are negatives of the instance contrast"},
    )
    contrastive_memory: int = field(
        default=0,
        metadata={"ge": 0, "description": "samples of earlier batches that are negatives of the instance contrast too"},
    )
