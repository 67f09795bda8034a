"""Fixtures of all tests: the project's root, the data beside it, a valid `params.yaml` as a dict."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from ruamel.yaml import YAML

os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # there are more test processes than cores, so threads would slow each other down

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
LONG = ("test_end_to_end.py", "test_processes.py", "test_samples.py", "test_photographs.py", "test_machines.py")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In parallel runs, start the files that take a minute first, so that none is left for the end."""
    for item in items:
        if isinstance(item, pytest.Function) and "programs" in item.fixturenames:
            item.add_marker("programs")
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: item.path.name not in LONG)


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
def prefect_database(programs, tmp_path_factory) -> Path:
    """An empty database of Prefect, to copy into a home. Creating it takes 10 s, so all tests share one."""
    base = tmp_path_factory.getbasetemp()
    home = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "prefect"  # shared by all processes
    home.mkdir(exist_ok=True)
    with FileLock(home / "lock"):
        if not (home / "done").exists():
            environment = {**os.environ, "PREFECT_HOME": str(home)}
            command = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"]
            subprocess.run(command, env=environment, check=True, capture_output=True)
            (home / "done").touch()
    return home / "prefect.db"


@pytest.fixture
def small_params() -> dict:
    """The content of tests/params.yaml with few tiny images and one epoch; a new dict for every test."""
    content = YAML(typ="safe").load((ROOT / "tests" / "params.yaml").read_text(encoding="utf-8"))
    content["experiment"].update(seeds=[0], variants=["baseline", "alignformer"])
    content["experiment"].update(reference="baseline", highlight="alignformer")
    content["datasets"]["scenes"].update(image_size=64, image_counts={"train": 8, "val": 4, "testA": 4, "testB": 4})
    content["recipes"]["small"]["training"].update(epochs=1, batch_size=8)
    return content
