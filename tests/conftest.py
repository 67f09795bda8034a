"""Fixtures of all tests: the project's root, the data beside it, a valid `params.yaml` as a dict."""

import gc
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from ruamel.yaml import YAML

from benchmarks.clones import tiny
from stages.runtime import kernels
from tests.project import Watched, clone

kernels.hold()
os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # there are more test processes than cores, so threads would slow each other down

gc.set_threshold(50_000, 10, 10)  # as in `stages.runtime.startup`: libraries make a million objects that stay

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
LONG = (
    *("test_end_to_end.py", "test_own_data.py", "test_machines.py", "test_no_calls_home.py", "test_sync.py"),
    *("test_processes.py", "test_report_check.py", "test_report.py", "test_schedule.py", "test_samples.py"),
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what starts programs. In parallel runs, start the longest files first, so that none is left for the end."""
    for item in items:
        if isinstance(item, pytest.Function) and "programs" in item.fixturenames:
            item.add_marker("programs")
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


def pytest_collection_finish() -> None:
    """Python need not look again and again at what all test files have imported."""
    gc.freeze()


unmarked: pytest.Item | None = None  # the test that runs, if it may start no program


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """A test that starts a server or a command needs the mark or the fixture `programs`: `make test-fast` omits it."""
    global unmarked
    unmarked = None if item.get_closest_marker("programs") else item
    try:
        return (yield)
    finally:
        unmarked = None


def _fail_what_starts_a_program(event: str, arguments: tuple) -> None:
    if event == "subprocess.Popen" and unmarked:
        program = Path(os.fsdecode(arguments[0])).name
        if (BIN / program).exists():
            pytest.fail(f"{unmarked.nodeid} starts {program}: it needs the mark `programs`", pytrace=False)


sys.addaudithook(_fail_what_starts_a_program)


@pytest.fixture(scope="module", autouse=True)
def prefect_lets_go() -> Iterator[None]:
    """Close Prefect's connection: its pings draw from `random`, with which a later test may train."""
    yield
    if "prefect.events.worker" in sys.modules:
        from prefect.events.worker import EventsWorker

        EventsWorker.drain_all(timeout=30)


@pytest.fixture(scope="session")
def programs() -> None:
    """For fixtures that start programs: every test that uses one gets the mark `programs`."""


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's root."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real photographs and expressions beside the project. Tests that need them are skipped if they are absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("../shared/data is absent: real photographs and expressions are no part of the project")
    return folder


@pytest.fixture(scope="session")
def once(tmp_path_factory) -> Callable[[str, Callable[[Path], object]], Path]:
    """A folder by its name, which all processes of this run share. It is filled for the first one that asks."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def folder(name: str, fill: Callable[[Path], object]) -> Path:
        path, done = shared / name, shared / f"{name}.done"
        with FileLock(shared / f"{name}.lock"):
            if not done.exists():
                shutil.rmtree(path, ignore_errors=True)
                path.mkdir()
                fill(path)
                done.touch()
        return path

    return folder


@pytest.fixture(scope="session")
def prefect_database(programs, once) -> Path:
    """An empty database of Prefect, to copy into a home. Creating it takes 10 s."""

    def create(home: Path) -> None:
        environment = {**os.environ, "PREFECT_HOME": str(home)}
        command = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"]
        subprocess.run(command, env=environment, check=True, capture_output=True)

    return once("prefect", create) / "prefect.db"


@pytest.fixture(scope="session")
def reproduced(programs, root, once) -> Watched:
    """The tiny experiment in a clone, after `dvc repro` and `dvc plots show`. Leave it as it is: work in a copy.

    In `repro.log` is what `dvc repro` printed.
    """

    def reproduce(folder: Path) -> None:
        watched = Watched(tiny(clone(root, folder / "project")), folder / "calls")
        (folder / "repro.log").write_text(watched.run(sys.executable, "-m", "dvc", "repro"))
        watched.run(sys.executable, "-m", "dvc", "plots", "show")

    folder = once("reproduced", reproduce)
    return Watched(folder / "project", folder / "calls")


@pytest.fixture
def small_params() -> dict:
    """The content of tests/params.yaml with few tiny images and one epoch; a new dict for every test."""
    content = YAML(typ="safe").load((ROOT / "tests" / "params.yaml").read_text(encoding="utf-8"))
    content["experiment"].update(seeds=[0], variants=["baseline", "alignformer"])
    content["experiment"].update(reference="baseline", highlight="alignformer")
    content["datasets"]["scenes"].update(image_size=64, image_counts={"train": 8, "val": 4, "testA": 4, "testB": 4})
    content["recipes"]["small"]["training"].update(epochs=1, batch_size=8)
    return content
