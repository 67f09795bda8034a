"""The report as one HTML page that needs no network: tables, figures and images lie in it."""

import base64
import json
from pathlib import Path

from markupsafe import Markup
from PIL import Image

from stages.attention.tiles import DIRECTIONS, AttentionTiles
from stages.drawing.mask_comparison import REGIONS
from stages.drawing.templates import template
from stages.report.dataset_results import DatasetResults
from stages.report.figures import attention, gallery, rendering
from stages.report.figures.figure import Figure
from stages.report.figures.gallery import Example, Gallery
from stages.report.page import glance, headline, settings
from stages.report.page.sections import DatasetSection
from stages.report.page.settings import plain
from stages.report.provenance import COMMAND
from stages.report.tables import (
    ablation_tables,
    captions,
    comparison_tables,
    contrast_tables,
    cost_tables,
    factorial_tables,
    formats,
    language_tables,
    learning_tables,
    plan_tables,
    pooled_tables,
    protocol_tables,
    published,
    slice_tables,
    wide_tables,
)
from stages.report.tables.table import Table
from stages.runtime import experiments
from stages.runtime.experiments import DEFAULT
from stages.runtime.params import Params
from stages.scoring.protocols import PROTOCOLS
from stages.statistics.comparison import SUPPORTED
from stages.statistics.evidence import FEWEST_IMAGES
from stages.statistics.slices import FAMILIES

OPEN_GALLERIES = 3  # the others are folded
OPEN_WORDS = 1  # expressions whose attention is not folded


class Copies:
    """Collects the tables of the page in every format but HTML, for the script that copies them."""

    def __init__(self):
        self._texts: list[dict[str, str]] = []

    def add(self, table: Table, of: str) -> int:
        """Takes a table, which is about the dataset `of`, as its files have it; its place among all."""
        texts = formats.of(table, formats.label(table, of))
        self._texts.append({title: texts[end] for end, title in formats.TITLES.items()})
        return len(self._texts) - 1

    @property
    def json(self) -> Markup:
        """All of them, for a script element, which nothing in it ends."""
        return Markup(json.dumps(self._texts, ensure_ascii=False).replace("<!", r"<\u0021").replace("</", r"<\/"))


def render(
    params: Params,
    datasets: list[DatasetResults],
    shown: dict[str, DatasetSection],
    provenance: dict,
    links: dict,
) -> str:
    """The page as HTML.

    Args:
        params: the experiment's parameters.
        datasets: the results, in the order in which they appear.
        shown: dataset name -> what is shown of it.
        provenance: what the report was made of, as `provenance.collect` returns it.
        links: `experiment`, the name of this one, and `reports`, `name` and `about` of others.
    """
    return template(Path(__file__).with_name("index.html.j2")).render(
        experiment=params.experiment,
        protocol=params.evaluation.protocol,
        conventions=settings.conventions(PROTOCOLS[params.evaluation.protocol]),
        command=COMMAND,
        redo=experiments.dvc("repro", "report"),
        supported=SUPPORTED,
        fewest_images=FEWEST_IMAGES,
        families=list(FAMILIES.values()),
        variants=[settings.variant_row(name, params) for name in params.experiment.variants],
        model=settings.of_section(params.recipes[params.experiment.recipe].model),
        training=settings.of_section(params.recipes[params.experiment.recipe].training),
        regions=REGIONS,
        words=glance.words(datasets),
        sections=[_section(results, shown[results.name]) for results in datasets],
        copies=Copies(),
        wide_tables=wide_tables.tables(datasets),
        pooled_table=pooled_tables.table(datasets),
        values=params.report.tables.values,
        marks=params.report.tables.marks,
        provenance=provenance,
        name=None if links["experiment"] == DEFAULT else links["experiment"],
        others=links["reports"],
    )


def _section(results: DatasetResults, shown: DatasetSection) -> dict:
    at = glance.glance(results)
    said = [] if at.others else [headline.other_parts(results)]  # the first screen has them one by one
    return {
        "name": results.name,
        "glance": at,
        "details": " ".join(filter(None, [*said, headline.details(results)])),
        "warning": captions.data_warning(results),
        "warnings": results.warnings,
        "main_table": comparison_tables.main_table(results),
        "ablation_tables": ablation_tables.tables(results),
        "contrast_table": contrast_tables.table(results),
        "language_table": language_tables.table(results),
        "difference_table": comparison_tables.difference_table(results),
        "slices_table": slice_tables.table(results),
        "full_tables": comparison_tables.full_tables(results),
        "cost_table": cost_tables.table(results),
        "protocol_tables": protocol_tables.tables(results),
        "published_table": published.table(results),
        "published": published.statement(results),
        "differences": _figures(results, shown.differences),
        "profile": _figure(results, shown.profile),
        "factorial": _figures(results, shown.factorial),
        "factorial_table": factorial_tables.table(results),
        "effects": headline.effects(results),
        "others": headline.others(results),
        "sweeps": [(_figure(results, figure), table) for figure, table in shown.sweeps],
        "slices": _figures(results, shown.slices),
        "alignment": _figure(results, shown.alignment),
        "alignment_table": shown.alignment_table,
        "calibration": _figure(results, shown.calibration),
        "calibration_table": shown.calibration_table,
        "embeddings": _figure(results, shown.embeddings),
        "words": [_words(words) for words in shown.words],
        "open_words": OPEN_WORDS * len(DIRECTIONS),
        "words_caption": attention.caption(results.highlight),
        "rising": learning_tables.warning(results),
        "learning_table": learning_tables.table(results),
        "plan_table": plan_tables.table(results),
        "curves": _figure(results, shown.curves),
        "galleries": [_gallery(chosen, place < OPEN_GALLERIES) for place, chosen in enumerate(shown.galleries)],
        "seed": results.shown_seed,
        "counts": _counts(results),
        "source": _source(results.source),
        "protocol": results.protocol.name,
        "notes": [*results.summary.get("notes", []), *results.lost],
        "fingerprint": plain(results.fingerprint),
        "checks": [check.replace("_", " ") for check in results.summary.get("checks", [])],
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
    told = {key: value for key, value in source.items() if value is not None}
    return plain(told) or "not recorded"


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
            "refs": f"{rows['ref_id'].nunique():,}",
            "instances": f"{rows['ann_id'].nunique():,}",
            "images": f"{rows['image_id'].nunique():,}",
        }
        for name in names
        for rows in [expressions[expressions["split"] == name]]
    ]
