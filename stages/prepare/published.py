"""The published sizes of the RefCOCO family, and how a source differs from them."""

from stages.prepare.problems import DatasetError
from stages.prepare.tables import Tables, count

NONE = (0, 0, 0)
COLUMNS = ("refs", "expressions", "images")
COUNTS: dict[tuple[str, str], dict[str, tuple[int, int | None, int]]] = {
    # Kazemzadeh et al. 2014, Yu et al. 2016 (unc), Nagaraja et al. 2016 (umd), Mao et al. 2016 (google of refcocog);
    # google of refcoco: ref_coco/refcoco_google of TensorFlow Datasets, which does not count expressions (None)
    ("refcoco", "unc"): {
        "train": (42404, 120624, 16994),
        "val": (3811, 10834, 1500),
        "testA": (1975, 5657, 750),
        "testB": (1810, 5095, 750),
    },
    ("refcoco", "google"): {"train": (40000, None, 19213), "val": (5000, None, 4559), "test": (5000, None, 4527)},
    ("refcoco+", "unc"): {
        "train": (42278, 120191, 16992),
        "val": (3805, 10758, 1500),
        "testA": (1975, 5726, 750),
        "testB": (1798, 4889, 750),
    },
    ("refcocog", "umd"): {"train": (42226, 80512, 21899), "val": (2573, 4896, 1300), "test": (5023, 9602, 2600)},
    ("refcoco-m", "unc"): {"val": (2080, 5598, 1190)},  # the card of moondream/refcoco-m on the Hugging Face hub
    ("refcocog", "google"): {"train": (44822, 85474, 24698), "val": (5000, 9536, 4650)},
}


def judge(tables: Tables, name: str, split_by: str, allow_partial: bool) -> None:
    """Compare the counts with the published ones. Where they differ and may differ, the tables become `partial`.

    Raises:
        DatasetError: they differ and may not; the message names both numbers of each count.
    """
    differences = _differences(count(tables.expressions), COUNTS[name, split_by])
    if not differences:
        tables.checks.append("counts as published")
        return
    if not allow_partial:
        every = [
            f"{split} has " + ", ".join(f"{here:,} {what} where {there:,} are published" for what, here, there in rows)
            for split, rows in differences.items()
        ]
        raise DatasetError(
            f"{tables.files[0].parent} is not the published {name} ({split_by}): {'; '.join(every)}. "
            "Complete the release, or set allow_partial: true under the dataset in params.yaml: its numbers will then "
            "carry a warning"
        )
    tables.partial = True
    first = [f"{split} {here:,} of {there:,} {what}" for split, ((what, here, there), *_) in differences.items()]
    tables.warnings.append(f"not the whole {name} ({split_by}): {', '.join(first)}")


def _differences(
    found: dict[str, dict[str, int]], expected: dict[str, tuple[int, int | None, int]]
) -> dict[str, list[tuple[str, int, int]]]:
    """The counts that differ, by split: which count, its number here, its published number."""
    rows = {
        split: [
            (what, here, there)
            for what, here, there in zip(COLUMNS, _row(found.get(split)), expected.get(split, NONE), strict=True)
            if there is not None and here != there
        ]
        for split in dict.fromkeys([*expected, *found])
    }
    return {split: different for split, different in rows.items() if different}


def _row(counts: dict[str, int] | None) -> tuple[int, ...]:
    return tuple(counts[what] for what in COLUMNS) if counts else NONE
