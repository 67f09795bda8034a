"""What a flow run shows on a terminal and on a pipe, what it estimates, and its last words."""

import io
import json
import os
import re
import subprocess
import sys
import time
from unittest.mock import MagicMock

import pytest
from rich.console import Console

from pipelines.dvc.reproduce import Outcome
from pipelines.flow import closing, progress, timings
from pipelines.flow.progress import Progress
from pipelines.flow.view import Lines, Screen, View, made
from pipelines.prefect import artifacts
from stages.runtime import layout
from stages.runtime.progress import Position
from tests.project import EACH_TIME, dvc

DAG = {"prepare@d": set(), "train@d-a-0": {"prepare@d"}, "train@d-b-0": {"prepare@d"}, "report": {"train@d-a-0"}}
LOOP = """
import sys

class Prefect:
    def find_spec(name, path=None, target=None):
        if name == "prefect":
            sys.exit("Prefect is imported")

sys.meta_path.insert(0, Prefect)
from pipelines.experiment import main
for targets in sys.argv[1:]:
    main(targets.split())
"""


@pytest.fixture
def clock(tmp_path, monkeypatch):
    """The current folder is empty, and time stands still until it is moved on."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".dvc/tmp").mkdir(parents=True)
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def begun(viewer: View | None = None, jobs: int = 1) -> Progress:
    return Progress(DAG, set(DAG), jobs, viewer or View())


def run(shown: Progress, clock: list[float], stage: str, seconds: float) -> None:
    shown.start(stage)
    clock[0] += seconds
    shown.end(stage, Outcome.RAN)


def tell(shown: Progress, stage: str, position: Position) -> None:
    shown.file(stage).parent.mkdir(parents=True, exist_ok=True)
    shown.file(stage).write_text(json.dumps(position))


def test_on_a_pipe_an_event_is_a_line_with_its_stage_in_front(clock, capsys):
    shown = begun(Lines())
    run(shown, clock, "prepare@d", 9)
    shown.start("train@d-a-0")
    for line in ("> python -m stages.train", "epoch 1/2: loss 0.5", "\tgit add dvc.lock", "Use `dvc push` to send"):
        shown.said("train@d-a-0", line)
    clock[0] += 60
    shown.end("train@d-a-0", Outcome.RAN)
    shown.wait("train@d-b-0", "DVC is busy")
    shown.end("train@d-b-0", "failed")
    shown.end("report", "skipped")
    assert capsys.readouterr().out.splitlines() == [
        "4 stages, 4 of them to run",
        "prepare@d: starts",
        "prepare@d: ran in 9 s; 1 of 4 stages done in 9 s",
        "train@d-a-0: starts",
        "train@d-a-0: epoch 1/2: loss 0.5",
        "train@d-a-0: ran in 60 s; 2 of 4 stages done in 69 s, at least 60 s left",
        "train@d-b-0: waits: DVC is busy; 2 of 4 stages done in 69 s, at least 60 s left",
        "train@d-b-0: failed; 2 of 4 stages done in 69 s",
        "report: skipped; 2 of 4 stages done in 69 s",
    ]


@pytest.mark.parametrize("width", [120, 80, 40])
def test_a_terminal_shows_what_runs_and_how_long_it_will_take(clock, width):
    written = io.StringIO()
    screen = Screen(Console(file=written, width=width, force_terminal=True, color_system=None, highlight=False))
    shown = begun(screen)
    run(shown, clock, "prepare@d", 9)
    shown.start("train@d-a-0")
    clock[0] += 13
    tell(shown, "train@d-a-0", Position("epoch 3/20", 12, 47, 300))
    shown.said("train@d-a-0", "epoch 2/20: loss 0.5")
    shown.said("train@d-a-0", "warning: few images")
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(screen.render())
    row, whole = console.file.getvalue().splitlines()
    assert max(map(len, (row, whole))) <= width
    assert row.startswith("train@d-a-0") and whole.startswith("1 of 4 stages done in 22 s")
    if width > 40:
        assert re.split("  +", row.strip()) == ["train@d-a-0", "epoch 3/20, step 12 of 47", "13 s", "about 5 min left"]
        assert whole == "1 of 4 stages done in 22 s, at least 10 min left"
    screen.end()
    above = written.getvalue()
    assert "prepare@d  ran in 9 s" in above and "train@d-a-0: warning: few images" in above and "loss" not in above
    assert above.rindex("\x1b[?25h") > above.rindex("\x1b[?25l")  # the cursor is there


@pytest.mark.parametrize(("view", "error"), [(Lines, BrokenPipeError), (Screen, OSError)])
def test_a_pipe_or_terminal_that_is_gone_fails_no_stage(clock, monkeypatch, view, error):
    class Closed(io.StringIO):
        def write(self, text):
            raise error

    monkeypatch.setattr(sys, "stdout", Closed())
    view(*[Console(force_terminal=True)] if view is Screen else []).note("a line")


def test_nothing_is_estimated_where_nothing_is_known(clock):
    shown = begun()
    assert shown.left_of_all() is None and shown.left("prepare@d") is None
    shown.start("prepare@d")
    assert shown.left_of_all() is None


@pytest.mark.parametrize(("jobs", "seconds"), [(1, 5 + 100 + 140 + 20), (2, max((5 + 100 + 140 + 20) / 2, 5 + 140))])
def test_earlier_runs_tell_how_long_it_will_take_until_this_one_does(clock, jobs, seconds):
    earlier = {"prepare@d": 5, "train@d-a-0": 100, "train@d-b-0": 140, "report": 20}
    timings.FILE.write_text(json.dumps({"": earlier}))
    shown = begun(jobs=jobs)
    assert shown.left_of_all() == (seconds, False)
    run(shown, clock, "prepare@d", 5)
    run(shown, clock, "train@d-a-0", 200)  # on a slower day
    assert shown.left_of_all() == ((200 + 20) if jobs == 1 else 200, False)
    assert json.loads(timings.FILE.read_text())[""] == {**earlier, "train@d-a-0": 200}


def test_prefects_page_has_the_estimate_of_the_terminal(clock, monkeypatch):
    said = []
    for name in ("create_progress_artifact", "update_progress_artifact"):
        monkeypatch.setattr(artifacts, name, lambda *of, key=None, description: said.append(description))
    monkeypatch.setattr(artifacts, "create_markdown_artifact", lambda *of, key, description: None)
    monkeypatch.setattr(artifacts, "get_client", lambda sync_client: MagicMock())
    shown, page = begun(), artifacts.StagesPage()

    def show() -> None:
        page.show({stage: each.described for stage, each in shown.items()}, len(shown.done), shown.summary)

    run(shown, clock, "prepare@d", 10)
    show()
    shown.start("train@d-a-0")
    tell(shown, "train@d-a-0", Position("epoch 1/5", 1, 4, 180.0))
    clock[0] += 60
    show()
    show()
    assert said == ["1 of 4 stages done in 10 s", "1 of 4 stages done in 70 s, at least 7 min left"]


def test_a_damaged_file_of_timings_is_as_none(clock):
    timings.FILE.write_text("[1, 2")
    assert begun().left_of_all() is None


ERRORS = {
    "its own message": (
        ["epoch 1/2", "error: the disk is full", "make room"],
        ["error: the disk is full", "make room"],
    ),
    "the last traceback": (
        ["Traceback (most recent call last):", "KeyError: 1", "Traceback (most recent call last):", "ValueError: 2"],
        ["Traceback (most recent call last):", "ValueError: 2"],
    ),
    "DVC's where it has none": (["epoch 1/2"], ["epoch 1/2", "failed to reproduce 'report': exited with -9"]),
}


@pytest.mark.parametrize("case", ERRORS)
def test_a_failure_names_stage_cause_and_the_command_to_go_on(clock, case):
    lines, cause = ERRORS[case]
    shown = begun()
    shown.start("report")
    for line in ["Running stage 'report':", *lines, "ERROR: failed to reproduce 'report': exited with -9"]:
        shown.said("report", line)
    clock[0] += 100
    shown.end("report", "failed")
    said = closing.failed(shown, "make repro").splitlines()
    assert said == [
        "report failed:",
        *(f"  {line}" for line in cause),
        "",
        "1 stage failed in 100 s. What is up to date stays.",
        "Once the cause is gone, go on with: make repro",
    ]


def test_an_interrupted_run_says_what_stays_and_how_to_go_on(clock):
    shown = begun()
    run(shown, clock, "prepare@d", 9)
    shown.start("train@d-a-0")
    shown.end("train@d-a-0", "stopped")
    said = closing.interrupted(shown, "make repro")
    assert said.startswith("1 stage ran, 1 stopped in 9 s. What is up to date stays")
    assert said.endswith("Go on with: make repro")


def test_the_last_words_are_those_of_the_report(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for dataset, said in (("photographs", ["a is best."]), ("scenes", ["b is best.", "+1.0 over a: supported."])):
        layout.result(dataset).parent.mkdir(parents=True)
        layout.result(dataset).write_text(json.dumps(said))
    words = closing.up_to_date(["prepare@scenes", "report"], "Done.")
    results = ["a is best.", "b is best. +1.0 over a: supported."]
    assert words.splitlines() == ["Done.", "", *results, "", "report: reports/index.html", "models and runs: make ui"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://user:word@mlflow.example")
    said = closing.up_to_date(["prepare@scenes"], "Done.")
    assert "word" not in said and len(said.splitlines()) == 2


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 s"), (119, "119 s"), (121, "2 min"), (45 * 60, "45 min"), (7500, "2 h 5 min")]
)
def test_a_span_of_time_in_words(seconds, said):
    assert progress.span(seconds) == said


@pytest.mark.programs
def test_where_nothing_is_to_do_prefect_is_not_even_imported(tmp_path, root, monkeypatch):
    def flows(*targets: str) -> subprocess.CompletedProcess:
        """One after the other, until one ends with an error."""
        environment = {**os.environ, "PYTHONPATH": str(root)}
        return subprocess.run([sys.executable, "-c", LOOP, *targets], env=environment, capture_output=True, text=True)

    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").write_text(EACH_TIME)
    (tmp_path / "source.txt").write_text("words")
    assert dvc("init", "-q", "--no-scm") == dvc("repro", "-q") == 0
    done = flows("", "look", "nope")
    said = [line.partition(":")[0] for line in done.stdout.splitlines() if "nothing to do" in line]
    assert said == ["2 stages are up to date", "1 stage is up to date"]
    assert "no stage 'nope'" in done.stderr
    (tmp_path / "source.txt").write_text("other words")  # only the stage itself can notice it
    assert flows("").stderr == "Prefect is imported\n"
    assert dvc("repro", "-q") == 0
    (tmp_path / "prepared.txt").write_text("changed by hand")
    done = flows("look", "")
    assert "1 stage is up to date: nothing to do" in done.stdout and done.stderr == "Prefect is imported\n"


@pytest.mark.parametrize(
    ("is_terminal", "term", "view"), [(True, "xterm", Screen), (True, "dumb", Lines), (False, "xterm", Lines)]
)
def test_a_live_view_is_for_terminals_that_can_show_it(monkeypatch, is_terminal, term, view):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)
    monkeypatch.setenv("TERM", term)
    assert type(made()) is view
