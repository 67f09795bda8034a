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
from prefect.settings import PREFECT_HOME, temporary_settings

from pipelines.dvc import dag
from pipelines.dvc.reproduce import Outcome, StageFailedError, reproduce
from pipelines.experiment import main
from pipelines.prefect import server
from pipelines.prefect.server import ServerError
from tests.project import PREPARED, dvc

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


COMMANDS = ["experiment", "schedule", "sync", "repair"]
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
    """Whether it is gone, or dead and not yet collected, within a minute: a kill takes effect a little later."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for _ in range(600):
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
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("[core]\n    no_scm = True\n")
    return tmp_path


@pytest.mark.parametrize("command", ["experiment", "schedule"])
def test_no_command_imports_prefect_before_it_is_told_not_to_call_home(project, command):
    """In a project with something to do: where there is nothing, `experiment` does without Prefect."""
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
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], cwd=project, env=env, capture_output=True, text=True)
    assert done.stderr == "True\n"


def test_importing_a_command_does_nothing_and_each_has_help():
    script = f"""
import importlib, os, threading
before = dict(os.environ)
for name in {COMMANDS}:
    command = importlib.import_module(f"pipelines.{{name}}")
    print(dict(os.environ) == before, threading.active_count())
    try:
        command.main(["--help"])
    except SystemExit:
        pass
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert re.findall(r"^True 1\nusage: python -m pipelines\.(\w+) ", done.stdout, re.MULTILINE) == COMMANDS, (
        done.stderr
    )


def test_flow_runs_the_dag_and_names_what_failed_whatever_the_settings_of_the_user(project):
    (project.parent / "prefect.toml").write_text('[api]\nurl = "http://127.0.0.1:9/api"\n')
    assert dvc("repro", "prepare") == 0
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.experiment"],
        env={**os.environ, **USERS},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "\ntrain@bad failed:\n" in done.stderr
    noise = ("\x1b", "\t", "dvc push", "Updating lock file", "Task run", "Flow run", "Traceback")
    assert not [word for word in noise if word in done.stdout + done.stderr]
    assert "1 stage ran, 1 unchanged, 1 failed, 1 skipped in " in done.stderr
    assert "\ntrain@good: training good\n" in done.stdout and "\ntrain@good: ran in " in done.stdout
    assert (project / "good.txt").exists() and not (project / "report.txt").exists()


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
    home = project / ".prefect"
    with closing(sqlite3.connect(home / "prefect.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '0123456789ab'")
    with temporary_settings({PREFECT_HOME: home}), pytest.raises(ServerError) as raised, server.temporary():
        pass
    said = str(raised.value)
    assert said.startswith("Prefect's temporary server did not start")
    assert "Can't locate revision identified by '0123456789ab'" in said
    (command,) = re.findall(r"put it aside: (.*)", said)
    subprocess.run(command, shell=True, check=True)
    assert not list(home.glob("prefect.db*"))


def test_failure_names_the_stage(project):
    assert reproduce("prepare", print) is Outcome.RAN
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
        env={**os.environ, **PREPARED},
        start_new_session=True,
    )
    stages = [started(project / f"pid{index}") for index in (1, 2)]
    flow.terminate()
    assert flow.wait(timeout=120) == 128 + signal.SIGTERM
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
