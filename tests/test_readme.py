"""README says what the committed reports say."""

import re

import pandas as pd
import pytest

CONTRASTS = ("reports/data/scenes/contrasts.csv", "experiments/photographs/reports/data/refer_mini/contrasts.csv")
COLUMNS = [
    ("scenes", "testA"),
    ("scenes", "testB"),
    ("refer_mini", "testA"),
    ("refer_mini", "testB"),
    ("refer_mini", "refer_true"),
]
ROW = re.compile(r"^\| [^|]+ \| `(\w+)` over `(\w+)` \| (.+) \|$", re.MULTILINE)
CELL = re.compile(r"(\**)(\S+?)\1 \[(\S+), (\S+)\]")
NUMBERS = ["difference", "difference_low", "difference_high"]


def test_what_each_part_adds_is_what_the_reports_say(root):
    table = pd.concat([pd.read_csv(root / file) for file in CONTRASTS])
    found = table[table["metric"] == "mIoU"].set_index(["dataset", "split", "variant", "against"]).sort_index()
    rows = ROW.findall((root / "README.md").read_text(encoding="utf-8"))
    assert {(variant, against) for variant, against, _ in rows} == set(found.loc[COLUMNS[0]].index)
    for variant, against, cells in rows:
        for (dataset, split), cell in zip(COLUMNS, cells.split(" | "), strict=True):
            row = found.loc[dataset, split, variant, against]
            bold, *numbers = CELL.fullmatch(cell).groups()
            points = [float(number.replace("\N{MINUS SIGN}", "-")) for number in numbers]
            assert points == pytest.approx(list(100 * row[NUMBERS].astype(float)), abs=0.0501)
            assert row["supported"] if bold else row["verdict"] == "undecided"
