"""Whether anything has changed since the report was last found up to date; looking at it again takes much longer.

The signature is of path, size, inode and times of all that a check reads: code, parameters, outputs, report,
`dvc.lock`, installed packages, and whatever else it opened, as the images of a dataset. Where one of these differs, or
anything is odd, the check is made.
"""

import hashlib
import json
import os
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from stages.runtime import experiments, layout
from stages.runtime.atomic_write import atomic_write
from stages.runtime.params import Params

READ = ("models", "stages", "sources", "results", "reports")
FILES = ("dvc.yaml", "dvc.lock", "params.yaml")
FILES_OF_PROJECT = ("params.yaml", ".dvcignore", ".dvc/config", ".dvc/config.local")


def file() -> Path:
    """Where the signature of the last check is kept."""
    return layout.root() / ".dvc" / "tmp" / f"report.{experiments.current()}.json"


_opened: set[str] | None = None  # by the check that runs
_own: tuple[str, ...] = ()  # folders of DVC and git, which it need not remember


@contextmanager
def remembered(params: Params) -> Iterator[Callable[[str], None]]:
    """Watches what a check reads while the block runs; to be told at its end, where the report was found up to date."""
    global _opened, _own
    _listen()
    _own = (os.path.abspath(file().parent), os.path.abspath(layout.root() / ".git"))
    _opened, before = set(), _signature(params, [])

    def remember(looked: str) -> None:
        elsewhere = sorted(_opened or [])
        kept = file()
        if kept.parent.is_dir() and _signature(params, []) == before:
            content = {"signature": _signature(params, elsewhere), "elsewhere": elsewhere, "looked": looked}
            with suppress(OSError), atomic_write(kept) as path:
                path.write_text(json.dumps(content), encoding="utf-8")

    try:
        yield remember
    finally:
        _opened = None


@cache
def _listen() -> None:
    """Have Python tell which files it opens; nothing can end that."""
    not_ours = [os.path.join(place, "") for place in (sys.prefix, sys.base_prefix, "/proc", "/sys", "/dev")]

    def hear(event: str, arguments: tuple) -> None:
        if _opened is not None and event == "open" and isinstance(arguments[0], str):
            path = os.path.abspath(arguments[0])
            if not path.startswith((*not_ours, *_own)):
                _opened.add(path)

    sys.addaudithook(hear)


def earlier(params: Params) -> str | None:
    """What was looked at when the report was found up to date, where nothing has changed since; else None."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        memory = json.loads(file().read_text(encoding="utf-8"))
        if memory["signature"] == _signature(params, memory["elsewhere"]):
            return str(memory["looked"])
    return None


def _signature(params: Params, elsewhere: Iterable[str]) -> str:
    packages = sorted(name for name in os.listdir(sysconfig.get_path("purelib")) if name.endswith(".dist-info"))
    roots = [*READ, *map(str, map(layout.prepared, params.experiment.datasets))]
    of_project = [str(layout.root() / name) for name in FILES_OF_PROJECT]
    files = sorted({path for root in roots for path in _files(root)} | {*FILES, *of_project, *elsewhere})
    seen = [
        sys.version,
        sys.prefix,
        os.getcwd(),
        packages,
        experiments.links(),
        *((path, _state(path)) for path in files),
    ]
    return hashlib.sha256(json.dumps(seen).encode()).hexdigest()


def _files(root: str) -> Iterator[str]:
    if os.path.isfile(root):
        yield root
    for folder, inner, names in os.walk(root, followlinks=True):
        inner[:] = [name for name in inner if name != "__pycache__"]
        yield from (os.path.join(folder, name) for name in names)


def _state(path: str) -> list[int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return [found.st_size, found.st_ino, found.st_mtime_ns, found.st_ctime_ns]
