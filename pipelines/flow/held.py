"""The experiments that a flow works on, and their parameters, which nobody changes meanwhile.

A flow shares the lock of each of its experiments, and `--set` needs that lock alone while it writes.
"""

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from pipelines.dvc import stage_name
from pipelines.flow import param_overrides
from pipelines.flow.param_overrides import OverrideError
from stages.runtime import experiments, layout, params
from stages.runtime.atomic_write import atomic_write
from stages.runtime.experiments import DEFAULT

LOCKS = Path(".dvc/tmp")
ANEW = "# Made anew by every run with `--as {}`. Delete this line to keep what you edit here."

Say = Callable[[str], None]


class _Change(NamedTuple):
    """A new text of an experiment's `params.yaml`, and one line for each thing that it changes."""

    text: str
    lines: list[str]


def chosen(wanted: Sequence[str], targets: Sequence[str]) -> list[str]:
    """The experiments to work on, each once: those that are wanted, or else those that the targets name.

    Raises:
        ExperimentError: one of them does not exist.
    """
    found = list(dict.fromkeys(wanted or [stage_name.split(target)[0] for target in targets] or [DEFAULT]))
    for name in found:
        experiments.check(name)
    return found


@contextmanager
def held(names: Sequence[str], overrides: Sequence[str], save_as: str | None, say: Say) -> Iterator[list[str]]:
    """Hold experiments for a flow, with the overrides in `params.yaml`, and with the project's DAG and code.

    The current folder is the project's.

    Args:
        save_as: the experiment that is made of the one named, or made anew, and gets the overrides.
        say: gets one line for each change.

    Yields:
        The experiments to run: those named, or the one that was made.

    Raises:
        OverrideError: a key or a value is wrong, or the file must not be changed, since a flow works on the experiment
            or a user has edited it.
        ExperimentError: an experiment does not exist, or its name cannot be used.
        ParamsError: the parameters of one are wrong.
    """
    if len(names) > 1 and (overrides or save_as):
        raise OverrideError(f"--set and --as change one experiment, but {len(names)} are named: {', '.join(names)}")
    LOCKS.mkdir(parents=True, exist_ok=True)
    with ExitStack() as locks:
        if save_as:
            experiments.check_new(save_as)
            _hold(locks, save_as, lambda: _made(names[0], save_as, overrides), experiments.make, say)
        else:
            for name in names:
                _hold(locks, name, lambda name=name: _changed(name, overrides), _write, say)
        to_run = [save_as] if save_as else list(names)
        for name in to_run:
            if _file(name).exists():
                params.read(_file(name))  # before DVC sees it: a broken one would stop every plain `dvc` command
            if changed := experiments.bring_into_step(name):
                say(f"{experiments.folder(name)}: {', '.join(changed)} brought into step with the project's")
        yield to_run


def _hold(
    locks: ExitStack, name: str, change: Callable[[], _Change | None], write: Callable[[str, str], None], say: Say
) -> None:
    """Share the lock of an experiment, whose `params.yaml` is then as wanted, until the stack is closed."""
    lock = locks.enter_context((LOCKS / f"experiment.{name}.lock").open("w"))  # closed, also by kill -9, is unlocked
    fcntl.flock(lock, fcntl.LOCK_SH)
    while change():
        _take_alone(lock, name)
        if new := change():  # still: no other flow was just doing the same
            write(name, new.text)
            for line in new.lines:
                say(line)
        fcntl.flock(lock, fcntl.LOCK_SH)


def _take_alone(lock: IO, name: str) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OverrideError(
            f"another flow works on experiment {name}, and its {_file(name)} would change meanwhile: wait for the end "
            "of that flow, or name another experiment with --as"
        ) from None


def _changed(name: str, overrides: Sequence[str]) -> _Change | None:
    if not overrides:
        return None
    file = _file(name)
    changes, text = param_overrides.spliced(param_overrides.read(file), overrides, file)
    return _Change(text, [f"{file}, for good: {change}" for change in changes]) if changes else None


def _made(model: str, name: str, overrides: Sequence[str]) -> _Change | None:
    if model == name:
        raise OverrideError(f"--as {name}: this is the experiment itself; --set without --as changes it for good")
    file, mark = _file(name), ANEW.format(name)
    changes, text = param_overrides.spliced(f"{mark}\n{experiments.text_from(model, name)}", overrides, file)
    before = param_overrides.read(file) if file.exists() else None
    if before == text:
        return None
    if before is not None and before.splitlines()[:1] != [mark]:
        raise OverrideError(f"--as {name}: {file} is not one that --as made, or is kept as edited: use another name")
    made = f"{file}: made{' anew' if before else ''} of experiment {model}"
    return _Change(text, [made, *(f"{file}: {change}" for change in changes)])


def _file(name: str) -> Path:
    return experiments.folder(name) / layout.PARAMS


def _write(name: str, text: str) -> None:
    """On the disk, before anything is computed from it."""
    path = _file(name).resolve()
    with atomic_write(path) as partial, partial.open("w", encoding="utf-8", newline="") as new:
        new.write(text)
        new.flush()
        os.fsync(new.fileno())
        if path.exists():
            os.chmod(partial, path.stat().st_mode)
