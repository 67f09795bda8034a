"""Nothing of the project connects, sends, looks a name up or listens beyond loopback: refused and written down."""

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from benchmarks import servers
from benchmarks.clones import ENVIRONMENT, tiny
from benchmarks.servers import free_port
from tests.project import clone

PYTHON_M = (sys.executable, "-m")


class Watched:
    """A clone whose processes may use loopback alone."""

    def __init__(self, folder: Path, log: Path):
        self.folder, self.log = folder, log
        log.mkdir()
        path = os.pathsep.join(filter(None, (str(Path(__file__).with_name("loopback")), os.environ.get("PYTHONPATH"))))
        own = {name: value for name, value in ENVIRONMENT.items() if not name.startswith(("PREFECT_API", "MLFLOW_"))}
        self.environment = {**own, "PYTHONPATH": path, "LOOPBACK_LOG": str(log)}

    def run(self, *command: str) -> str:
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=400
        )
        assert done.returncode == 0, f"{command} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def running(self, *command: str, url: str):
        """A server, from when it answers."""
        return servers.running(url, list(command), self.environment, self.log.with_name("server.log"), cwd=self.folder)

    def tried(self, *needed: str) -> list[str]:
        """What was refused so far; each of the needed words is in the command of a process that was watched."""
        said = [file.read_text().splitlines() for file in self.log.iterdir()]
        for words in needed:
            assert any(words in lines[0] for lines in said), f"no process {words!r} was watched"
        return [f"{lines[0]}: {call}" for lines in said for call in lines[1:]]


@pytest.fixture(scope="module")
def watched(root, tmp_path_factory):
    return Watched(tiny(clone(root, tmp_path_factory.mktemp("project"))), tmp_path_factory.mktemp("log") / "calls")


def test_the_hook_sees_and_refuses(tmp_path):
    watched = Watched(tmp_path, tmp_path / "calls")
    script = """
import socket, urllib.request
for call in (
    lambda: socket.create_connection(("192.0.2.1", 80), timeout=1),
    lambda: urllib.request.urlopen("http://example.invalid", timeout=1),
    lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.1", 53)),
    lambda: socket.create_server(("", 0)),
    lambda: socket.gethostbyname("example.invalid"),
):
    try:
        call()
    except OSError:
        pass
    else:
        raise AssertionError("not refused")
with socket.create_server(("127.0.0.1", 0)) as server:
    socket.create_connection(server.getsockname()).close()
"""
    watched.run(sys.executable, "-c", script)
    assert len(watched.tried()) == 5


def test_dvc_repro(watched):
    watched.run(*PYTHON_M, "dvc", "repro", "evaluate@scenes-baseline-0")
    assert watched.tried("dvc repro", "stages.prepare", "stages.train", "stages.evaluate") == []


def test_a_flow_and_a_sync(watched):
    watched.run(*PYTHON_M, "pipelines.experiment", "diagnose@scenes-baseline-0")
    watched.run(*PYTHON_M, "pipelines.sync")
    assert (
        watched.tried("pipelines.experiment", "pipelines.prefect.server", "pipelines.dvc", "stages.diagnose", "sync")
        == []
    )


def test_the_ui_of_mlflow(watched):
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    store = ("--backend-store-uri", "sqlite:///mlflow.db", "--host", "127.0.0.1")
    with watched.running(*PYTHON_M, "mlflow", "ui", *store, "--port", str(port), "--workers", "1", url=url):
        assert "<html" in httpx.get(url).text
        found = httpx.get(f"{url}/api/2.0/mlflow/experiments/search", params={"max_results": 5}).json()
        assert "alignformer" in {experiment["name"] for experiment in found["experiments"]}
    assert watched.tried("mlflow ui", "mlflow.server") == []


def test_the_ui_of_prefect(watched):
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with watched.running(*PYTHON_M, "prefect", "server", "start", "--port", str(port), url=f"{url}/api/health"):
        assert "<html" in httpx.get(url, follow_redirects=True).text
        found = httpx.post(f"{url}/api/flow_runs/filter", json={"limit": 5}).json()
        assert [run["state"]["type"] for run in found] == ["COMPLETED"]
    assert watched.tried("prefect server start", "uvicorn") == []
