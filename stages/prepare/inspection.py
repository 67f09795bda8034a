"""A prepared dataset to look at: its numbers as text, and a page with its numbers and samples that needs no network."""

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from PIL import Image

from stages.data import prepared
from stages.data.prepared import PreparedDataset
from stages.drawing import overlays
from stages.drawing.templates import template
from stages.prepare.problems import DatasetError
from stages.runtime import experiments

QUANTILES = {"min": 0.0, "5%": 0.05, "25%": 0.25, "median": 0.5, "75%": 0.75, "95%": 0.95, "max": 1.0}
CATEGORIES = 10  # that are named, the most frequent
SAMPLES = 12  # refs of each split
IMAGE_SIZE = 320, 420  # pixels, the most a sample is wide and high
MOST_WORDS, MOST_OBJECTS = 24, 12  # in a chart; larger numbers are counted together
SHARE_BINS = 20
TICKS = 9  # at most, of a chart's axis


@dataclass(frozen=True)
class Facts:
    """The numbers of a prepared dataset. Tables have one row for each split, train first, and a last one for all.

    Attributes:
        sizes: refs, expressions, images, instances.
        words: `QUANTILES` of the number of words in an expression, split at white space.
        shares: `QUANTILES` of the mask area of an instance, in percent of its image.
        categories: how many instances each category has, the most frequent first.
        objects: how many images have each number of instances that are referred to, ascending.
    """

    sizes: pd.DataFrame
    words: pd.DataFrame
    shares: pd.DataFrame
    categories: pd.Series
    objects: pd.Series


@dataclass(frozen=True)
class Chart:
    """A bar chart.

    Attributes:
        along: label of the horizontal axis.
        counted: label of the vertical axis.
        bars: name and height of each bar.
        ticks: of the horizontal axis: place, in units of bars, and label.
    """

    title: str
    along: str
    counted: str
    bars: list[tuple[str, int]]
    ticks: list[tuple[float, str]]

    @property
    def steps(self) -> list[int]:
        """The ticks of the vertical axis: round numbers from 0 to the first that no bar exceeds."""
        highest = max(count for _, count in self.bars)
        magnitudes = (digit * 10**power for power in range(12) for digit in (1, 2, 5))
        step = next(step for step in magnitudes if 4 * step >= highest)
        return list(range(0, highest + step, step))


@dataclass(frozen=True)
class Sample:
    """A ref as the page shows it: what the tables state about it, its expressions with their ids, and its image.

    `image` is why there is none, where the images of the dataset were not checked and it cannot be read.
    """

    ref_id: int
    ann_id: int
    image_id: int
    category: str
    file: str
    share: str
    expressions: list[tuple[int, str]]
    image: Image.Image | str

    @property
    def source(self) -> str:
        """The image as WebP in a data URI."""
        stream = io.BytesIO()
        self.image.save(stream, format="WEBP", quality=80)
        return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def summary(dataset: PreparedDataset) -> str:
    """The numbers as text for a terminal."""
    found = facts(dataset)
    rows = _categories(found.categories)
    width = max(len(name) for name, _, _ in rows)
    objects = ", ".join(f"{number}: {count:,}" for number, count in found.objects.items())
    remarks = {key.removesuffix("s"): dataset.summary[key] for key in ("warnings", "notes")}
    parts = [
        f"{dataset.summary['name']}: {_source(dataset)}",
        _text(found.sizes, "{:,}".format),
        f"words of an expression\n{_text(found.words, _short)}",
        f"mask area, % of the image\n{_text(found.shares, '{:.2f}'.format)}",
        "\n".join(
            ["instances by category", *(f"{name:{width}}  {count:>7,}  {share:>5}%" for name, count, share in rows)]
        ),
        f"images by number of objects referred to in them\n{objects}",
        "\n".join(
            [
                *(f"{kind}: {line}" for kind, lines in remarks.items() for line in lines),
                *(f"checked: {line}" for line in dataset.summary["checks"]),
                f"fingerprint of the source: {dataset.summary['fingerprint']}",
            ]
        ),
    ]
    return "\n\n".join(parts)


def page(dataset: PreparedDataset) -> str:
    """The numbers, and samples of every split, as one HTML page; the same dataset gives the same bytes.

    Raises as `sample`.
    """
    found = facts(dataset)
    return template(Path(__file__).with_name("inspection.html.j2")).render(
        summary=dataset.summary,
        source=_source(dataset),
        sizes=_rows(found.sizes, "{:,}".format),
        words=_rows(found.words, _short),
        shares=_rows(found.shares, "{:.2f}".format),
        quantiles=list(QUANTILES),
        categories=_categories(found.categories),
        most=int(found.categories.iloc[0]),
        charts=charts(dataset),
        number=SAMPLES,
        samples={split: [sample(dataset, ref_id) for ref_id in choose(dataset, split)] for split in _splits(dataset)},
    )


def facts(dataset: PreparedDataset) -> Facts:
    """The numbers of a prepared dataset."""
    expressions = dataset.expressions
    columns = {"ref_id": "refs", "sent_id": "expressions", "image_id": "images", "ann_id": "instances"}
    area = prepared.area_shares(dataset.instances)

    def quantiles(values: pd.Series) -> pd.Series:
        return values.quantile(list(QUANTILES.values())).set_axis(list(QUANTILES))

    def by_split(row: Callable[[pd.DataFrame], pd.Series]) -> pd.DataFrame:
        splits = _splits(dataset)
        rows = {split: row(dataset.split(split)) for split in splits}
        return pd.DataFrame(rows | ({"all": row(expressions)} if len(splits) > 1 else {})).T

    return Facts(
        sizes=by_split(lambda rows: rows[list(columns)].nunique().rename(columns)),
        words=by_split(lambda rows: quantiles(_words(rows))),
        shares=by_split(lambda rows: quantiles(100 * area[rows["ann_id"].unique()])),
        categories=dataset.instances["category"]
        .value_counts()
        .rename_axis("name")
        .sort_index()
        .sort_values(ascending=False, kind="stable"),
        objects=_objects(expressions).value_counts().sort_index(),
    )


def charts(dataset: PreparedDataset) -> list[Chart]:
    """Charts of how long expressions are, how large masks, and how many objects an image has, over all splits."""
    percent = 100 // SHARE_BINS
    bins = (prepared.area_shares(dataset.instances) * SHARE_BINS).astype(int).clip(upper=SHARE_BINS - 1)
    shares = [
        (f"{percent * place} to {percent * (place + 1)}%", int((bins == place).sum())) for place in range(SHARE_BINS)
    ]
    quarters = [(SHARE_BINS * quarter / 4, f"{25 * quarter}%") for quarter in range(5)]
    return [
        _counted("Length of the expressions", "words", "expressions", _words(dataset.expressions), MOST_WORDS),
        Chart("Size of the masks", "mask area, share of the image", "instances", shares, quarters),
        _counted(
            "Objects in one image", "instances referred to", "images", _objects(dataset.expressions), MOST_OBJECTS
        ),
    ]


def choose(dataset: PreparedDataset, split: str) -> list[int]:
    """ref_ids to show: the refs of a split, sorted by mask area, cut into `SAMPLES` equal parts, the middle of each."""
    refs = dataset.split(split)[["ref_id", "ann_id"]].drop_duplicates("ref_id")
    refs = refs.assign(area=refs["ann_id"].map(prepared.area_shares(dataset.instances))).sort_values(["area", "ref_id"])
    count = min(SAMPLES, len(refs))
    return [int(refs["ref_id"].iloc[(2 * part + 1) * len(refs) // (2 * count)]) for part in range(count)]


def sample(dataset: PreparedDataset, ref_id: int) -> Sample:
    """A ref with its image.

    Raises:
        DatasetError: the image is missing, broken or not of the size that the dataset states, though it was checked.
    """
    rows = dataset.expressions[dataset.expressions["ref_id"] == ref_id]
    ann_id, image_id = int(rows["ann_id"].iloc[0]), int(rows["image_id"].iloc[0])
    instance = dataset.instances.loc[ann_id]
    mask = prepared.decode_mask(instance["mask"], int(instance["height"]), int(instance["width"]))
    opened = _open(dataset, instance)
    return Sample(
        ref_id=ref_id,
        ann_id=ann_id,
        image_id=image_id,
        category=instance["category"],
        file=Path(instance["image"]).name,
        share=f"{100 * mask.mean():.2f}",
        expressions=list(zip(rows["sent_id"].tolist(), rows["text"], strict=True)),
        image=opened if isinstance(opened, str) else overlays.thumbnail(opened, mask, IMAGE_SIZE),
    )


def _open(dataset: PreparedDataset, instance: pd.Series) -> Image.Image | str:
    """The image of an instance, or why it cannot be read where the dataset promises none."""
    what = f"{instance['image']} (image {instance['image_id']}, annotation {instance.name})"
    again = f"Make the dataset again with: {experiments.dvc('repro -f -s', 'prepare@' + dataset.summary['name'])}"
    try:
        return prepared.read_image(instance["image"], (instance["width"], instance["height"]))
    except ValueError as error:
        if dataset.summary["source"].get("check_images") is False:
            return str(error)
        raise DatasetError(f"{what} cannot be read: {error}. {again}") from None


def _splits(dataset: PreparedDataset) -> list[str]:
    return [split for split in ("train", *dataset.evaluation_splits) if (dataset.expressions["split"] == split).any()]


def _words(expressions: pd.DataFrame) -> pd.Series:
    return expressions["text"].str.split().str.len()


def _objects(expressions: pd.DataFrame) -> pd.Series:
    return expressions.groupby("image_id")["ann_id"].nunique()


def _counted(title: str, along: str, counted: str, values: pd.Series, most: int) -> Chart:
    """A chart with a bar for each whole number from 1 on; the last one counts `most` and everything above."""
    last = min(most, int(values.max()))
    names = [*map(str, range(1, last)), f"{last}+" if values.max() > last else str(last)]
    counts = values.clip(upper=last).value_counts()
    bars = [(name, int(counts.get(number, 0))) for number, name in enumerate(names, start=1)]
    every = -(-last // TICKS)
    ticks = [(number - 0.5, names[number - 1]) for number in range(every, last + 1, every)]
    return Chart(title, along, counted, bars, ticks)


def _categories(counts: pd.Series) -> list[tuple[str, int, str]]:
    """Name, instances and percentage of each of the most frequent categories, and of all others together."""
    rows = [(str(name), int(count)) for name, count in counts.iloc[:CATEGORIES].items()]
    others = counts.iloc[CATEGORIES:]
    rows += [(f"and {len(others):,} more", int(others.sum()))] if len(others) else []
    return [(name, count, f"{100 * count / counts.sum():.1f}") for name, count in rows]


def _rows(table: pd.DataFrame, shown: Callable) -> list[tuple[str, list[str]]]:
    return [(split, [shown(value) for value in row]) for split, row in zip(table.index, table.to_numpy(), strict=True)]


def _text(table: pd.DataFrame, shown: Callable) -> str:
    return table.map(shown).to_string()


def _short(value: float) -> str:
    return f"{round(value, 1):g}"


def _source(dataset: PreparedDataset) -> str:
    """The parameters of the source that are set: `kind refer, root ../refer, ...`."""
    source = {"kind": dataset.summary["source"]["kind"]} | dataset.summary["source"]
    return ", ".join(f"{key} {_plain(value)}" for key, value in source.items() if value is not None)


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return " ".join(f"{key} {_plain(item)}" for key, item in value.items())
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
