"""The same predictions against two sets of masks, and which expressions two datasets share."""

import io
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from stages.data import prepared
from stages.data.prepared import MissingSplitError, encode_mask
from stages.runtime import layout
from stages.scoring.protocols import PROTOCOLS
from stages.second_truth import comparison, matching
from stages.second_truth.__main__ import main
from stages.second_truth.comparison import ANNOTATION
from stages.second_truth.matching import NothingInCommonError, match
from stages.statistics.bootstrap import VariantSeed

PARAMS = Path(__file__).parents[2] / "params.yaml"
VARIANTS, SEEDS = ["baseline", "alignformer"], [0, 1]


def anew(squares, texts: list[str] | None = None, shrunk: int = 3):
    """The squares' val with other ids, other masks, without its last expression, and perhaps other texts."""
    rows = squares.prepared.split("val").iloc[:-1]
    rows = rows.assign(sent_id=range(len(rows)), ref_id=rows["ref_id"] + 7000, ann_id=rows["ann_id"] + 7000)
    instances = squares.prepared.instances.copy()
    instances["mask"] = [encode_mask(smaller(squares.masks[ann_id], shrunk)) for ann_id in instances.index]
    instances.index += 7000
    rows = rows if texts is None else rows.assign(text=texts)
    return replace(squares.prepared, expressions=rows, instances=instances, summary={"name": "anew"})


def smaller(mask: np.ndarray, by: int) -> np.ndarray:
    """A square without its first rows."""
    found = mask.copy()
    found[np.flatnonzero(mask.any(axis=1))[:by]] = False
    return found


# Matching


def test_capitals_and_punctuation_do_not_count(shared_squares):
    found = match(shared_squares.prepared, anew(shared_squares, ["The red-square", "the BLUE square!", "green, the"]))
    val = shared_squares.prepared.split("val")
    assert found.pairs["sent_id"].tolist() == val["sent_id"].tolist()[:2]
    assert (found.pairs["second"] == found.pairs["first"] + 7000).all()
    assert (found.unknown, found.ambiguous, found.expressions) == (1, 0, 3)
    assert str(found).startswith("2 expressions about 1 images are in both; of the 3 with new masks, 1 are not")


def test_words_that_mean_several_things_of_an_image_are_left_out(shared_squares):
    texts = ["the red square", "the red square", "the green square"]  # the first two of one image
    found = match(shared_squares.prepared, anew(shared_squares, texts))
    assert len(found.pairs) == 1 and (found.unknown, found.ambiguous) == (0, 2)
    alike = shared_squares.prepared.expressions.copy()
    alike.loc[alike["text"] == "the blue square", "text"] = "the red square"
    found = match(replace(shared_squares.prepared, expressions=alike), anew(shared_squares))
    assert len(found.pairs) == 1 and (found.unknown, found.ambiguous) == (1, 1)


def test_the_same_words_on_another_image_are_another_expression(shared_squares):
    other = anew(shared_squares)
    moved = replace(other, expressions=other.expressions.assign(image_id=other.expressions["image_id"] + 100))
    with pytest.raises(NothingInCommonError, match="no expression of val is in both datasets, squares and anew"):
        match(shared_squares.prepared, moved)
    train = shared_squares.prepared.expressions.query("split == 'train'")
    with pytest.raises(MissingSplitError):
        match(replace(shared_squares.prepared, expressions=train), other)


def test_an_expression_that_two_people_wrote_is_scored_twice(shared_squares):
    rows = shared_squares.prepared.expressions
    again = rows[rows["text"] == "the red square"].assign(sent_id=9000)
    twice = replace(shared_squares.prepared, expressions=pd.concat([rows, again]))
    assert match(twice, anew(shared_squares)).pairs["sent_id"].tolist()[-1] == 9000
    assert matching.SPLIT == "val"


# The comparison


def predicted(shared_squares, variant: str, seed: int) -> dict[int, np.ndarray]:
    """ann_id -> a prediction at the original size: the true mask with some pixels changed."""
    random = np.random.default_rng([VARIANTS.index(variant), seed])
    return {number: mask ^ (random.random(mask.shape) < 0.1) for number, mask in shared_squares.masks.items()}


def on(mask: np.ndarray, size: int | None) -> np.ndarray:
    picture = Image.fromarray(mask)
    return mask if size is None else np.asarray(picture.resize((size, size), Image.Resampling.NEAREST))


@pytest.fixture(params=["original", "lavt"])
def project(request, shared_squares, tmp_path, monkeypatch):
    """Both datasets and the scores of all runs in a folder; the size of the protocol's grid, None for the image's."""
    monkeypatch.chdir(tmp_path)
    content = yaml.safe_load(PARAMS.read_text())
    content["experiment"] |= {"variants": VARIANTS, "seeds": SEEDS}
    content["evaluation"]["protocol"] = request.param
    content["datasets"]["anew"] = {"kind": "refcoco_m", "root": "hub", "sentence": "sent"}
    Path("params.yaml").write_text(yaml.safe_dump(content))
    for name, data in {"scenes": shared_squares.prepared, "anew": anew(shared_squares)}.items():
        summary = {**data.summary, "name": name}
        prepared.write(layout.prepared(name), data.expressions, data.instances.reset_index(), summary)
    size = 480 if request.param == "lavt" else None
    for variant in VARIANTS:
        for seed in SEEDS:
            write_scores(shared_squares, variant, seed, request.param, size)
    return size


def write_scores(squares, variant: str, seed: int, protocol: str, size: int | None, **changes) -> None:
    rows = squares.prepared.split("val")
    found = []
    for number in rows["ann_id"]:
        mask, true = (on(each[number], size) for each in (predicted(squares, variant, seed), squares.masks))
        counts = {"intersection": np.count_nonzero(mask & true), "union": np.count_nonzero(mask | true)}
        found.append({**counts, "height": mask.shape[0], "width": mask.shape[1], "prediction": encode_mask(mask)})
    scores = pd.concat([rows[["sent_id", "split"]], pd.DataFrame(found)], axis=1).assign(protocol=protocol, **changes)
    path = layout.scores("scenes", variant, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    scores.to_parquet(path)


def compare() -> str:
    with redirect_stdout(io.StringIO()) as said:
        main(["--dataset", "scenes", "--truth", "anew"])
    return said.getvalue()


def plain(squares, size: int | None, masks: dict[int, np.ndarray], shrunk: int) -> dict[str, float]:
    """The metrics of masks against the squares, by a loop over all expressions but the last."""
    pairs = []
    for number in squares.prepared.split("val")["ann_id"].tolist()[:-1]:
        mask, true = on(masks[number], size), on(smaller(squares.masks[number], shrunk), size)
        pairs.append((np.count_nonzero(mask & true), np.count_nonzero(mask | true)))
    return {
        "mIoU": np.mean([inside / union for inside, union in pairs]),
        "oIoU": sum(inside for inside, _ in pairs) / sum(union for _, union in pairs),
    }


def test_numbers_are_those_of_a_plain_loop(project, shared_squares):
    said = compare()
    table = pd.read_csv(layout.second_truth("scenes")).set_index(["variant", "metric"])
    for variant in VARIANTS:
        runs = [predicted(shared_squares, variant, seed) for seed in SEEDS]
        for metric in ("mIoU", "oIoU"):
            old, new = (
                np.mean([plain(shared_squares, project, masks, shrunk)[metric] for masks in runs]) for shrunk in (0, 3)
            )
            row = table.loc[variant, metric]
            assert (row["seeds"], row["expressions"], row["images"]) == (2, 3, 2)
            wanted = [old, new, new - old, (new - old) / (1 - old)]
            assert row[["old", "new", "difference", "share"]].tolist() == pytest.approx(wanted, abs=1e-12)
    assert "3 expressions about 2 images are in both" in said


def test_the_old_masks_themselves_are_the_first_rows(project, shared_squares):
    compare()
    table = pd.read_csv(layout.second_truth("scenes"))
    first = table[table["variant"] == ANNOTATION].set_index("metric")
    assert table["variant"].iloc[0] == ANNOTATION and (first["old"] == 1).all() and first["share"].isna().all()
    for metric, expected in plain(shared_squares, project, shared_squares.masks, 3).items():
        assert first.loc[metric, "new"] == pytest.approx(expected, abs=1e-12)


def test_a_system_of_others_has_rows_of_its_own(project, shared_squares):
    content = yaml.safe_load(Path("params.yaml").read_text())
    content["experiment"]["others"] = {"theirs": {"predictions": {"scenes": "theirs.json"}}}
    Path("params.yaml").write_text(yaml.safe_dump(content))
    path = layout.scores_of_other("scenes", "theirs")
    path.parent.mkdir(parents=True)
    path.write_bytes(layout.scores("scenes", "baseline", 1).read_bytes())
    compare()
    table = pd.read_csv(layout.second_truth("scenes"))
    assert table["variant"].unique().tolist() == [ANNOTATION, *VARIANTS, "theirs"]
    assert set(table["protocol"]) == {"original" if project is None else "lavt"} and set(table["truth"]) == {"anew"}
    theirs = table[table["variant"] == "theirs"].set_index("metric")
    for metric, expected in plain(shared_squares, project, predicted(shared_squares, "baseline", 1), 3).items():
        assert theirs.loc[metric, "new"] == pytest.approx(expected, abs=1e-12) and theirs.loc[metric, "seeds"] == 1


def counts(random: np.random.Generator, expressions: int, better: int) -> dict[str, np.ndarray]:
    """Unions of 1,000 pixels, of which about half are hit, and with the new masks `better` more of all."""
    hit = random.integers(400, 600, expressions)
    full = np.full(expressions, 1000)
    return {"old": np.stack([hit, full], axis=1), "new": np.stack([hit + better, full], axis=1)}


def test_intervals_are_paired_and_cover_other_images():
    """A difference that is the same everywhere has no spread, however much the numbers themselves have."""
    random, images = np.random.default_rng(0), np.repeat(np.arange(40), 3)
    runs = {VariantSeed("a", seed): counts(random, 120, better=100) for seed in range(3)}
    row = comparison.measured(runs, images, PROTOCOLS["original"]).set_index("metric").loc["mIoU"]
    assert row["difference"] == pytest.approx(0.1) == row["difference_low"] == row["difference_high"]
    assert row["old_low"] < row["old"] - 0.003 and row["old"] + 0.003 < row["old_high"]
    assert row["share"] == pytest.approx(0.1 / (1 - row["old"]))
    few = comparison.measured(runs, images % 5, PROTOCOLS["original"])
    assert few[["old_low", "difference_high"]].isna().all(axis=None)  # fewer images than an interval needs


def test_what_is_shown_is_in_percent():
    random, images = np.random.default_rng(0), np.arange(40)
    table = comparison.measured({VariantSeed("a", 0): counts(random, 40, better=100)}, images, PROTOCOLS["original"])
    shown = comparison.shown(table, "refcoco", "refcoco_m")
    assert shown.columns.tolist() == ["refcoco", "refcoco_m", "difference", "share of the error"]
    assert shown.loc[("mIoU", "a"), "difference"] == "10.0 [10.0, 10.0]"
    assert shown.loc[("mIoU", "a"), "share of the error"] == f"{10 / (1 - table['old'].iloc[0]):.1f}"


def test_scores_of_something_else_are_refused(project, shared_squares):
    def said() -> str:
        with pytest.raises(SystemExit) as caught:
            main(["--dataset", "scenes", "--truth", "anew"])
        return str(caught.value)

    protocol = "original" if project is None else "lavt"
    write_scores(shared_squares, "baseline", 1, protocol, project, union=12345)
    assert "scenes-baseline-1, expression 502: I and U are of another mask than the dataset's" in said()
    write_scores(shared_squares, "baseline", 1, "cris", project)
    assert "is of protocol cris, not" in said()
    layout.scores("scenes", "baseline", 1).unlink()
    assert "scenes-baseline-1 has no scores" in said()
