"""What is set stands in params.yaml, and nothing else has changed: compared with ruamel's own reading, line by line."""

import difflib
import fcntl
import os
import shutil
import subprocess
import sys
import threading
from contextlib import suppress

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
    param_overrides.apply([setting])
    assert (clone / "params.yaml").read_bytes() == text.replace(old, new).replace("\n", line_end).encode()


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


CHANGED = "experiment.seeds: [0, 1] -> [4]"


@pytest.mark.parametrize("end", ["kept", "not kept", "failed", "edited"])
def test_the_file_is_put_back_unless_it_is_to_be_kept_or_was_edited(clone, end):
    file, said = clone / "params.yaml", []
    file.write_bytes(before := file.read_bytes().replace(b"\n", b"\r\n"))
    with suppress(KeyboardInterrupt), param_overrides.held(["experiment.seeds=[4]"], said.append) as keep:
        assert params.read().experiment.seeds == [4]
        assert said == [f"params.yaml: {CHANGED}"]
        if end == "kept":
            keep()
        if end == "failed":
            raise KeyboardInterrupt
        if end == "edited":
            file.write_bytes(file.read_bytes() + b"# mine")
    changed = before.replace(b"seeds: [0, 1]", b"seeds: [4]")
    assert file.read_bytes() == {"kept": changed, "edited": changed + b"# mine"}.get(end, before)
    assert len(said) == (1 if end == "kept" else 2) and said[-1].endswith(CHANGED)
    assert ("not put back" in said[-1]) == (end == "edited")


@pytest.fixture
def flow(programs, root):
    """A flow in another process, which holds the clone until it is killed."""
    started = []

    def start(*overrides: str) -> subprocess.Popen:
        code = f"with held({list(overrides)}, print): print('held', flush=True); input()"
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", f"from pipelines.flow.param_overrides import held\n{code}"],
                env={**os.environ, "PYTHONPATH": str(root)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        while started[-1].stdout.readline() != "held\n":
            pass
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("edit", [b"", b"# mine"])
def test_after_a_kill_the_next_flow_puts_the_file_back(clone, flow, edit):
    file = clone / "params.yaml"
    before = file.read_bytes()
    holder = flow("experiment.seeds=[4]")
    said = []
    param_overrides.put_back(said.append)
    assert params.read().experiment.seeds == [4] and not said  # it still runs
    holder.kill()
    holder.wait()
    file.write_bytes(file.read_bytes() + edit)
    with param_overrides.held([], said.append):
        assert params.read().experiment.seeds == ([4] if edit else [0, 1])
    assert file.read_bytes() == (before.replace(b"seeds: [0, 1]", b"seeds: [4]") + edit if edit else before)
    assert len(said) == 1 and said[0].endswith(CHANGED) and ("not put back" in said[0]) == bool(edit)
    param_overrides.put_back(said.append)
    assert len(said) == 1


def test_a_flow_waits_for_the_end_of_one_that_changed_the_file(clone, flow):
    """As the nightly one does: it must run with the values of the file, and nobody changes them under it."""
    holder = flow("experiment.seeds=[4]")
    for wanted in ("experiment.seeds=[5]", "experiment.seeds=[0, 1]"):
        with pytest.raises(OverrideError, match="another flow runs"), param_overrides.held([wanted], print):
            pass
    said, read = [], []

    def nightly():
        with param_overrides.held([], said.append):
            read.append(params.read().experiment.seeds)

    waiting = threading.Thread(target=nightly)
    waiting.start()
    waiting.join(0.5)
    assert waiting.is_alive() and len(said) == 1
    holder.communicate("\n")
    waiting.join(30)
    assert read == [[0, 1]]


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


def test_a_flow_that_is_killed_holds_nothing(clone, flow):
    holder = flow()
    with (clone / param_overrides.LOCK).open() as lock:
        with pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        holder.kill()
        holder.wait()
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
