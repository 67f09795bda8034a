"""Verdicts of several sets of seeds side by side, and a set that comes from what the checkout has made."""

import sys

import pandas as pd
import pytest
from ruamel.yaml import YAML

from benchmarks import bits, replication
from benchmarks.clones import run
from stages.report.tables.table import MINUS
from stages.runtime import keys
from stages.runtime.errors import UserError
from tests.stages.report import report_inputs
from tests.stages.report.report_inputs import MEANS

OWN = [0, 1]


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bits, "kind", lambda: {"processor": "one", "instruction set": "AVX2", "settings": ""})
    monkeypatch.setattr(replication, "code_key", lambda settings, own: f"small-{own}")
    replication.RESULTS.parent.mkdir(parents=True)
    return tmp_path


def measured(folder, seeds, means=MEANS) -> pd.DataFrame:
    """The rows of a set, from the report of an experiment whose means are known."""
    kept = folder / "-".join(map(str, seeds)) / "reports" / "data" / "scenes"
    kept.mkdir(parents=True)
    settings = report_inputs.params(kept.parents[2], seeds=seeds)
    for name, content in report_inputs.files(settings, means, ("val", "testA")).items():
        (kept / name).write_bytes(content)
    return replication.measured(kept.parents[2], OWN)


def test_sets_of_seeds_are_disjoint_and_of_one_size():
    assert replication.seed_sets([0, 1, 2]) == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert replication.seed_sets([7, 2]) == [[7, 2], [8, 9], [10, 11]]


def test_verdicts_and_ranks_side_by_side(project):
    replication.write(measured(project, [2, 3], {**MEANS, "pixel_to_text": 0.5, "vlba": 0.56}))
    replication.write(measured(project, OWN))
    lines = replication.side_by_side(replication.read()).splitlines()
    assert lines[0] == (
        "mIoU, with the same verdict in all sets of seeds: 0 of 2 differences of the headline, 1 of 3 differences of "
        "other parts of the method."
    )
    assert "|  | seeds 0, 1 | seeds 2, 3 | same verdict |" in lines
    start = lines.index("| *scenes testA, headline* |  |  |  |")
    assert lines[start + 1 : start + 7] == [
        f"| bidirectional VLBA | +3.1 [0.1, 6.1], supported | +1.0 [{MINUS}2.0, 4.0], not supported | no |",
        f"| instance contrast | +0.2 [{MINUS}2.8, 3.2], not supported | +2.3 [{MINUS}0.7, 5.3], supported | no |",
        "| *scenes testA, other parts* |  |  |  |",
        f"| text-to-pixel VLBA | +1.0 [{MINUS}2.0, 4.0], not supported | +1.0 [{MINUS}2.0, 4.0], not supported | yes |",
        f"| pixel-to-text VLBA | 0.0 [{MINUS}3.0, 3.0], not supported | {MINUS}5.0 [{MINUS}8.0, {MINUS}2.0], a loss, "
        "supported | no |",
        f"| pixel contrast | {MINUS}3.1 [{MINUS}6.1, {MINUS}0.1], a loss, supported | {MINUS}1.0 [{MINUS}4.0, 2.0], "
        "not supported | no |",
    ]
    assert lines.count("| vlba | 2 (58.1) | 2 (56.0) |") == 2, "by mIoU and by oIoU"
    assert "| baseline | 4 (55.0) | 4 (55.0) |" in lines


def test_without_verdicts_nothing_agrees(project):
    for seeds in ([0], [1]):
        replication.write(measured(project, seeds))
    assert ": 0 of 2 differences of the headline, 0 of 3" in replication.side_by_side(replication.read())


def test_rows_of_the_same_set_are_replaced_and_others_stay(project):
    with pytest.raises(UserError, match="has no rows: run python"):
        replication.side_by_side(replication.read())
    first, second = measured(project, OWN), measured(project, [2, 3])
    for rows in (first, second, first):
        replication.write(rows)
    assert list(replication.read()["seeds"]) == [*second["seeds"], *first["seeds"]]
    replication.write(second.assign(processor="another"))
    said = replication.side_by_side(replication.read())
    assert "|  | seeds 0, 1 on one | seeds 2, 3 on one | seeds 2, 3 on another | same verdict |" in said
    replication.write(first.assign(code="changed"))
    assert len(replication.read()) == 2 * len(first) + 2 * len(second)
    assert "|  | seeds 0, 1 |" in replication.side_by_side(replication.read())


def test_the_code_is_what_numbers_follow_from(tmp_path, monkeypatch):
    """The same for other seeds; another for other parameters, other code, and other seeds of the project."""
    monkeypatch.chdir(tmp_path)

    def key(seeds, own=OWN, epochs=6, code="c0de", diagnosis="c0de"):
        settings = report_inputs.params(tmp_path, seeds=seeds)
        stages: dict = {"prepare@scenes": {"deps": [{"path": "stages/prepare", "md5": "c0de"}]}}
        for variant in settings.experiment.variants:
            for seed in seeds:
                data, model = {"path": "data/scenes", "md5": "da7a"}, {"path": "results/models", "md5": f"seed {seed}"}
                trains, diagnoses = {"path": "stages/train", "md5": code}, {"path": "stages/diagnose", "md5": diagnosis}
                knobs = {"results/params.json": {"recipes.small": {"epochs": epochs}}}
                name = f"scenes-{variant}-{seed}"
                stages[f"train@{name}"] = {"cmd": name, "deps": [data, trains], "params": knobs}
                stages[f"evaluate@{name}"] = {"cmd": name, "deps": [data, model]}
                stages[f"diagnose@{name}"] = {"cmd": name, "deps": [data, model, diagnoses]}
        scores = {"path": "results/scores/scenes", "md5": str(seeds)}
        stages["ablate@scenes"] = {"deps": [scores], "params": {"results/params.json": {"experiment.seeds": seeds}}}
        with keys.LOCK.open("w") as lock:
            YAML(typ="safe").dump({"stages": stages}, lock)
        return replication.code_key(settings, own)

    assert key([0, 1]) == key([2, 3]) == key([2, 3], diagnosis="other")
    assert len({key([0, 1]), key([0, 1], own=[2, 3]), key([0, 1], epochs=7), key([0, 1], code="other")}) == 4


def test_a_set_that_the_checkout_has_is_not_trained_again(reproduced, tmp_path):
    folder = reproduced.copied_to(tmp_path / "project")
    results = folder / replication.RESULTS
    others = ("git", "ls-files", "--others", "--exclude-standard")
    before, known = run(folder, *others).splitlines(), results.read_text()
    said = run(folder, sys.executable, "-m", "benchmarks.replication", "--sets", "1")
    assert "Done in" in said and " ran" in said and "train@scenes-baseline-0: cached" in said
    assert run(folder, *others).splitlines() == before
    assert results.read_text().startswith(known)
    rows = pd.read_csv(results, keep_default_na=False).iloc[len(known.splitlines()) - 1 :]
    assert {tuple(row) for row in rows[["headline", "what", "split"]].to_numpy()} == {
        *(("yes", "alignformer over baseline", split) for split in ("testA", "testB")),
        *(("", variant, split) for variant in ("baseline", "alignformer") for split in ("testA", "testB")),
    }
