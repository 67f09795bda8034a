"""`make schedule` against a real server and worker, on a tiny DVC project whose night comes every minute."""

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from ruamel.yaml import YAML

from tests.browser import chromium

pytestmark = pytest.mark.programs

ROOT = Path(__file__).resolve().parents[2]

PIPELINE = """
stages:
  quick:
    cmd: echo words > words.txt
    outs:
      - words.txt
  long:
    cmd: sleep 600
"""


class Project:
    """A folder with a DVC project, the project's deployments, and a port of its own."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.more: dict[str, str] = {}
        with closing(socket.create_server(("127.0.0.1", 0))) as listening:
            self.port = listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "DVC_"))}
        proxies = {"http_proxy": "http://127.0.0.1:9", "ALL_PROXY": "socks://127.0.0.1:9/"}  # nobody listens
        self.environment = {**kept, **proxies, "PYTHONPATH": str(ROOT), "PREFECT_WORKER_QUERY_SECONDS": "2"}
        shutil.copy(ROOT / "prefect.toml", folder)
        (folder / "dvc.yaml").write_text(PIPELINE)
        self.run("-m", "dvc", "init", "-q", "--no-scm")

    def run(self, *arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            ["sh", "-c", 'trap "" INT QUIT; exec "$@"', "sh", sys.executable, *arguments],  # as a shell's background
            cwd=self.folder,
            env=self.environment | self.more,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == code, done.stdout
        return done.stdout

    def schedule(self, *arguments: str, code: int = 0) -> str:
        return self.run("-m", "pipelines.schedule", *arguments, code=code)

    def ask(self, method: str, path: str, **body):
        """The API's answer; 503 is what it says while another of its own transactions holds SQLite."""
        while (answer := httpx.request(method, f"{self.url}/api/{path}", json=body, timeout=30)).status_code == 503:
            time.sleep(0.5)
        return answer.raise_for_status().json() if answer.content else None

    def runs(self, deployment: str) -> list[dict]:
        """Flow runs that started, the latest first."""
        found = self.ask(
            "POST", "flow_runs/filter", deployments={"name": {"any_": [deployment]}}, sort="START_TIME_DESC"
        )
        return [run for run in found if run["start_time"]]

    def on_demand(self, target: str) -> str:
        """Start a target as the UI does; the id of the flow run, once its command runs."""
        deployment = self.ask("GET", "deployments/name/experiment/on-demand")["id"]
        run = self.ask("POST", f"deployments/{deployment}/create_flow_run", parameters={"targets": [target]})["id"]
        wait_for(lambda: self.processes("sleep", "600"))
        return run

    def state(self, run: str) -> str:
        return self.ask("GET", f"flow_runs/{run}")["state"]["name"]

    def processes(self, *words: str) -> list[psutil.Process]:
        """Those that work in the folder and have the words in their command, one after the other."""
        found = []
        for process in psutil.process_iter(["cwd", "cmdline"]):
            line = process.info["cmdline"] or []
            if process.info["cwd"] == str(self.folder) and " ".join(words) in " ".join(line):
                found.append(process)
        return found


def wait_for(done: Callable[[], object]) -> None:
    deadline = time.monotonic() + 300
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project").resolve()
    yaml = YAML()
    content = yaml.load(ROOT / "prefect.yaml")
    nightly = next(item for item in content["deployments"] if item["name"] == "nightly")
    nightly["schedules"][0]["cron"] = "* * * * *"
    nightly["parameters"]["targets"] = ["quick"]
    yaml.dump(content, folder / "prefect.yaml")
    project = Project(folder)
    try:
        said = project.schedule("up", "--port", str(project.port))
        assert project.url in said and "nightly: * * * * *" in said
        yield project
    finally:
        project.schedule("down")


def test_a_flow_by_hand_uses_the_server(project):
    settings = "from prefect.settings import get_current_settings as now; print(now().api.url)"
    assert project.run("-c", settings).strip() == f"{project.url}/api"


def test_cancel_in_the_ui_ends_everything(project):
    run = project.on_demand("long")
    project.ask("POST", f"flow_runs/{run}/set_state", state={"type": "CANCELLING", "name": "Cancelling"})
    wait_for(lambda: not project.processes("pipelines.dvc") and not project.processes("sleep"))
    wait_for(lambda: not project.processes("prefect.engine"))  # it tells Prefect how its tasks ended
    wait_for(lambda: project.state(run) == "Cancelled")


def test_up_again_changes_nothing_and_mends_what_was_killed(project):
    (server,), (worker,) = project.processes("prefect server start"), project.processes("prefect worker start")
    run = project.on_demand("long")
    worker.kill()
    wait_for(lambda: not project.processes("prefect.engine") and not project.processes("sleep"))
    assert project.state(run) == "Crashed"
    project.schedule("status", code=1)
    project.schedule("up")
    assert project.processes("prefect server start") == [server]
    (other,) = project.processes("prefect worker start")
    assert other != worker
    assert len(project.ask("POST", "automations/filter")) == 1


def test_the_night_comes_by_itself(project):
    wait_for(lambda: [run for run in project.runs("nightly") if run["state"]["name"] == "Completed"])
    assert (project.folder / "words.txt").read_text() == "words\n"
    first = project.runs("nightly")[-1]
    assert first["created_by"]["type"] == "SCHEDULE" and first["name"] == "nightly: quick"


def test_the_page_shows_it_and_asks_nobody_else(project):
    wait_for(lambda: [run for run in project.runs("nightly") if run["state"]["name"] == "Completed"])
    name = project.runs("nightly")[-1]["name"]
    asked = set()
    with chromium() as browser:
        page = browser.new_page()
        page.on("request", lambda request: asked.add(urlsplit(request.url).hostname))
        page.goto(f"{project.url}/runs")
        page.get_by_text(name).first.wait_for(timeout=120_000)
        page.get_by_text("Completed").first.wait_for(timeout=120_000)
    assert asked - {None} == {"127.0.0.1"}


def test_down_leaves_nothing_behind_and_says_what_became_of_it(project):
    run = project.on_demand("long")
    project.schedule("down")
    assert project.processes() == []
    assert "stopped!" in (project.folder / ".prefect/worker.log").read_text().rpartition("started!")[2]  # not killed
    assert "PREFECT_API_URL" not in (project.folder / ".prefect" / "profiles.toml").read_text()
    assert "no server runs here" in project.schedule("status", code=1)
    with closing(sqlite3.connect(project.folder / ".prefect" / "prefect.db")) as database:
        assert database.execute("SELECT state_name FROM flow_run WHERE id = ?", [run]).fetchall() == [("Cancelled",)]


def test_a_taken_port_is_an_error_with_the_way_out(project):
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        said = project.schedule("up", "--port", str(port), code=1)
    assert f"error: another program answers on port {port}: `make schedule PORT=...` with a free one" in said


def test_a_server_that_cannot_start_says_why(project):
    """After `down`: its history is damaged, or the environment names one that is not there."""
    database = project.folder / ".prefect" / "prefect.db"
    database.rename(kept := database.with_name("kept"))
    database.write_bytes(b"no database" * 2000)
    said = project.schedule("up", "--port", str(project.port), code=1)
    assert "error: Prefect's server did not start" in said and "file is not a database" in said
    assert f"mv {database.relative_to(project.folder)}* .prefect/aside" in said
    kept.rename(database)
    project.more = {"PREFECT_API_URL": "http://127.0.0.1:9/api"}
    for command in ("pipelines.schedule", "up"), ("pipelines.experiment",):
        said = project.run("-m", *command, code=1)
        assert "error: the Prefect server http://127.0.0.1:9/api does not answer" in said
        assert "unset PREFECT_API_URL" in said


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd")
def test_the_units_are_what_systemd_reads(tmp_path):
    clone = tmp_path / "a clone"
    (clone / ".venv" / "bin").mkdir(parents=True)
    (clone / ".venv" / "bin" / "python").symlink_to(sys.executable)
    escaped = subprocess.run(["systemd-escape", "--path", clone], capture_output=True, text=True, check=True)
    units = [unit.name for unit in (ROOT / "deploy" / "systemd").glob("*.service")]
    assert len(units) == 2
    for unit in units:
        shutil.copy(ROOT / "deploy" / "systemd" / unit, tmp_path)
    done = subprocess.run(
        [
            "systemd-analyze",
            "--user",
            "verify",
            *(tmp_path / f"{unit[:-8]}{escaped.stdout.strip()}.service" for unit in units),
        ],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
