"""Who is champion by a comparison, and what its registered model is called. With MLflow: `test_sync.py`."""

import csv
import itertools
import json
from pathlib import Path

import pytest

from pipelines.mlflow import champion
from stages.runtime.run import Run


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([("a", "val", 0.6, 0.1, True), ("b", "val", 0.7, 0.2, False)], "a"),
        ([("a", "val", 0.6, 0.1, True), ("b", "val", 0.7, 0.2, True)], "b"),
        ([("a", "val", 0.4, -0.1, True)], None),
        ([("a", "x_val", 0.6, 0.1, True), ("a", "y_val", 0.5, 0.1, False)], None),
        ([("a", "x_val", 0.6, 0.1, True), ("a", "y_val", 0.5, 0.1, True)], "a"),
        # val chose the epochs: where there are other splits, these decide
        ([("a", "val", 0.6, 0.1, True), ("a", "testA", 0.7, 0.2, False)], None),
        ([("a", "val", 0.4, -0.1, False), ("a", "testA", 0.7, 0.2, True)], "a"),
        ([("a", "testA", 0.7, 0.2, True), ("a", "testB", 0.7, 0.2, False)], None),
        ([("a", "val", 0.9, 0.4, True), ("a", "test", 0.6, 0.1, True), ("b", "test", 0.7, 0.2, True)], "b"),
    ],
)
def test_who_is_champion(tmp_path, monkeypatch, rows, expected):
    monkeypatch.chdir(tmp_path)
    compare(rows)
    runs = [Run("D", variant, seed) for variant in ("reference", "a", "b") for seed in (0, 1)]
    chosen = champion.choose("D", runs, "reference", "mIoU")
    if expected is None:
        assert isinstance(chosen, str) and "no variant is above reference" in chosen
    else:
        means = [mean for variant, split, mean, *_ in rows if variant == expected and (split != "val" or len(rows) < 3)]
        assert chosen.run == Run("D", expected, 1)
        assert f"`{expected}`, seed 1, the best of 2 seeds on val." in chosen.description()
        assert [of.of_seed for of in chosen.evidence] == [0.1] * len(chosen.evidence)
        assert chosen.mean == pytest.approx(sum(means[-len(chosen.evidence) :]) / len(chosen.evidence))


def compare(rows, **given) -> None:
    """Metrics of two seeds, of which seed 1 is the better on every split, and a comparison."""
    splits = {split for _, split, *_ in rows} | {"val"}
    for seed in (0, 1):
        for variant in ("a", "b"):
            path = Path(f"results/metrics/D/{variant}/{seed}/D.json")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"protocol": "original", **{split: {"mIoU": seed / 10} for split in splits}}))
    columns = ["variant", "split", "mean", "difference", "supported"]
    table = [dict(zip(columns, row, strict=True)) for row in rows]
    table += [{"variant": "reference", "split": split, "mean": 0.5, "difference": 0.0} for _, split, *_ in rows]
    given = {"metric": "mIoU", "difference_low": 0.01, "difference_high": 0.4, "p_holm": 0.02} | given
    Path("results/comparison").mkdir()
    with Path("results/comparison/D.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*columns, *given])
        writer.writeheader()
        writer.writerows([given | row for row in table])


def test_no_champion_without_a_verdict(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    compare([("a", "testA", 0.7, 0.2, ""), ("a", "testB", 0.7, 0.2, "")], p_holm="", no_verdict="one seed is too few")
    runs = [Run("D", variant, 0) for variant in ("reference", "a")]
    assert champion.choose("D", runs, "reference", "mIoU") == "testA, testB: one seed is too few"


def test_champions_of_other_experiments_have_other_names():
    """Names may hold the character that joins them."""
    from mlflow.utils.validation import _validate_model_name

    parts = ["a", "a-", "a-a", "a--", "a--a", "a-a-", "a-a-a", "A_+", "a+a"]
    names = {champion.Title(*title).name for title in itertools.product(parts, repeat=3)}
    assert len(names) == len(parts) ** 3
    for name in names:
        _validate_model_name(name)
    assert champion.Title("scenes", "small", "original").name == "alignformer-scenes-small-original"
