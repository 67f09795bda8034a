"""What is set stands in params.yaml, and nothing else has changed: compared with ruamel's own reading, line by line."""

import difflib
import fcntl
import shutil
import subprocess
import sys

import pytest

from pipelines.flow import param_overrides
from pipelines.flow.param_overrides import OverrideError
from stages.runtime import params
from stages.runtime.dvc_internals import read_yaml


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
            "recipes.small.model.vision={kind: resnet, stem: 8, channels: [8], depths: [1]}",
            ("recipes", "small", "model", "vision"),
            {"kind": "resnet", "stem": 8, "channels": [8], "depths": [1]},
            6,
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
    param_overrides.apply([setting])
    assert read_yaml(clone / "params.yaml") == expected
    diff = difflib.ndiff(before.splitlines(), (clone / "params.yaml").read_text().splitlines())
    changed = [line for line in diff if line[0] in "+-"]
    assert len(changed) <= max(2, lines)
    assert [path.name for path in clone.iterdir()] == ["params.yaml"]


def test_several_together_and_what_changed(clone):
    several = ["experiment.variants=[baseline, vlba]", "experiment.highlight=vlba", "experiment.seeds=[3]"]
    changes = param_overrides.check([*several, "evaluation.threads=1"])
    assert [change.key for change in changes] == ["experiment.variants", "experiment.highlight", "experiment.seeds"]
    assert str(changes[2]) == "experiment.seeds: [0, 1] -> [3]"


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
        param_overrides.apply(settings)
    assert (clone / "params.yaml").read_bytes() == before


def test_what_is_written_is_what_every_stage_reads(clone):
    said = []
    with param_overrides.held(["experiment.seeds=[4]"], said.append):
        assert params.read().experiment.seeds == [4]
    assert said == ["params.yaml: experiment.seeds: [0, 1] -> [4]"]


def test_not_under_another_flow(clone):
    with param_overrides.held([], print):
        with param_overrides.held([], print), param_overrides.held(["experiment.seeds=[0, 1]"], print):
            pass  # a value that is there already disturbs nobody
        with (
            pytest.raises(OverrideError, match="another flow runs"),
            param_overrides.held(["experiment.seeds=[5]"], print),
        ):
            pass
    with param_overrides.held(["experiment.seeds=[5]"], print):
        assert params.read().experiment.seeds == [5]


def test_a_flow_that_is_killed_holds_nothing(clone, root):
    code = "from pipelines.flow.param_overrides import held\nwith held([], print): print('held', flush=True); input()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(root)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    holder.stdout.readline()
    with (clone / param_overrides.LOCK).open() as lock:
        with pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        holder.kill()
        holder.wait()
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    holder.stdin.close()
    holder.stdout.close()
