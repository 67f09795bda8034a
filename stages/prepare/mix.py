"""Several sets of a REFER release as one dataset: trained on together, scored set by set, without leaks."""

from collections.abc import Mapping

import pandas as pd

from stages.data.prepared import SPACE
from stages.prepare.problems import DatasetError
from stages.prepare.tables import Tables

OWN_IDS = ["sent_id", "ref_id", "ann_id"]  # image_id is COCO's in every set


def mix(sets: Mapping[str, Tables]) -> Tables:
    """The tables of all sets as one.

    Images that are in another split of any set are dropped from train, with all their refs; a note says how many. The
    other splits stay apart, named SET_SPLIT. Ids of refs, sentences and annotations are moved into a range of their own
    for each set. Ids of images stay, since the sets share COCO's images.

    Raises:
        DatasetError: two sets contradict each other about an image, or an id is not below `SPACE`.
    """
    expressions = pd.concat([_moved(tables.expressions, place) for place, tables in enumerate(sets.values())])
    instances = pd.concat([_moved(tables.instances, place) for place, tables in enumerate(sets.values())])
    boxes = pd.concat([_moved(tables.boxes, place) for place, tables in enumerate(sets.values())])
    _check_images(instances)
    name = pd.Series([name for name, tables in sets.items() for _ in range(len(tables.expressions))])

    expressions = expressions.reset_index(drop=True)
    trained = expressions["split"] == "train"
    held_out = set(expressions.loc[~trained, "image_id"])
    leaking = trained & expressions["image_id"].isin(held_out)
    expressions["split"] = expressions["split"].where(trained, name + "_" + expressions["split"])
    kept = expressions[~leaking].reset_index(drop=True)
    return Tables(
        expressions=kept,
        instances=instances[instances["ann_id"].isin(kept["ann_id"])].reset_index(drop=True),
        boxes=_of_images(boxes, kept),
        files=[file for tables in sets.values() for file in tables.files],
        sizes={name: size for tables in sets.values() for name, size in tables.sizes.items()},
        checks=[*_common_checks(sets), "no train image in another split of any set"],
        warnings=[f"{name}: {warning}" for name, tables in sets.items() for warning in tables.warnings],
        notes=[
            _dropped(expressions[trained], expressions[leaking], list(sets)),
            *(f"{name}: {note}" for name, tables in sets.items() for note in tables.notes),
        ],
        partial=any(tables.partial for tables in sets.values()),
    )


def _moved(table: pd.DataFrame, place: int) -> pd.DataFrame:
    ids = [column for column in OWN_IDS if column in table]
    largest = table[ids].to_numpy().max()
    if largest >= SPACE:
        raise DatasetError(f"id {largest} is too large to be mixed: ids must be below {SPACE}")
    return table.assign(**{column: table[column] + place * SPACE for column in ids})


def _of_images(boxes: pd.DataFrame, expressions: pd.DataFrame) -> pd.DataFrame:
    """Of each set, the boxes on the images that its own expressions are about."""

    def images(table: pd.DataFrame) -> pd.MultiIndex:
        return pd.MultiIndex.from_arrays([table["image_id"], table["ann_id"] // SPACE])

    return boxes[images(boxes).isin(images(expressions))].reset_index(drop=True)


def _check_images(instances: pd.DataFrame) -> None:
    images = instances[["image_id", "image", "width", "height"]].drop_duplicates()
    twice = images[images["image_id"].duplicated(keep=False)].sort_values("image_id")
    if len(twice):
        first = "; ".join(f"{row.image} {row.width} x {row.height}" for row in twice[:2].itertuples())
        raise DatasetError(
            f"the sets do not share one space of image ids: {twice['image_id'].nunique():,} ids mean different images, "
            f"such as {twice['image_id'].iloc[0]}: {first}"
        )


def _common_checks(sets: Mapping[str, Tables]) -> list[str]:
    first, *others = (tables.checks for tables in sets.values())
    return [check for check in first if all(check in other for other in others)]


def _dropped(trained: pd.DataFrame, leaking: pd.DataFrame, names: list[str]) -> str:
    parts = [
        f"{leaking[column].nunique():,} of {trained[column].nunique():,} {what}"
        for column, what in (("image_id", "images"), ("ref_id", "refs"), ("sent_id", "expressions"))
    ]
    return f"dropped from train, since their images are in another split of {' or '.join(names)}: {', '.join(parts)}"
