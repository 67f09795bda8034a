"""What is set stands in params.yaml, and nothing else has changed: compared with ruamel's own reading, line by line."""

import difflib
import shutil

import pytest

from pipelines.flow.held import held
from pipelines.flow.param_overrides import OverrideError
from stages.runtime.dvc_internals import read_yaml


def apply(settings: list[str]) -> list[str]:
    """What is said about the changes."""
    said = []
    with held(["default"], settings, None, said.append):
        return said


@pytest.fixture
def clone(root, tmp_path, monkeypatch):
    shutil.copy(root / "tests" / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("setting", "keys", "value", "lines"),
    [
        ("experiment.seeds=[0,1,2]", ("experiment", "seeds"), [0, 1, 2], 1),
        ("recipes.small.training.learning_rate=1e-3", ("recipes", "small", "training", "learning_rate"), 0.001, 1),
        ("recipes.small.training.precision=bf16", ("recipes", "small", "training", "precision"), "bf16", 1),
        ("datasets.refcoco.root='a, b: c'", ("datasets", "refcoco", "root"), "a, b: c", 1),
        ("datasets.scenes.image_counts.val=7", ("datasets", "scenes", "image_counts", "val"), 7, 1),
        ("variants.vlba.vlba_levels=2", ("variants", "vlba", "vlba_levels"), 2, 1),
        (
            "recipes.small.training.encoder_learning_rate=1e-4",
            ("recipes", "small", "training", "encoder_learning_rate"),
            1e-4,
            1,
        ),
        (
            "recipes.small.model.vision={kind: resnet, stem: 8, channels: [8], depths: [1], absolute_positions: false}",
            ("recipes", "small", "model", "vision"),
            {"kind": "resnet", "stem": 8, "channels": [8], "depths": [1], "absolute_positions": False},
            7,
        ),
        (
            "variants.new={vlba: none, contrastive: none, contrastive_weight: 0.0, temperature: 0.05}",
            ("variants", "new"),
            {"vlba": "none", "contrastive": "none", "contrastive_weight": 0.0, "temperature": 0.05},
            1,
        ),
    ],
)
def test_the_value_and_nothing_else(clone, setting, keys, value, lines):
    before, expected = (clone / "params.yaml").read_text(), read_yaml(clone / "params.yaml")
    section = expected
    for key in keys[:-1]:
        section = section[key]
    section[keys[-1]] = value
    apply([setting])
    assert read_yaml(clone / "params.yaml") == expected
    diff = difflib.ndiff(before.splitlines(), (clone / "params.yaml").read_text().splitlines())
    changed = [line for line in diff if line[0] in "+-"]
    assert len(changed) <= max(2, lines)
    assert [path.name for path in clone.iterdir() if path.is_file()] == ["params.yaml"]


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("setting", "old", "new"),
    [
        ("experiment.seeds=[0,1,2]", "seeds: [0, 1]\n", "seeds: [0,1,2]\n"),
        ("variants.vlba.vlba_levels=2", "none }  # ü\n", "none, vlba_levels: 2 }  # ü\n"),
        ("variants.new={vlba: none}", "0.05}\n\nevaluation", "0.05}\n  new: {vlba: none}\n\nevaluation"),
    ],
)
def test_no_other_byte_changes(clone, setting, old, new, line_end):
    full = "vlba: bidirectional, contrastive: none"
    text = (clone / "params.yaml").read_text().replace(f"{full}}}\n", f"{full} }}  # ü\n")
    assert text.count(old) == 1
    (clone / "params.yaml").write_bytes(text.replace("\n", line_end).encode())
    apply([setting])
    assert (clone / "params.yaml").read_bytes() == text.replace(old, new).replace("\n", line_end).encode()


def test_several_together_and_what_changed(clone):
    several = ["experiment.variants=[baseline, vlba]", "experiment.highlight=vlba", "experiment.seeds=[3]"]
    *others, last = apply([*several, "evaluation.threads=1"])
    assert [line.split(": ")[1] for line in others] == ["experiment.variants", "experiment.highlight"]
    assert last == "params.yaml, for good: experiment.seeds: [0, 1] -> [3]"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["experiment.seedz=[0]"], "experiment.seedz: unknown key; did you mean seeds?"),
        (["evaluation.threads=x"], "evaluation.threads: expected integer, found 'x'"),
        (["experiment.seeds=[1]", "experiment.reference=nope"], "reference: unknown variant 'nope'"),
        (["experiment.seeds.0=5"], r"experiment.seeds is not a section but \[0, 1\]"),
        (["experiment.seeds"], "expected KEY=VALUE"),
        (["experiment.seeds=[0,"], "not YAML"),
        (["=1"], "expected KEY=VALUE"),
    ],
)
def test_what_is_wrong_is_named_and_changes_nothing(clone, settings, message):
    before = (clone / "params.yaml").read_bytes()
    with pytest.raises(OverrideError, match=message):
        apply(settings)
    assert (clone / "params.yaml").read_bytes() == before
