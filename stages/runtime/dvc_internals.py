"""Everything of DVC that it does not promise to keep: its Python modules, its files, and the words that it prints.

No other module imports `dvc` or `dvc_data`, or looks for words in what DVC prints. After an upgrade of DVC,
`tests/stages/runtime/test_dvc_internals.py` names each thing that has moved.

Every import of DVC is inside a function: DVC takes a second to import, and few processes need it.
"""

import errno
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from stages.runtime import merge_conflicts
from stages.runtime.atomic_write import atomic_write
from stages.runtime.errors import UserError

if TYPE_CHECKING:
    from dvc.lock import Lock, LockError
    from dvc.repo import Repo
    from dvc.stage import PipelineStage

RWLOCK = Path(".dvc/tmp/rwlock")  # JSON: which process reads or writes which path

# Words in a line of `dvc`.
SKIPPED = "didn't change, skipping"
CACHED = "is cached - skipping run"
CHATTER = (  # begin a line of `dvc repro` that says what the flow says itself, or how to use git and DVC by hand
    "Running stage '",
    "> ",
    "Stage '",
    "Verifying data sources",
    "Generating lock file '",
    "Updating lock file '",
    "To track the changes with git",
    "\tgit add ",
    "To enable auto staging",
    "\tdvc config core.autostage",
    "Use `dvc push`",
    "Everything is up to date.",
    "Data and pipelines are up to date.",
)
ERROR = "ERROR"  # begins the line of an error
LOCKED = "Unable to acquire lock"  # in such a line
BUSY = "is busy, it is being blocked by"  # in a line that names a path; the next ones name processes
WAITS = "waits: another DVC command works in this project"  # what `command_line` prints after `SILENCE`
SILENCE = 5  # seconds
HELD = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES)  # what `flock` says of a lock that another process holds
UNREACHABLE = (  # in such a line; from the libraries of DVC's remotes
    "Could not connect",
    "Connect timeout",
    "Cannot connect to host",
    "Connection refused",
    "Read timeout",
    "Connection was closed before",
    "(reached max retries",  # botocore, about an answer that may be different next time: 500, 503, SlowDown
)


class DvcError(UserError):
    """DVC refused; the message is DVC's own, but for what it cannot know."""


class DvcStage(NamedTuple):
    """One stage of `dvc.yaml`, as things are.

    Attributes:
        needs: the stages that it waits for.
        unchanged: `dvc repro` would skip it.
        outputs: of a stage that is `always_changed`: path -> hash, where its outputs lie there as `dvc.lock` records
            them. None where they do not, and for every other stage.
        command: of every stage that is `always_changed`.
    """

    name: str
    needs: list[str]
    unchanged: bool = False
    outputs: dict[str, str] | None = None
    command: str | None = None


class WorkingTree:
    """The files of the project in the current folder, as DVC sees them."""

    def __init__(self, repo: "Repo"):
        self._repo = repo

    def hash(self, path: str) -> str | None:
        """The hash that `dvc.lock` would record for a file or a folder; None where nothing is there."""
        from dvc.fs import localfs
        from dvc_data.hashfile.build import build

        cache, place = self._repo.cache.local, os.path.abspath(path)
        with _refusals():
            try:
                ignore: Any = self._repo.dvcignore  # DVC passes it itself; its type says otherwise
                _, _, found = build(cache, place, localfs, "md5", dry_run=True, ignore=ignore)
            except FileNotFoundError:
                return None
        return found.hash_info.value

    def is_cached(self, md5: str) -> bool:
        """Whether DVC's cache has what has this hash."""
        return self._repo.cache.local.exists(md5)


@contextmanager
def _refusals() -> Iterator[None]:
    from dvc.exceptions import DvcException

    try:
        yield
    except DvcException as error:
        raise DvcError(str(error)) from error


@contextmanager
def _project() -> Iterator["Repo"]:
    """The project in the current folder. Raises DvcError."""
    from dvc.repo import Repo
    from dvc.scm import SCMError

    with _refusals():
        try:
            opened = Repo()
        except SCMError as error:
            way_out = "`git init` makes it one, or `dvc config --local core.no_scm true` has DVC do without git"
            raise DvcError(f"{error}: {way_out}") from error
        with opened as repo:
            yield repo


def is_chatter(line: str) -> bool:
    """Whether a line of `dvc` is neither of the stage that it runs nor a warning or an error that ends it."""
    return line.startswith(CHATTER) or is_locked(line)


def is_locked(line: str) -> bool:
    """Whether a line of `dvc` says that another process holds the project's lock."""
    return line.startswith(ERROR) and LOCKED in line


def command_line() -> int:
    """DVC's command line, with the arguments of this process; its exit code.

    It waits for a lock that another process holds, and after `SILENCE` says so. DVC itself gives up after 3 s: when it
    has run a stage, that would have to run again.
    """
    from dvc import dvcfile, lock
    from dvc.cli import main
    from dvc.utils.serialize import modify_yaml

    def modified(path: str, fs: Any = None) -> AbstractContextManager[dict]:
        return (_modified if dvcfile.is_lock_file(path) else modify_yaml)(path, fs)

    dvcfile.modify_yaml = modified
    lock.Lock.lock = _take
    return main()


def _take(self: "Lock", says: bool = True) -> None:
    """DVC's `Lock.lock`, for as long as it takes. The holder of the project's lock reads or writes `dvc.lock`.

    Raises:
        LockError: nobody holds the lock, but the file system has no such locks.
    """
    from dvc.lock import LockError

    quiet_until = time.monotonic() + SILENCE if says else math.inf
    while True:
        try:
            return self._do_lock()
        except LockError as error:
            if why := _no_locks(error):
                raise LockError(
                    f"{self.lockfile} cannot be locked: {why}. Where the file system has no flock, DVC locks by hard "
                    "links: run dvc config --local core.hardlink_lock true, and remove this file"
                ) from None  # DVC prints a cause too, whose words are those of a lock that is held
            if time.monotonic() > quiet_until:
                print(WAITS, flush=True)
                quiet_until = math.inf
            time.sleep(0.1)


def _no_locks(error: "LockError") -> str | None:
    """Why a file cannot be locked at all; None where another process holds the lock. DVC says the same of both."""
    cause: BaseException | None = error
    while cause and not isinstance(cause, OSError):
        cause = cause.__context__
    return None if cause is None or cause.errno in HELD else cause.strerror or str(cause)


@contextmanager
def _modified(path: str, fs: Any = None) -> Iterator[dict]:
    """DVC's `modify_yaml` without what keeps comments, which `dvc.lock` has none of: a quarter of the time."""
    from dvc.utils.serialize import dump_yaml, load_yaml

    content = load_yaml(path, fs) if Path(path).exists() else {}
    yield content
    dump_yaml(path, content, fs)


def stages(look: bool = False) -> list[DvcStage]:
    """Every stage of the `dvc.yaml` in the current folder, in the order of `dvc repro`: each after those it waits for.

    Args:
        look: also say what is unchanged; otherwise, and where another DVC process is at work on the files of a stage,
            none is.

    Raises:
        DvcError: there is no DVC project, or its files are wrong.
    """
    from dvc.dvcfile import PROJECT_FILE
    from dvc.exceptions import DvcException
    from dvc.repo.index import Index
    from dvc.repo.reproduce import plan_repro

    with _project() as repo, ExitStack() as held:
        if look:
            with suppress(DvcException):
                held.enter_context(repo.lock)  # before dvc.lock is read, which another process may just be writing
        graph = Index.from_file(repo, os.path.abspath(PROJECT_FILE)).graph
        found = {stage: DvcStage(stage.name, _names(graph.successors(stage))) for stage in plan_repro(graph)}
        if look and repo.lock.is_locked:
            _read_once(found)
            found = {stage: _looked_at(stage, known) for stage, known in found.items()}
        return list(found.values())


def _names(needed: Iterable["PipelineStage"]) -> list[str]:
    return sorted(str(stage.name) for stage in needed)


def _read_once(stages: Iterable["PipelineStage"]) -> None:
    """Have DVC read each file or folder once for all stages: it would hash the dataset again for each that needs it."""
    from dvc.dependency import ParamsDependency

    def once(read: Callable, *of) -> Callable:
        return lambda: known[of] if of in known else known.setdefault(of, read())

    known: dict[tuple, Any] = {}
    for item in chain.from_iterable((*stage.deps, *stage.outs) for stage in stages):
        if isinstance(item, ParamsDependency):
            item.read_params = once(item.read_params, item.fs_path, *item.params)
        else:
            item.get_hash = once(item.get_hash, item.fs_path)


def _looked_at(stage: "PipelineStage", known: DvcStage) -> DvcStage:
    from dvc.exceptions import DvcException

    with suppress(DvcException):
        if not stage.always_changed:
            return known._replace(unchanged=not stage.changed())
        known = known._replace(command="\n".join([stage.cmd] if isinstance(stage.cmd, str) else stage.cmd or []))
        if not any(output.workspace_status() for output in stage.outs):
            outputs = {output.def_path: output.hash_info.value for output in stage.outs if output.hash_info}
            return known._replace(outputs=outputs)
    return known


def lock_entry(stage: str, folder: Path = Path()) -> dict:
    """Command, dependencies and parameters of a stage, as DVC would write them into the `dvc.lock` of a folder now.

    Reads only; DVC's cache of hashes makes this about 0.3 s.

    Raises:
        DvcError: there is no DVC project, or no such stage.
    """
    from dvc.dvcfile import PROJECT_FILE, load_file
    from dvc.stage.loader import StageLoader
    from dvc.stage.serialize import to_single_stage_lockfile

    with _project() as repo:
        file: Any = load_file(repo, os.path.abspath(folder / PROJECT_FILE))
        loaded = StageLoader(file, file.contents)[stage]  # without dvc.lock, which takes longer to read than the rest
        loaded.outs.clear()
        loaded.save_deps()
        return _plain(to_single_stage_lockfile(loaded))


def changed_outputs(stage: str) -> dict[str, str]:
    """Path -> `deleted`, `modified` or `new`, for the outputs of a stage that are not as `dvc.lock` records them.

    Raises:
        DvcError: there is no DVC project, or no such stage.
    """
    with _project() as repo:
        outputs = repo.stage.load_one(name=stage).outs
        return {path: state for output in outputs for path, state in output.workspace_status().items()}


@contextmanager
def working_tree() -> Iterator[WorkingTree]:
    """The working tree of the project in the current folder. Raises DvcError where there is none."""
    with _project() as repo:
        yield WorkingTree(repo)


def default_remote(levels: Sequence[str] = ("local", "repo")) -> str | None:
    """Name of the default DVC remote that the settings of the clone in the current folder name; None where they do not.

    Args:
        levels: of DVC's settings, the first that names one counts: `.dvc/config.local`, `.dvc/config`; `global` and
            `system` are those of the user and of the machine.
    """
    from dvc.config import Config

    with _refusals():
        settings = Config.from_cwd()
        known: list[Any] = [settings.load_one(level) for level in levels if level in settings.files]
        return next(filter(None, (each["core"].get("remote") for each in known)), None)


def read_yaml(path: Path) -> Any:
    """A file as DVC reads it, which is YAML 1.2: `no` is a string. Raises DvcError where it is not YAML."""
    from dvc.utils.serialize import load_yaml

    if conflict := merge_conflicts.named(path):
        raise DvcError(conflict)
    with _refusals():
        return _plain(load_yaml(path))


def is_lock_file(path: Path) -> bool:
    """Whether DVC would accept a file as `dvc.lock`, and the file is whole: half a hash is accepted too."""
    from dvc.exceptions import DvcException
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from dvc.utils.serialize import load_yaml
    from voluptuous import Invalid

    if not path.read_bytes().endswith(b"\n"):
        return False
    try:
        COMPILED_LOCKFILE_SCHEMA(load_yaml(path))
    except (DvcException, Invalid):
        return False
    return True


def sort_lock_file(path: Path, order: Iterable[str]) -> None:
    """Put the entries of `dvc.lock` into an order; nothing where another DVC process holds the project's lock."""
    from dvc.lock import LockError
    from dvc.repo import Repo
    from dvc.utils.serialize import dump_yaml, load_yaml

    places = {stage: place for place, stage in enumerate(order)}
    with _refusals(), suppress(LockError), Repo() as repo, repo.lock:
        if not path.exists():
            return
        content = load_yaml(path)
        entries = content["stages"]
        content["stages"] = dict(sorted(entries.items(), key=lambda item: places.get(item[0], len(places))))
        if list(content["stages"]) != list(entries):
            with atomic_write(path) as new:
                dump_yaml(new, content)


@contextmanager
def files_held() -> Iterator[None]:
    """No DVC process writes `dvc.lock` or `RWLOCK` while the block runs; waits where one is just doing so.

    Raises:
        DvcError: the file system has no such locks; the message says how DVC does without.
    """
    from dvc.config import Config
    from dvc.lock import Lock, make_lock
    from dvc.rwlock import RWLOCK_LOCK

    RWLOCK.parent.mkdir(parents=True, exist_ok=True)  # a new clone has none
    with ExitStack() as held:
        with _refusals():
            by_links = Config.from_cwd()["core"].get("hardlink_lock", False)
            for name in ("lock", RWLOCK_LOCK):
                place = str(RWLOCK.with_name(name))
                lock = make_lock(place, str(RWLOCK.parent), hardlink_lock=by_links, wait=True)
                if isinstance(lock, Lock):
                    _take(lock, says=False)
                else:
                    lock.lock()
                held.callback(lock.unlock)
        yield


def holders(rwlock: Path = RWLOCK) -> list[dict]:
    """`pid` and `cmd` of the processes in DVC's list of who uses which path.

    Raises:
        FileNotFoundError, ValueError: there is no such file, or it is cut off.
    """
    held = json.loads(rwlock.read_text(encoding="utf-8"))
    return [*held.get("write", {}).values(), *chain(*held.get("read", {}).values())]


def _plain(content: Any) -> Any:
    """The same as dicts, lists, strings and numbers, without what DVC's YAML loader knows of comments and layout."""
    return json.loads(json.dumps(content))
