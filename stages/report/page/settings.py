"""The experiment in words: what its variants are made of, its protocol, and all settings of its recipe."""

from dataclasses import dataclass

from pydantic import BaseModel

from stages.report.tables.table import REFERENCE_MARK
from stages.runtime.params import Params
from stages.scoring.protocols import Protocol

ATTENTION = {
    "none": "none: words reach pixels only in the decoder and in grouping",
    "text_to_pixel": "words inform every pixel",
    "pixel_to_text": "pixels inform every word",
    "bidirectional": "both directions",
    "global_words": "control: the mean of the words informs every pixel alike, without attention",
    "no_exchange": "control: the parameters of both directions, and nothing is exchanged",
}
CONTRAST = {
    "none": "none",
    "pixel": "every pixel against the center embedding",
    "instance": "the mean of an instance's pixels against the center embeddings of the batch",
}


@dataclass(frozen=True)
class Setting:
    """One key of `params.yaml`, with its value and what it means."""

    key: str
    value: str
    note: str


def of_section(section: BaseModel, prefix: str = "") -> list[Setting]:
    """Every key of a section of the parameters, nested ones joined by dots, with the description in the schema."""
    rows = []
    for key, field in type(section).model_fields.items():
        value = getattr(section, key)
        if isinstance(value, BaseModel):
            rows.extend(of_section(value, f"{prefix}{key}."))
        else:
            rows.append(Setting(prefix + key, plain(value), field.description or ""))
    return rows


def conventions(protocol: Protocol) -> str:
    """A protocol in sentences, and where it is not that of the published code."""
    image = {
        None: "The image is scaled as the recipe says",
        "stretch": f"The image is stretched to {protocol.size} x {protocol.size} pixels",
        "letterbox": f"The image is fitted into {protocol.size} x {protocol.size} pixels and keeps its proportions",
    }[protocol.fit]
    grid = {
        "original": f"intersection and union are counted at the original image size, after {protocol.interpolation} "
        f"interpolation of the {protocol.interpolated}",
        "input": "intersection and union are counted at that size, with the true mask scaled by nearest neighbour",
    }[protocol.grid]
    counted = (
        f"{image}; {grid}. A pixel is inside where its probability is above {protocol.threshold:g}. Two empty masks "
        f"have an IoU of {protocol.both_empty:g}. Pr@X counts IoU {'>' if protocol.strict else '≥'} X."
    )
    return f"{counted} {protocol.differs}".rstrip()


def variant_row(name: str, params: Params) -> dict[str, str]:
    """What a variant is made of, and its part in the comparison: the reference, the highlighted one, or neither."""
    variant, experiment = params.variants[name], params.experiment
    contrasts = variant.contrastive != "none"
    parts = {experiment.highlight: "highlighted", experiment.reference: "reference"}
    return {
        "name": name,
        "label": params.report.labels.get(name, ""),
        "part": parts.get(name, ""),
        "attention": ATTENTION.get(variant.vlba, variant.vlba),
        "contrast": CONTRAST.get(variant.contrastive, variant.contrastive),
        "weight": f"{variant.contrastive_weight:g}" if contrasts else REFERENCE_MARK,
        "temperature": f"{variant.temperature:g}" if contrasts else REFERENCE_MARK,
        "further": plain(variant.further),
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
