"""The report as one page that needs no network: tables, curves and pictures lie in it."""

import base64
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup
from pydantic import BaseModel

from stages.evaluate.protocols import PROTOCOLS, Protocol
from stages.params import Params
from stages.report import curves, gallery, headline, tables
from stages.report.gallery import Example
from stages.report.inputs import DatasetResults
from stages.templates import template

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
PLACES = ("root", "images", "instances", "expressions")  # of a source on this machine
CSS_DASHES = ("solid", "dashed", "dotted")  # in the order of curves.DASHES


@dataclass(frozen=True)
class Setting:
    """One knob of `params.yaml`."""

    key: str
    value: str
    note: str


def render(params: Params, datasets: list[DatasetResults], shown: dict[str, list[Example]]) -> str:
    """The page as HTML.

    Args:
        params: the experiment's parameters.
        datasets: the results, in the order in which they appear.
        shown: dataset name -> the expressions of its gallery.
    """
    return template(Path(__file__).with_name("page.html.j2")).render(
        experiment=params.experiment,
        protocol=params.evaluation.protocol,
        conventions=conventions(PROTOCOLS[params.evaluation.protocol]),
        command=tables.COMMAND,
        variants=[_variant_row(name, params) for name in params.experiment.variants],
        model=settings(params.recipes[params.experiment.recipe].model),
        training=settings(params.recipes[params.experiment.recipe].training),
        regions=gallery.REGIONS,
        sections=[_section(results, shown[results.name]) for results in datasets],
    )


def settings(section: BaseModel, prefix: str = "") -> list[Setting]:
    """Every knob of a section of the parameters, nested keys joined by dots, with the units its schema states."""
    rows = []
    for key, field in type(section).model_fields.items():
        value = getattr(section, key)
        if isinstance(value, BaseModel):
            rows.extend(settings(value, f"{prefix}{key}."))
        else:
            rows.append(Setting(prefix + key, _plain(value), field.description or ""))
    return rows


def conventions(protocol: Protocol) -> str:
    """What the protocol's fields say, in words."""
    picture = {
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
        f"{picture}; {grid}; inside where the probability is above {protocol.threshold:g}; "
        f"IoU {protocol.both_empty:g} where both masks are empty; Pr@X counts IoU {'>' if protocol.strict else '≥'} X."
    )


def _section(results: DatasetResults, shown: list[Example]) -> dict:
    return {
        "name": results.name,
        "headline": headline.headline(results),
        "details": headline.details(results),
        "warning": tables.data_warning(results),
        "warnings": results.warnings,
        "main_table": tables.main_table(results),
        "full_tables": tables.full_tables(results),
        "curves": [
            Markup(curves.inline(curves.figure_svg(results.histories, [column], results.name, legend=False), prefix))
            for column in curves.PANELS
            for prefix in [f"{results.name}-{column}"]
        ],
        "legend": [_legend_line(index, variant) for index, variant in enumerate(results.variants)],
        "lines": _lines(results.seeds),
        "seeds": results.seeds,
        "richest": results.richest,
        "reference": results.reference,
        "examples": [_example(example) for example in shown],
        "counts": _counts(results),
        "source": _source(results.dataset.summary.get("source", {})),
        "protocol": results.protocol.name,
        "notes": results.dataset.summary.get("notes", []),
        "fingerprint": _plain(results.dataset.summary.get("fingerprint", "not recorded")),
        "checks": [check.replace("_", " ") for check in results.dataset.summary.get("checks", [])],
    }


def _lines(seeds: list[int]) -> str:
    if len(seeds) == 1:
        return f"One line a variant, seed {seeds[0]}."
    return f"Thin lines: one seed. Thick lines: mean over seeds {_plain(seeds)}."


def _source(source: dict) -> str:
    told = {key: value for key, value in source.items() if key not in PLACES and value is not None}
    return _plain(told) or "not recorded"


def _legend_line(index: int, variant: str) -> dict[str, str]:
    colour, dash = curves.line_style(index)
    return {
        "variant": variant,
        "colour": "var(--ink)" if colour == curves.INK else colour,
        "dash": CSS_DASHES[curves.DASHES.index(dash)],
    }


def _variant_row(name: str, params: Params) -> dict[str, str]:
    variant = params.variants[name]
    contrasts = variant.contrastive != "none"
    return {
        "name": name,
        "attention": ATTENTION.get(variant.vlba, variant.vlba),
        "contrast": CONTRAST.get(variant.contrastive, variant.contrastive),
        "weight": f"{variant.contrastive_weight:g}" if contrasts else tables.REFERENCE_MARK,
        "temperature": f"{variant.temperature:g}" if contrasts else tables.REFERENCE_MARK,
    }


def _example(example: Example) -> dict:
    pictures = [("image", "", example.photo)]
    pictures += [
        (prediction.variant, f"{prediction.iou:.2f}", prediction.picture) for prediction in example.predictions
    ]
    return {
        "text": example.text,
        "split": example.split,
        "sent_id": example.sent_id,
        "panels": [
            {
                "label": label,
                "iou": iou,
                "width": picture.width,
                "height": picture.height,
                "source": "data:image/webp;base64," + base64.b64encode(gallery.webp(picture)).decode("ascii"),
            }
            for label, iou, picture in pictures
        ],
    }


def _counts(results: DatasetResults) -> list[dict]:
    expressions = results.dataset.expressions
    names = [name for name in ("train", *results.splits) if (expressions["split"] == name).any()]
    return [
        {
            "split": name,
            "expressions": f"{len(rows):,}",
            "references": f"{rows['ref_id'].nunique():,}",
            "instances": f"{rows['ann_id'].nunique():,}",
            "images": f"{rows['image_id'].nunique():,}",
        }
        for name in names
        for rows in [expressions[expressions["split"] == name]]
    ]


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(_plain(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items())
    return str(value)
