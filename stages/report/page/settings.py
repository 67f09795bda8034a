"""The experiment in words: what its variants are made of, its protocol, and every setting of its recipe."""

from dataclasses import dataclass

from pydantic import BaseModel

from stages.report.tables.table import REFERENCE_MARK
from stages.runtime.params import Params
from stages.scoring.protocols import Protocol

ATTENTION = {
    "none": "none: words reach pixels in decoder and grouping only",
    "text_to_pixel": "words inform every pixel",
    "pixel_to_text": "pixels inform every word",
    "bidirectional": "both directions",
}
CONTRAST = {
    "none": "none",
    "pixel": "each pixel against the center embedding",
    "instance": "the mean of the region's pixels against the centers of the batch",
}


@dataclass(frozen=True)
class Setting:
    """One knob of `params.yaml`."""

    key: str
    value: str
    note: str


def of_section(section: BaseModel, prefix: str = "") -> list[Setting]:
    """Every knob of a section of the parameters, nested keys joined by dots, with the units its schema states."""
    rows = []
    for key, field in type(section).model_fields.items():
        value = getattr(section, key)
        if isinstance(value, BaseModel):
            rows.extend(of_section(value, f"{prefix}{key}."))
        else:
            rows.append(Setting(prefix + key, plain(value), field.description or ""))
    return rows


def conventions(protocol: Protocol) -> str:
    """What the protocol's fields say, in words."""
    image = {
        None: "The image as the recipe brings it to the model",
        "stretch": f"The image stretched to {protocol.size} x {protocol.size} pixels",
        "letterbox": f"The image fitted into {protocol.size} x {protocol.size} pixels, its proportions kept",
    }[protocol.fit]
    way = {"bilinear": "bilinearly", "bicubic": "bicubically"}[protocol.interpolation]
    grid = {
        "original": f"I and U at the original image size, {protocol.interpolated} brought there {way}",
        "input": "I and U at that size, the true mask resized by nearest",
    }[protocol.grid]
    return (
        f"{image}; {grid}; inside where the probability is above {protocol.threshold:g}; "
        f"IoU {protocol.both_empty:g} where both masks are empty; Pr@X counts IoU {'>' if protocol.strict else '≥'} X."
    )


def variant_row(name: str, params: Params) -> dict[str, str]:
    variant = params.variants[name]
    contrasts = variant.contrastive != "none"
    return {
        "name": name,
        "attention": ATTENTION.get(variant.vlba, variant.vlba),
        "contrast": CONTRAST.get(variant.contrastive, variant.contrastive),
        "weight": f"{variant.contrastive_weight:g}" if contrasts else REFERENCE_MARK,
        "temperature": f"{variant.temperature:g}" if contrasts else REFERENCE_MARK,
    }


def plain(value: object) -> str:
    if value is None:
        return REFERENCE_MARK
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(plain(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {plain(item)}" for key, item in value.items())
    return str(value)
