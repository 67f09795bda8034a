"""Nothing of the project connects, sends, looks a name up or listens beyond loopback: refused and written down.

Every page that it serves or writes is opened in headless Chromium, which may ask this machine alone. That of the demo
is in tests/stages/demo.
"""

import shutil
import sys
from contextlib import AbstractContextManager
from urllib.parse import urlsplit

import httpx
import pytest

from benchmarks import servers
from benchmarks.servers import free_port
from stages.runtime import layout
from tests.browser import chromium
from tests.project import Watched

pytestmark = pytest.mark.programs

PYTHON_M = (sys.executable, "-m")


class Pages:
    """A tab of headless Chromium. `asked` has every request of its pages that would leave this machine.

    Requests of frames and workers are among them.
    """

    def __init__(self, browser):
        self.asked: list[str] = []
        context = browser.new_context()
        context.set_default_timeout(120_000)
        context.on("request", lambda request: self._note(request.url))
        self.tab = context.new_page()
        self.tab.on("websocket", lambda socket: self._note(socket.url))

    def _note(self, url: str) -> None:
        if urlsplit(url).hostname not in ("127.0.0.1", None):  # None: file, data and blob
            self.asked.append(url)

    def asked_by(self, url: str, shows: str) -> list[str]:
        """What a page asks of others until a second after a selector finds something: reports on the user begin late.

        What it shows must not stand on the page before: where only the fragment of the URL is new, that stays a while.
        """
        self.asked.clear()
        self.tab.goto(url)
        self.tab.locator(shows).first.wait_for()
        self.tab.wait_for_timeout(1000)
        return self.asked


@pytest.fixture(scope="module")
def pages():
    away = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"  # what leaves is noted, and fails
    with chromium(away) as browser:
        yield Pages(browser)


@pytest.fixture(scope="module")
def watched(reproduced, prefect_database, tmp_path_factory) -> Watched:
    folder = tmp_path_factory.mktemp("watched")
    watched = Watched(reproduced.copied_to(folder / "project"), folder / "calls")
    (watched.folder / ".prefect").mkdir()
    shutil.copy(prefect_database, watched.folder / ".prefect")
    return watched


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


def test_the_browser_notes_what_would_leave(pages, tmp_path):
    page = tmp_path / "page.html"
    page.write_text("""<!DOCTYPE html><meta charset="utf-8">
<link rel="stylesheet" href="https://style.invalid/a.css">
<img src="https://image.invalid/a.png"><iframe src="https://frame.invalid/"></iframe>
<script src="https://script.invalid/a.js"></script>
<script>
fetch("https://fetch.invalid/").catch(() => 0);
navigator.sendBeacon("https://beacon.invalid/", "x");
new WebSocket("wss://socket.invalid/");
new Worker(URL.createObjectURL(new Blob(['fetch("https://worker.invalid/")'])));
</script>
<p>shown""")
    kinds = ("style", "image", "frame", "script", "fetch", "beacon", "socket", "worker")
    expected = {f"{kind}.invalid" for kind in kinds}
    pages.asked_by(page.as_uri(), "text=shown")
    for _ in range(600):
        if expected <= (found := {urlsplit(url).hostname for url in pages.asked}):
            break
        pages.tab.wait_for_timeout(100)
    assert found == expected


def test_dvc_repro(reproduced):
    names = ("prepare", "train", "evaluate", "diagnose", "card", "score", "ablate", "report")
    stages = (f"stages.{name}" for name in names)
    assert reproduced.tried("dvc repro", "dvc plots", *stages) == []


def test_a_flow_and_a_sync(watched):
    with (watched.folder / "stages/card/card.py").open("a") as code:
        code.write("\n# another")
    watched.run(*PYTHON_M, "pipelines.experiment", "card@scenes-baseline-0")
    watched.run(*PYTHON_M, "pipelines.sync")
    assert (
        watched.tried("pipelines.experiment", "pipelines.prefect.server", "pipelines.dvc", "stages.card", "sync") == []
    )


def running(watched: Watched, *command: str, url: str) -> AbstractContextManager:
    """A server, from when it answers."""
    log = watched.log.with_name("server.log")
    return servers.running(url, list(command), watched.environment, log, cwd=watched.folder)


@pytest.fixture(scope="module")
def mlflow_url(watched):
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    store = ("--backend-store-uri", "sqlite:///mlflow.db", "--host", "127.0.0.1")
    with running(watched, *PYTHON_M, "mlflow", "ui", *store, "--port", str(port), "--workers", "1", url=url):
        yield url


@pytest.fixture(scope="module")
def prefect_url(watched):
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    watched.environment["PREFECT_SERVER_UI_API_URL"] = f"{url}/api"  # what its page asks
    with running(watched, *PYTHON_M, "prefect", "server", "start", "--port", str(port), url=f"{url}/api/health"):
        yield url


def test_the_server_of_mlflow(watched, mlflow_url):
    assert "<html" in httpx.get(mlflow_url).text
    found = httpx.get(f"{mlflow_url}/api/2.0/mlflow/experiments/search", params={"max_results": 5}).json()
    assert "alignformer" in {experiment["name"] for experiment in found["experiments"]}
    assert watched.tried("mlflow ui", "mlflow.server") == []


def test_the_pages_of_mlflow(watched, mlflow_url, pages):
    address = f"{mlflow_url}/api/2.0/mlflow"
    found = httpx.get(f"{address}/experiments/get-by-name", params={"experiment_name": "alignformer"}).json()
    experiment = found["experiment"]["experiment_id"]
    runs = httpx.post(f"{address}/runs/search", json={"experiment_ids": [experiment]}).json()["runs"]
    (run,) = [run["info"]["run_id"] for run in runs if run["info"]["run_name"] == "baseline-0"]
    of_run = f"#/experiments/{experiment}/runs/{run}"
    for page, shows in {
        "": "text=alignformer",
        of_run: "text=baseline-0",
        "#/models": "text=Registered Models",
        f"{of_run}/artifacts": "text=baseline-0",
        f"#/experiments/{experiment}/runs": "text=scenes small",
        f"{of_run}/model-metrics": "text=Pr_0.5",
    }.items():
        assert pages.asked_by(f"{mlflow_url}/{page}", shows) == []
    assert watched.tried("mlflow ui") == []


def test_the_server_of_prefect(watched, prefect_url):
    assert "<html" in httpx.get(prefect_url, follow_redirects=True).text
    answers = {
        kind: httpx.post(f"{prefect_url}/api/{kind}/filter", json={"limit": 5})
        for kind in ("flows", "flow_runs", "task_runs", "deployments")
    }
    assert {answer.status_code for answer in answers.values()} == {200}
    assert [run["state"]["type"] for run in answers["flow_runs"].json()] == ["COMPLETED"]
    assert watched.tried("prefect server start", "uvicorn") == []


def test_the_pages_of_prefect(watched, prefect_url, pages):
    (run,) = httpx.post(f"{prefect_url}/api/flow_runs/filter", json={"limit": 5}).json()
    for page, shows in {
        "": "text=Flow Runs",
        "runs": f"text={run['name']}",
        f"runs/flow-run/{run['id']}": f"text={run['name']}",
        "flows": "text=experiment",
        "deployments": "text=Deployments",
        "artifacts": "text=Artifacts",
        "concurrency-limits": "text=Concurrency",
        "settings": "text=Settings",
    }.items():
        assert pages.asked_by(f"{prefect_url}/{page}", shows) == []
    assert watched.tried("prefect server start") == []


def test_the_page_of_the_plots_is_drawn_offline(reproduced, pages):
    assert pages.asked_by((reproduced.folder / "dvc_plots" / "index.html").as_uri(), "canvas:visible") == []
    assert pages.tab.locator("canvas:visible").count() == 3  # comparison, slices, learning curves


def test_pages_that_are_files(watched, pages, root):
    watched.run(*PYTHON_M, "stages.prepare", "--inspect", "scenes")
    assert pages.asked_by((watched.folder / layout.inspection("scenes")).as_uri(), "img") == []
    assert pages.asked_by((root / layout.REPORTS / "index.html").as_uri(), "text=scenes") == []
    assert watched.tried("--inspect") == []
