"""An output is there whole or not at all."""

import os
import signal
import subprocess
import sys

import pytest

from stages.runtime.atomic_write import atomic_write


@pytest.fixture(params=["file", "folder"])
def output(request, tmp_path):
    """Path, how it is written, how it is read."""
    if request.param == "file":
        return tmp_path / "a" / "table.csv", lambda path, text: path.write_text(text), lambda path: path.read_text()

    def write(path, text):
        path.mkdir()
        (path / "inner").write_text(text)

    return tmp_path / "a" / "model", write, lambda path: (path / "inner").read_text()


def test_it_replaces_what_was_there(output):
    path, write, read = output
    for text in ("first", "second"):
        with atomic_write(path) as partial:
            write(partial, text)
        assert read(path) == text
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_leaves_what_was_there(output):
    path, write, read = output
    with atomic_write(path) as partial:
        write(partial, "first")
    with pytest.raises(OSError, match="full"), atomic_write(path) as partial:
        write(partial, "second")
        raise OSError("full")
    assert read(path) == "first" and list(path.parent.iterdir()) == [path]


@pytest.mark.programs
def test_a_kill_leaves_a_rest_that_dvc_ignores_and_the_next_writer_removes(output, root):
    path, write, read = output
    killed = f"""
import os, signal
from pathlib import Path
from stages.runtime.atomic_write import atomic_write
with atomic_write(Path({str(path)!r})) as partial:
    partial.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", killed], env={**os.environ, "PYTHONPATH": str(root)})
    assert done.returncode == -signal.SIGKILL
    (rest,) = path.parent.iterdir()
    ignored = subprocess.run(
        [sys.executable, "-m", "dvc", "check-ignore", f"results/{rest.name}"], cwd=root, capture_output=True, text=True
    )
    assert ignored.stdout.strip() == f"results/{rest.name}"
    with atomic_write(path) as partial:
        write(partial, "whole")
    assert read(path) == "whole" and list(path.parent.iterdir()) == [path]
