"""What the last lines of a `dvc` command that failed mean for the flow."""

import pytest

from pipelines.dvc.reproduce import LockedError, StageFailedError, StorageError, run
from stages.runtime.dvc_internals import is_chatter

LOCK = "ERROR: Unable to acquire lock. Most likely another DVC process is running or was terminated abruptly."
LATER = "ERROR: failed to reproduce 'train': Unable to acquire lock. Most likely another DVC process is running."


@pytest.mark.programs
@pytest.mark.parametrize(
    ("lines", "error", "last"),
    [
        ([LOCK], LockedError, "another DVC command works in this project"),
        ([LATER], LockedError, "another DVC command works in this project"),
        (["ERROR: 'data' is busy, it is being blocked by:", "  (PID 7): dvc repro"], LockedError, "(PID 7): dvc repro"),
        (["ERROR: Could not connect to the endpoint"], StorageError, "endpoint"),
        (["ERROR: failed to reproduce 'train'"], StageFailedError, "'train'"),
        (["a word of the stage: Unable to acquire lock"], StageFailedError, "acquire lock"),
    ],
)
def test_what_a_failed_command_means(tmp_path, lines, error, last):
    (tmp_path / "failing.py").write_text(f"print({chr(10).join(lines)!r})\nraise SystemExit(1)\n")
    said = []
    with pytest.raises(StageFailedError) as raised:
        run("dvc repro train", "failing", say=said.append, environment={"PYTHONPATH": str(tmp_path)})
    assert type(raised.value) is error and said == lines
    first, *_, final = str(raised.value).splitlines()
    assert first == "dvc repro train ended with code 1:" and final.endswith(last)


def test_a_lock_is_no_error_of_a_stage():
    assert is_chatter(LOCK) and is_chatter(LATER)
