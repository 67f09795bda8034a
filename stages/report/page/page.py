"""The report as one page that needs no network: tables, curves and images lie in it."""

import base64
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup
from PIL import Image
from pydantic import BaseModel

from stages.attention.tiles import DIRECTIONS, AttentionTiles
from stages.drawing.templates import template
from stages.report.dataset_results import DatasetResults
from stages.report.figures import attention, gallery, rendering
from stages.report.figures.gallery import Example, Gallery
from stages.report.figures.rendering import Figure
from stages.report.page import headline
from stages.report.page.sections import Contents
from stages.report.tables import comparison_tables, costs, published
from stages.report.tables.table import REFERENCE_MARK
from stages.runtime.params import Params
from stages.scoring.protocols import PROTOCOLS, Protocol

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
OPEN_GALLERIES = 3  # the others are folded
OPEN_WORDS = 1  # expressions with attention that are not folded


@dataclass(frozen=True)
class Setting:
    """One knob of `params.yaml`."""

    key: str
    value: str
    note: str


def render(params: Params, datasets: list[DatasetResults], shown: dict[str, Contents], provenance: dict) -> str:
    """The page as HTML.

    Args:
        params: the experiment's parameters.
        datasets: the results, in the order in which they appear.
        shown: dataset name -> what is shown of it.
        provenance: what the report was made of: names -> text, lists, or again names.
    """
    return template(Path(__file__).with_name("page.html.j2")).render(
        experiment=params.experiment,
        protocol=params.evaluation.protocol,
        conventions=conventions(PROTOCOLS[params.evaluation.protocol]),
        command=comparison_tables.COMMAND,
        variants=[_variant_row(name, params) for name in params.experiment.variants],
        model=settings(params.recipes[params.experiment.recipe].model),
        training=settings(params.recipes[params.experiment.recipe].training),
        regions=gallery.REGIONS,
        sections=[_section(results, shown[results.name]) for results in datasets],
        provenance=provenance,
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


def _section(results: DatasetResults, shown: Contents) -> dict:
    return {
        "name": results.name,
        "headline": headline.headline(results),
        "details": headline.details(results),
        "warning": comparison_tables.data_warning(results),
        "warnings": results.warnings,
        "main_table": comparison_tables.main_table(results),
        "contrast_table": comparison_tables.contrast_table(results),
        "difference_table": comparison_tables.difference_table(results),
        "slices_table": comparison_tables.slices_table(results),
        "full_tables": comparison_tables.full_tables(results),
        "cost_tables": [table for table in (costs.exact_table(results), costs.measured_table(results)) if table],
        "published_table": published.table(results),
        "published": published.statement(results),
        "differences": _figures(results, shown.differences),
        "sweeps": [(_figure(results, figure), table) for figure, table in shown.sweeps],
        "slices": _figures(results, shown.slices),
        "alignment": _figure(results, shown.alignment),
        "alignment_table": shown.alignment_table,
        "calibration": _figure(results, shown.calibration),
        "calibration_table": shown.calibration_table,
        "embeddings": _figure(results, shown.embeddings),
        "words": [_words(words) for words in shown.words],
        "open_words": OPEN_WORDS * len(DIRECTIONS),
        "words_caption": attention.caption(results.richest),
        "curves": _figure(results, shown.curves),
        "galleries": [_gallery(chosen, place < OPEN_GALLERIES) for place, chosen in enumerate(shown.galleries)],
        "seed": results.shown_seed,
        "richest": results.richest,
        "reference": results.reference,
        "counts": _counts(results),
        "source": _source(results.dataset.summary.get("source", {})),
        "protocol": results.protocol.name,
        "notes": results.dataset.summary.get("notes", []),
        "fingerprint": _plain(results.dataset.summary.get("fingerprint", "not recorded")),
        "checks": [check.replace("_", " ") for check in results.dataset.summary.get("checks", [])],
    }


def _figures(results: DatasetResults, shown: list[Figure]) -> list[dict]:
    return [_figure(results, figure) for figure in shown]


def _figure(results: DatasetResults, figure: Figure) -> dict:
    return {
        "title": figure.title,
        "caption": f"{figure.caption} Protocol {results.protocol.name}.",
        "columns": figure.columns,
        "legend": [mark.css for mark in figure.legend],
        "panels": [Markup(element) for element in rendering.inline(figure, f"{results.name}-{figure.key}")],
    }


def _words(words: AttentionTiles) -> dict:
    return {
        "title": words.title,
        "number": words.number,
        "text": words.text,
        "words": words.words,
        "rows": [
            (level, [{"number": tile.number, **_image(tile.image)} for tile in tiles])
            for level, tiles in zip(words.levels, words.tiles, strict=True)
        ],
    }


def _gallery(chosen: Gallery, is_open: bool) -> dict:
    examples = [_example(example) for example in chosen.examples]
    return {"key": chosen.key, "title": chosen.title, "rule": chosen.rule, "open": is_open, "examples": examples}


def _source(source: dict) -> str:
    told = {key: value for key, value in source.items() if key not in PLACES and value is not None}
    return _plain(told) or "not recorded"


def _variant_row(name: str, params: Params) -> dict[str, str]:
    variant = params.variants[name]
    contrasts = variant.contrastive != "none"
    return {
        "name": name,
        "attention": ATTENTION.get(variant.vlba, variant.vlba),
        "contrast": CONTRAST.get(variant.contrastive, variant.contrastive),
        "weight": f"{variant.contrastive_weight:g}" if contrasts else REFERENCE_MARK,
        "temperature": f"{variant.temperature:g}" if contrasts else REFERENCE_MARK,
    }


def _example(example: Example) -> dict:
    images = [("image", "", example.image)]
    images += [(prediction.variant, f"{prediction.iou:.2f}", prediction.image) for prediction in example.predictions]
    return {
        "text": example.text,
        "split": example.split,
        "sent_id": example.sent_id,
        "panels": [{"label": label, "iou": iou, **_image(image)} for label, iou, image in images],
    }


def _image(image: Image.Image) -> dict:
    source = "data:image/webp;base64," + base64.b64encode(gallery.webp(image)).decode("ascii")
    return {"width": image.width, "height": image.height, "source": source}


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
    if value is None:
        return REFERENCE_MARK
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(_plain(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items())
    return str(value)
