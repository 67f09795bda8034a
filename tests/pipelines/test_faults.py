"""Crashes that are quick to make: what they leave of DVC's own files, and of a process whose parent is gone.

The long ones, on the real stages, are injected by `python -m benchmarks.faults`.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from benchmarks.faults import processes
from benchmarks.faults.moments import Moment
from pipelines import repair as repair_command
from pipelines.dvc import dag
from pipelines.dvc.dag import DagError
from pipelines.dvc.repair import LOCK, RWLOCK, repair
from stages.runtime import dvc_internals, keys
from stages.runtime.dvc_internals import DvcError
from tests.project import dvc

ROOT = Path(__file__).resolve().parents[2]
DAMAGED = Path("dvc.lock.damaged")
PIPELINE = """
stages:
  first:
    cmd: date +%N >> ran && echo words > words.txt
    deps:
      - input.txt
    outs:
      - words.txt
  second:
    cmd: date +%N >> ran && cp words.txt copy.txt
    deps:
      - words.txt
    outs:
      - copy.txt
"""


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reproduced")
    (folder / "dvc.yaml").write_text(PIPELINE)
    (folder / "input.txt").write_text("words")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert dvc("init", "-q", "--no-scm") == dvc("repro") == 0
    return folder


@pytest.fixture
def project(reproduced, tmp_path, monkeypatch):
    """Two stages, up to date; in `ran` a line for each time that one ran."""
    monkeypatch.chdir(tmp_path)
    subprocess.run(["cp", "-r", f"{reproduced}/.", "."], check=True)
    return tmp_path


@pytest.mark.parametrize("kept", [0, 20, -10])
def test_a_lock_file_that_is_cut_off_is_made_again_from_the_run_cache(project, kept):
    """Empty, in a key, and in the last hash, where DVC would run that stage again."""
    whole = LOCK.read_bytes()
    LOCK.write_bytes(whole[:kept])
    said = []
    repair(said.append)
    assert len(said) == 1 and "dvc.lock was cut off" in said[0]
    assert DAMAGED.read_bytes() == whole[:kept]
    assert dvc("repro") == 0
    assert LOCK.read_bytes() == whole
    assert len(Path("ran").read_text().splitlines()) == 2


def test_the_command_repairs_and_says_so(project, monkeypatch, tmp_path, capsys):
    LOCK.write_bytes(LOCK.read_bytes()[:20])
    repair_command.main([])
    assert "dvc.lock was cut off" in capsys.readouterr().out and DAMAGED.exists()
    repair_command.main([])
    assert capsys.readouterr().out == ""
    monkeypatch.chdir(tmp_path.parent)
    with pytest.raises(SystemExit, match="not the root of a DVC project"):
        repair_command.main([])


@pytest.mark.programs
def test_a_merge_conflict_in_the_lock_file_is_named_and_left_to_the_user(project):
    """Two branches, each with a run of its own, merged by git."""

    def git(*arguments: str) -> int:
        name = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        return subprocess.run(["git", *name, *arguments], capture_output=True).returncode

    assert git("init", "-q", "-b", "ours") == git("add", "dvc.lock", "input.txt") == git("commit", "-qm", "start") == 0
    for branch in ("theirs", "ours"):
        git("checkout", "-q", "-B", branch, "HEAD" if branch == "theirs" else "HEAD~1")
        Path("input.txt").write_text(f"words of {branch}")
        assert dvc("repro") == 0
        assert git("commit", "-qam", branch) == 0
    whole = LOCK.read_bytes()
    assert git("merge", "theirs") == 1
    conflicted = LOCK.read_bytes()
    with pytest.raises(DagError, match=r"dvc\.lock: line \d+: a merge conflict of git.*--ours dvc\.lock"):
        repair()
    with pytest.raises(SystemExit, match="a merge conflict of git"):
        repair_command.main([])
    with pytest.raises(DvcError, match="a merge conflict of git"):
        keys.locked_entries()
    assert LOCK.read_bytes() == conflicted and not DAMAGED.exists()
    assert git("checkout", "--ours", "dvc.lock") == 0
    repair()
    assert LOCK.read_bytes() == whole
    Path("dvc.yaml").write_text(f"<<<<<<< HEAD\n{PIPELINE}=======\n>>>>>>> theirs\n")
    with pytest.raises(DagError, match=r"DVC cannot read the pipeline: dvc\.yaml: line 1: a merge conflict of git"):
        dag.read()
    Path("dvc.yaml").write_text(PIPELINE)
    Path("params.yaml").write_text("a: 1\n<<<<<<< HEAD\nb: 2\n=======\nb: 3\n>>>>>>> theirs\n")
    with pytest.raises(DagError, match=r"DVC cannot read the pipeline: params\.yaml: line 2: a merge conflict of git"):
        dag.read()


def test_a_lock_file_that_is_cut_off_is_put_aside_where_dvc_never_ran(project):
    """As in a new clone: there is no folder `.dvc/tmp` yet."""
    LOCK.write_bytes(LOCK.read_bytes()[:20])
    shutil.rmtree(RWLOCK.parent)
    repair()
    assert DAMAGED.exists() and not LOCK.exists()


@pytest.mark.parametrize("content", ["", '{"write": {"', None], ids=["empty", "cut off", "another program's"])
def test_a_rwlock_that_blocks_dvc_for_ever_is_removed(project, content):
    stranger = {"pid": os.getpid(), "cmd": "/venv/bin/dvc repro --single-item first"}
    held = json.dumps({"write": {str(project / "words.txt"): stranger}, "read": {}})
    RWLOCK.write_text(held if content is None else content)
    Path("words.txt").unlink()
    assert dvc("repro") != 0
    said = []
    repair(said.append)
    assert len(said) == 1 and "rwlock" in said[0]
    assert dvc("repro") == 0


@pytest.mark.programs
def test_nothing_is_repaired_where_all_is_well(project):
    holder = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", "repro", "first"])
    try:
        signed = {"pid": holder.pid, "cmd": "/venv/bin/dvc repro first"}
        dead = {"pid": 99_999_999, "cmd": "dvc repro"}
        RWLOCK.write_text(json.dumps({"write": {"words.txt": signed}, "read": {"input.txt": [dead]}}))
        before = RWLOCK.read_bytes(), LOCK.read_bytes()
        said = []
        repair(said.append)
        assert (RWLOCK.read_bytes(), LOCK.read_bytes(), said) == (*before, [])
    finally:
        holder.kill()
        holder.wait()


def test_a_lock_file_that_dvc_is_just_writing_is_left_alone(project):
    whole = LOCK.read_bytes()
    said = []
    with dvc_internals.files_held():
        LOCK.write_bytes(b"")
        repairing = threading.Thread(target=repair, args=(said.append,))
        repairing.start()
        time.sleep(0.5)
        assert repairing.is_alive()
        LOCK.write_bytes(whole)
    repairing.join(60)
    assert not repairing.is_alive() and said == [] and LOCK.read_bytes() == whole


@pytest.mark.programs
def test_a_process_whose_end_takes_for_ever_is_killed_soon_after_its_parent(tmp_path):
    """Python stops other threads when it ends; here it hangs in that very moment."""
    orphan = """
import pathlib, time
from stages.runtime import parent

class Hangs:
    def __del__(self):
        while True:
            time.sleep(1)

hangs = Hangs()
parent.exit_with_parent()
pathlib.Path("started").touch()
time.sleep(60)
"""
    starter = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {orphan!r}])"
    mark = str(tmp_path)
    started = subprocess.Popen(
        [sys.executable, "-c", starter],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), processes.MARK: mark},
        stderr=subprocess.DEVNULL,
    )
    assert processes.within(60, (tmp_path / "started").exists)
    started.send_signal(signal.SIGKILL)
    started.wait()
    assert len(processes.marked(mark)) == 1
    try:
        assert processes.within(60, lambda: not processes.marked(mark))
    finally:
        processes.end(mark)


@pytest.mark.programs
@pytest.mark.parametrize("after", [False, True])
def test_the_hook_of_the_benchmark_stops_one_process_at_the_moment(tmp_path, after):
    moment = replace(Moment("", "textwrap:shorten", "-c", call=2, mentions="two"), after=after)
    script = "import textwrap\nfor text in ('one', 'two', 'two', 'two'): print(textwrap.shorten(text, 9), flush=True)"
    environment = {**os.environ, **moment.environment(tmp_path)}
    stopped = subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True)
    assert processes.within(60, (tmp_path / "reached").exists)
    assert processes.within(60, lambda: (tmp_path / "reached").read_text())
    assert int((tmp_path / "reached").read_text()) == stopped.pid
    assert psutil.pid_exists(stopped.pid)
    assert [stopped.stdout.readline() for _ in range(2)] == ["one\n", "two\n"]
    (tmp_path / "go").touch()
    assert stopped.communicate(timeout=120)[0] == "two\ntwo\n"
    again = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60)
    assert again.stdout == "one\ntwo\ntwo\ntwo\n"
