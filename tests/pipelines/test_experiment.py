"""The real flow, in a process of its own, on a tiny DVC project with a stage that fails."""

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

import psutil
import pytest

from pipelines.dvc import dag
from pipelines.dvc.reproduce import Outcome, StageFailedError, reproduce
from pipelines.experiment import main

pytestmark = pytest.mark.programs

ROOT = Path(__file__).resolve().parents[2]

PIPELINE = """
stages:
  prepare:
    cmd: echo words > words.txt
    outs:
      - words.txt
  train:
    matrix:
      variant:
        - good
        - bad
    cmd: echo training ${item.variant} && test ${item.variant} = good && cp words.txt ${item.variant}.txt
    deps:
      - words.txt
    outs:
      - ${item.variant}.txt
  report:
    cmd: cat good.txt bad.txt > report.txt
    deps:
      - good.txt
      - bad.txt
    outs:
      - report.txt
"""

LONG = """
stages:
  long:
    cmd: sleep 600 & echo $! > pid; echo started; wait
"""

STAGE = """
import os, time
from stages.runtime import startup
startup.start()
open("pid", "w").write(str(os.getpid()))
time.sleep(600)
"""

EACH_TIME = """
stages:
  look:
    cmd: cat source.txt > seen.txt
    always_changed: true
    outs:
      - seen.txt:
          cache: false
  prepare:
    cmd: cp seen.txt prepared.txt
    deps:
      - seen.txt
    outs:
      - prepared.txt
"""

SIDE_BY_SIDE = """
stages:
  long:
    matrix:
      index:
        - 1
        - 2
        - 3
    cmd: sleep 600 & echo $! > pid${item.index}; wait
"""


USERS = {  # what users have in their environment for other work, and no run may depend on
    "HTTP_PROXY": "http://127.0.0.1:9",
    "ALL_PROXY": "socks://127.0.0.1:9/",
    "PREFECT_API_KEY": "pnu_other",
    "PREFECT_FLOWS_DEFAULT_RETRIES": "1",
    "PREFECT_PROFILE": "work",
    "PREFECT_RESULTS_DEFAULT_STORAGE_BLOCK": "s3/other",
    "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "true",
    "PREFECT_SERVER_API_AUTH_STRING": "user:word",
    "PREFECT_SERVER_API_BASE_PATH": "/other",
    "PREFECT_TASKS_DEFAULT_RETRY_DELAY_SECONDS": "600",
}


def ended(pid: int) -> bool:
    """Whether it is gone, or dead and not yet collected, within ten seconds: a kill takes effect a little later."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for _ in range(100):
            if process.status() == psutil.STATUS_ZOMBIE:
                return True
            time.sleep(0.1)
        return False
    return True


def started(file: Path) -> int:
    """The number of a process, as soon as it, or its shell, has written it."""
    for _ in range(600):
        if file.exists() and file.read_text().strip():
            break
        time.sleep(0.1)
    return int(file.read_text())


@pytest.fixture
def project(tmp_path, monkeypatch, prefect_database):
    monkeypatch.chdir(tmp_path)
    for name in ("DVC_ROOT", "DVC_STAGE", "PREFECT_HOME", "PREFECT_API_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    shutil.copy(ROOT / "prefect.toml", tmp_path)
    (tmp_path / ".prefect").mkdir()
    shutil.copy(prefect_database, tmp_path / ".prefect")
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], check=True)
    return tmp_path


@pytest.mark.parametrize("command", ["experiment", "schedule"])
def test_no_command_imports_prefect_before_it_is_told_not_to_call_home(command):
    script = f"""
import os, runpy, sys
from stages.runtime import startup

class Prefect:
    def find_spec(name, path=None, target=None):
        if name == "prefect":
            sys.exit(str(all(switch in os.environ for switch in startup.SWITCHES)))

for switch in startup.SWITCHES:
    os.environ.pop(switch, None)
sys.meta_path.insert(0, Prefect)
runpy.run_module("pipelines.{command}", run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr == "True\n"


@pytest.mark.parametrize("command", ["experiment", "schedule", "sync", "repair"])
def test_importing_a_command_does_nothing_and_each_has_help(command):
    script = f"""
import os, threading
before = dict(os.environ)
import pipelines.{command}
print(dict(os.environ) == before, threading.active_count())
pipelines.{command}.main(["--help"])
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.startswith(f"True 1\nusage: python -m pipelines.{command} "), done.stderr


def test_flow_runs_the_dag_and_names_what_failed_whatever_the_settings_of_the_user(project):
    (project.parent / "prefect.toml").write_text('[api]\nurl = "http://127.0.0.1:9/api"\n')
    assert reproduce("prepare", print) is Outcome.RAN
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.experiment"],
        env={**os.environ, **USERS},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    summary = "1 ran, 0 cached, 1 unchanged, 1 failed, 1 skipped; failed: train@bad; skipped: report"
    assert f"error: {summary}" in done.stderr
    assert "Task run 'train@good' - training good" in done.stdout + done.stderr
    assert (project / "good.txt").exists() and not (project / "report.txt").exists()


def test_a_stage_that_runs_each_time_is_unchanged_where_its_outputs_are(project):
    def summary() -> str:
        command = [sys.executable, "-m", "pipelines.experiment"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()[-1]

    (project / "dvc.yaml").write_text(EACH_TIME)
    (project / "source.txt").write_text("words")
    assert summary() == "2 ran, 0 cached, 0 unchanged, 0 failed, 0 skipped"
    assert dag.look() == ({"look": set(), "prepare": {"look"}}, {"prepare"}, {"look": dag.recorded_outputs("look")})
    assert summary() == "0 ran, 0 cached, 2 unchanged, 0 failed, 0 skipped"
    (project / "source.txt").write_text("other words")
    assert summary() == "2 ran, 0 cached, 0 unchanged, 0 failed, 0 skipped"
    (project / "seen.txt").write_text("changed by hand")
    assert summary() == "1 ran, 0 cached, 1 unchanged, 0 failed, 0 skipped"
    assert (project / "seen.txt").read_text() == "other words"


def test_order_and_ancestors(project):
    stages = dag.read()
    assert stages == {
        "prepare": set(),
        "train@good": {"prepare"},
        "train@bad": {"prepare"},
        "report": {"train@good", "train@bad"},
    }
    order = list(stages)
    assert order.index("prepare") == 0 and order.index("report") == 3
    assert set(dag.restrict(stages, ["train@good"])) == {"prepare", "train@good"}
    assert set(dag.restrict(stages, ["train"])) == {"prepare", "train@good", "train@bad"}
    with pytest.raises(dag.DagError, match="no stage 'nope'"):
        dag.restrict(stages, ["nope"])


def test_no_project_is_an_error_with_a_reason(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with pytest.raises(dag.DagError, match=r"DVC cannot read the pipeline: .*not inside of a DVC repository"):
        dag.read()
    with pytest.raises(SystemExit, match="not the root of a DVC project"):
        main([])
    assert not list(tmp_path.iterdir())


def test_a_history_of_a_newer_prefect_is_named_at_once_with_the_way_out(project):
    with closing(sqlite3.connect(project / ".prefect/prefect.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '0123456789ab'")
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "pipelines.experiment"], capture_output=True, text=True)
    assert done.returncode == 1 and time.monotonic() - started < 60
    assert done.stderr.startswith("error: Prefect's temporary server did not start")
    assert "Can't locate revision identified by '0123456789ab'" in done.stderr
    (command,) = re.findall(r"put it aside: (.*)", done.stderr)
    subprocess.run(command, shell=True, check=True)
    assert not list(project.glob(".prefect/prefect.db*"))


def test_failure_names_the_stage(project):
    reproduce("prepare", print)
    with pytest.raises(StageFailedError, match="train@bad"):
        reproduce("train@bad", print)


def test_interrupt_leaves_nothing_running(project):
    (project / "dvc.yaml").write_text(LONG)

    def interrupt(line: str) -> None:
        if line == "started":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reproduce("long", interrupt)
    assert ended(int((project / "pid").read_text()))


def test_ending_the_flow_ends_every_stage_and_starts_no_other(project):
    (project / "dvc.yaml").write_text(SIDE_BY_SIDE)
    flow = subprocess.Popen(
        [sys.executable, "-m", "pipelines.experiment", "--jobs", "2"],
        start_new_session=True,
    )
    stages = [started(project / f"pid{index}") for index in (1, 2)]
    flow.terminate()
    assert flow.wait(timeout=30) == 128 + signal.SIGTERM
    assert all(map(ended, stages))
    assert not (project / "pid3").exists()


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])  # one waits for the stage, the other becomes the stage
def test_a_stage_ends_with_dvc_and_dvc_with_whoever_started_it(project, shell):
    (project / "stage.py").write_text(STAGE)
    deaf = "sleep 600 & echo $! > background"  # what a shell puts there ignores the interrupt
    (project / "dvc.yaml").write_text(f"stages:\n  long:\n    cmd: {deaf}; {sys.executable} stage.py; true\n")
    starter = subprocess.Popen(
        [sys.executable, "-c", "from pipelines.dvc.reproduce import reproduce; reproduce('long', print)"],
        env={**os.environ, "SHELL": shell},
    )
    stage = psutil.Process(started(project / "pid"))
    dvc = next(process for process in stage.parents() if "pipelines.dvc" in process.cmdline())
    starter.kill()
    starter.wait()
    assert ended(dvc.pid) and ended(stage.pid) and ended(int((project / "background").read_text()))


def test_a_stage_ends_with_a_plain_dvc(project):
    (project / "stage.py").write_text(STAGE)
    (project / "dvc.yaml").write_text(f"stages:\n  long:\n    cmd: {sys.executable} stage.py\n")
    dvc = subprocess.Popen([sys.executable, "-m", "dvc", "repro"])
    stage = started(project / "pid")
    dvc.kill()
    dvc.wait()
    assert ended(stage)
