"""What variants of AlignFormer differ in, declared once for the model's configuration and for `params.yaml`."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(kw_only=True)
class VariantFields:
    """The fields of a variant. Their defaults are AlignFormer as it is meant.

    The metadata of a field are the bounds and the description that `params.yaml` is checked with and shown with.
    """

    vlba: Literal["none", "text_to_pixel", "pixel_to_text", "bidirectional"] = field(
        default="bidirectional", metadata={"description": "directions of the attention between words and pixels"}
    )
    vlba_levels: int | None = field(
        default=None,
        metadata={
            "gt": 0,
            "description": "after how many levels of the vision encoder, the last ones, it stands; not given: all",
        },
    )
    contrastive: Literal["none", "pixel", "instance"] = field(
        default="instance", metadata={"description": "the contrastive loss that is added to the mask loss"}
    )
    contrastive_weight: float = field(default=0.01, metadata={"ge": 0, "description": "its weight in the sum"})
    temperature: float = field(
        default=0.05, metadata={"gt": 0, "description": "divides the cosine similarity in both contrastive losses"}
    )
