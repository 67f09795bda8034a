"""Make a process wait at one place in its code, so that a fault can be injected at exactly that moment.

Python imports this file at the start of every process with this folder on PYTHONPATH. FAULTS_AT holds a
`benchmarks.faults.moments.Moment` as JSON. The first process that reaches the place writes its id to `reached` and
waits until `go` exists; no later process waits there.
"""

import functools
import json
import os
import sys
import time
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import PathFinder

PATIENCE = 300  # seconds


def _is_meant(at: dict) -> bool:
    """Whether this process is the one that waits. Asked at the place: a stage is forked from a process of others."""
    return at["process"] in " ".join(sys.orig_argv)


def _wait_here(at: dict) -> None:
    try:
        descriptor = os.open(at["reached"], os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
        return
    os.write(descriptor, str(os.getpid()).encode())
    os.close(descriptor)
    end = time.monotonic() + PATIENCE
    while not os.path.exists(at["go"]) and time.monotonic() < end:
        time.sleep(0.02)


def _wrap(module, at: dict) -> None:
    """Replace the function at the place by one that waits. Do nothing if the place names no function."""
    if name := at["place"].split(":")[1]:
        *owners, last = name.split(".")
        owner = functools.reduce(getattr, owners, module)
        setattr(owner, last, _stopping(getattr(owner, last), at))


def _stopping(function, at: dict):
    calls = 0

    @functools.wraps(function)
    def wrapped(*arguments, **named):
        nonlocal calls
        mentioned = not at["mentions"] or any(at["mentions"] in _shown(item) for item in (*arguments, *named.values()))
        counts = mentioned and _is_meant(at)
        calls += counts
        due = counts and calls == at["call"]
        if due and not at["after"]:
            _wait_here(at)
        result = function(*arguments, **named)
        if due and at["after"]:
            _wait_here(at)
        return result

    return wrapped


def _shown(argument: object) -> str:
    """An argument as text; a file as its name."""
    return str(getattr(argument, "name", argument))


class _Loader(Loader):
    """Loads the module, then wraps its function; if the place names no function, waits before the module runs."""

    def __init__(self, loader: Loader, at: dict):
        self.loader, self.at = loader, at

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module) -> None:
        if self.at["place"].endswith(":") and _is_meant(self.at):
            _wait_here(self.at)
        self.loader.exec_module(module)
        _wrap(module, self.at)

    def __getattr__(self, name: str):
        return getattr(self.loader, name)


class _Finder(MetaPathFinder):
    def __init__(self, at: dict):
        self.at = at

    def find_spec(self, name, path=None, target=None):
        if name != self.at["place"].split(":")[0]:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec:
            spec.loader = _Loader(spec.loader, self.at)
        return spec


if "FAULTS_AT" in os.environ:
    _at = json.loads(os.environ["FAULTS_AT"])
    if _loaded := sys.modules.get(_at["place"].split(":")[0]):
        _wrap(_loaded, _at)
    else:
        sys.meta_path.insert(0, _Finder(_at))
