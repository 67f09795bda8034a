"""How a stage tells how far it is."""

import io
import itertools
import json
import os
import sys
import time

import pytest

from stages.runtime import progress
from stages.runtime.progress import VARIABLE, Position, bar, read


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Where the stage writes to; each look at the clock finds it 2 seconds later."""
    file = tmp_path / "below" / "stage.json"
    monkeypatch.setenv(VARIABLE, str(file))
    monkeypatch.setattr(time, "monotonic", itertools.count(0, 2).__next__)
    return file


def test_a_stage_says_which_step_of_which_part_and_how_long_the_rest_takes(file):
    seen = []
    for epoch in (0, 1):
        for item in bar("abcd", f"epoch {epoch + 1}/2", 4, part=(epoch, 2)):
            seen.append((item, Position(*json.loads(file.read_text()))))
    assert [item for item, _ in seen] == list("abcdabcd")
    told = [position for _, position in seen]
    assert told[0] == ("epoch 1/2", 0, 4, None)
    assert told[1] == ("epoch 1/2", 1, 4, 14)  # an eighth took 2 seconds
    assert told[6] == ("epoch 2/2", 2, 4, 4)


def test_a_resumed_stage_counts_from_where_it_resumed(file):
    told = [read(file) for _ in bar("cd", "epoch 2/2", 4, done=2, part=(1, 2))]
    assert told[0][:3] == ("epoch 2/2", 2, 4) and told[1].left == pytest.approx(2, abs=0.5)


def test_a_part_of_unknown_size_tells_no_time(file):
    assert [read(file) for _ in bar("ab", "val", 2)] == [("val", 0, 2, None), ("val", 1, 2, None)]


def test_it_writes_at_most_once_a_second(file, monkeypatch):
    monkeypatch.setattr(time, "monotonic", itertools.count(0, 0.4).__next__)
    assert [read(file).step for _ in bar("abcdef", "val", 6)] == [0, 0, 0, 3, 3, 3]


def test_seconds_are_counted_down_after_the_last_word(file):
    file.parent.mkdir()
    file.write_text(json.dumps(["epoch 1/2", 1, 4, 14]))
    os.utime(file, (time.time() - 10,) * 2)
    assert read(file).left == pytest.approx(4, abs=1)
    os.utime(file, (time.time() - 60,) * 2)
    assert read(file).left == 0


@pytest.mark.parametrize("content", ["", "[1", '{"a": 1}', "[1, 2]", "7"])
def test_a_file_that_is_no_position_says_nothing(tmp_path, content):
    (tmp_path / "stage.json").write_text(content)
    assert read(tmp_path / "stage.json") is None
    assert read(tmp_path / "missing.json") is None


def test_a_file_that_cannot_be_written_fails_nothing(tmp_path, monkeypatch):
    (tmp_path / "taken").write_text("")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "taken" / "stage.json"))
    assert list(bar("abc", "val", 3)) == list("abc")


@pytest.mark.parametrize("hidden", [True, False])
def test_without_a_flow_a_terminal_has_a_bar(tmp_path, monkeypatch, hidden):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert list(bar("abc", "val", 3, hidden=hidden)) == list("abc")
    assert ("val" in sys.stderr.getvalue()) != hidden
    assert not list(tmp_path.iterdir())


def test_a_hidden_one_writes_nothing(file):
    assert list(bar("abc", "val", 3, hidden=True)) == list("abc")
    assert not file.exists()


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    monkeypatch.setattr(progress, "_begun", {})
