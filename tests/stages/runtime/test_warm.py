"""A stage that is forked from the warm process is like one that was started: its code, its surroundings, its end."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from benchmarks.faults.processes import within
from stages.runtime import warm
from stages.runtime.parent import alive

pytestmark = pytest.mark.programs

STAGE = """
import json, os, signal, subprocess, sys, time
from stages.runtime import warm
from stages.runtime.startup import start

warm.PATIENCE = float(os.environ.get("STAGES_PATIENCE", 60))
if __name__ == "__main__":
    start()
    facts = {"pid": os.getpid(), "forked": "STAGES_FORKED" in os.environ, "arguments": sys.argv[1:]}
    facts |= {"folder": os.getcwd(), "of stage": os.environ["DVC_STAGE"], "pandas": "pandas" in sys.modules}
    what = sys.argv[1]
    if what == "leave":
        facts["left"] = subprocess.Popen(["sleep", "1000"]).pid
    try:
        print(json.dumps(facts), flush=True)
        if what == "wait":
            time.sleep(1000)
    except KeyboardInterrupt:
        sys.exit(7)
    if what == "fail":
        raise ValueError("of the stage")
    if what == "signal":
        os.kill(os.getpid(), signal.SIGABRT)
    sys.exit(int(what) if what.isdecimal() else 0)
"""
PATIENCE = 60


class Project:
    """A project with one stage of a few lines, for as long as its owner lives."""

    def __init__(self, root: Path, folder: Path):
        (folder / ".dvc" / "tmp").mkdir(parents=True)
        (folder / "stages" / "card").mkdir(parents=True)
        (folder / "stages" / "__init__.py").touch()
        (folder / "stages" / "runtime").symlink_to(root / "stages" / "runtime")
        self.folder, self.code = folder, folder / "stages" / "card" / "__main__.py"
        self.code.write_text(STAGE)
        for library in warm.LIBRARIES["stages.card"]:  # the real ones take seconds
            (folder / f"{library.partition('.')[0]}.py").touch()
        self.owner = subprocess.Popen(["sleep", "1000"])
        self.started: list[subprocess.Popen] = []

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen:
        """Start the stage as DVC would."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        process = subprocess.Popen(
            [sys.executable, "-m", "stages.card", *arguments],
            cwd=self.folder,
            env={**inherited, "DVC_STAGE": "card@x", "STAGES_OWNER": str(self.owner.pid), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def end(self) -> None:
        for process in (self.owner, *self.started):
            process.kill()
            process.communicate()


@pytest.fixture(scope="module")
def shared(root, tmp_path_factory) -> Iterator[Project]:
    project = Project(root, tmp_path_factory.mktemp("project"))
    yield project
    project.end()


@pytest.fixture
def start(shared):
    return shared.start


def facts(process: subprocess.Popen) -> dict:
    return json.loads(process.stdout.readline())


def gone(*pids: int) -> bool:
    """Whether the processes end within `PATIENCE`; where nobody collects the dead, they stay listed."""
    processes = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    return within(PATIENCE, lambda: not any(map(alive, processes))) is not None


def test_it_has_the_surroundings_and_the_code_of_its_own_and_the_libraries(start, shared):
    first, second = start("0", "--seed", "1"), start("5")
    told = [facts(process) for process in (first, second)]
    assert [process.wait(PATIENCE) for process in (first, second)] == [0, 5]
    assert all(each["forked"] and each["pandas"] and each["of stage"] == "card@x" for each in told)
    assert told[0]["arguments"] == ["0", "--seed", "1"] and told[0]["folder"] == str(shared.folder)
    shared.code.write_text(STAGE.replace('"pid"', '"number"'))
    assert "number" in facts(start("0"))
    shared.code.write_text(STAGE)


def test_one_warm_process_for_stages_that_start_together_and_its_end_with_the_owner(root, tmp_path):
    project = Project(root, tmp_path)
    waiting = [project.start("wait") for _ in range(3)]
    parents = {psutil.Process(facts(process)["pid"]).ppid() for process in waiting}
    assert len(parents) == 1
    project.owner.kill()
    project.owner.wait()
    assert all(process.poll() is None for process in waiting)  # a stage ends with DVC, not with the owner
    for process in waiting:
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 7
    assert gone(*parents)
    project.end()


def test_it_ends_as_a_stage_that_fails_or_is_killed(start):
    failed = start("fail")
    assert failed.wait(PATIENCE) == 1
    said = failed.stderr.read()
    assert "ValueError: of the stage" in said and "warm.py" not in said
    assert start("signal").wait(PATIENCE) == -signal.SIGABRT


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 7), (signal.SIGTERM, -signal.SIGTERM)])
def test_a_signal_reaches_it(start, number, code):
    process = start("wait")
    pid = facts(process)["pid"]
    process.send_signal(number)
    assert process.wait(PATIENCE) == code
    assert gone(pid)


def test_the_kernel_kills_it_when_who_stands_for_it_is_killed(start):
    process = start("wait")
    pid = facts(process)["pid"]
    process.kill()
    assert gone(pid)


def test_it_ends_with_the_warm_process_and_the_next_one_starts_another(start):
    process = start("wait")
    told = facts(process)
    assert told["forked"]
    psutil.Process(pid := told["pid"]).parent().kill()
    assert process.wait(PATIENCE) == 1 and "Run the same command again" in process.stderr.read()
    assert gone(pid)
    assert facts(start("0"))["forked"]


def test_where_the_warm_process_is_stopped_a_signal_ends_it_at_once_and_patience_has_an_end(start):
    parent = psutil.Process(facts(start("wait"))["pid"]).parent()
    parent.suspend()
    try:
        waiting = start("wait")
        while not catches(waiting, signal.SIGQUIT):
            time.sleep(0.05)
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait(PATIENCE) == -signal.SIGINT
        assert not facts(start("0", STAGES_PATIENCE="0.1"))["forked"]
    finally:
        parent.resume()  # which lets go of the streams that it was sent
    assert not waiting.stderr.read()


def catches(process: subprocess.Popen, number: int) -> bool:
    """Whether the process has a handler for the signal."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return bool(int(status.partition("SigCgt:")[2].split()[0], 16) & 1 << (number - 1))


def test_what_it_leaves_running_is_ended(start):
    process = start("leave")
    left = facts(process)["left"]
    assert process.wait(PATIENCE) == 0
    assert gone(left)


def test_in_another_environment_it_starts_as_any_program(start):
    assert facts(start("0"))["forked"]
    assert not facts(start("0", OMP_NUM_THREADS="7"))["forked"]
    assert not facts(start("0", STAGES_OWNER="0", DVC_STAGE="card@x", PYTHONWARNINGS="error"))["forked"]
