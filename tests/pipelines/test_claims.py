"""Claims on a real Prefect server: one holder at a time, whatever happens to holders and server."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from prefect.client.orchestration import get_client
from prefect.deployments.steps.core import run_steps
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.utilities.templating import apply_values
from ruamel.yaml import YAML

from benchmarks import servers
from benchmarks.faults import processes
from pipelines.dvc import remote
from pipelines.dvc.reproduce import StorageError
from pipelines.prefect import claims
from tests.project import PREPARED

pytestmark = pytest.mark.programs

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """
[core]
    no_scm = True
    remote = store
['remote "store"']
    url = store
"""
PIPELINE = """
stages:
  train:
    cmd: cp words.txt model.txt
    deps:
      - words.txt
    outs:
      - model.txt
"""
HOLD = """
import time
from pipelines.prefect import claims
with claims.claimed("train"):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory, prefect_database):
    often = {"PREFECT_SERVER_SERVICES_REPOSSESSOR_LOOP_SECONDS": "1"}
    folder = tmp_path_factory.mktemp("server")
    (folder / "prefect").mkdir()
    shutil.copy(prefect_database, folder / "prefect")
    with servers.prefect(folder, **often, **PREPARED) as running:
        yield running


@pytest.fixture
def project(tmp_path, monkeypatch, server):
    """A clone with a remote, whose Prefect server is the real one."""
    with temporary_settings({PREFECT_API_URL: server.url}):
        yield clone(tmp_path / "clone", monkeypatch)


def clone(folder: Path, monkeypatch, words: str = "words") -> Path:
    (folder / ".dvc").mkdir(parents=True)
    monkeypatch.chdir(folder)
    (folder / ".dvc" / "config").write_text(CONFIG)
    (folder / "dvc.yaml").write_text(PIPELINE)
    (folder / "words.txt").write_text(words)
    return folder


def limits() -> list[str]:
    with get_client(sync_client=True) as client:
        return [limit.name for limit in client.read_global_concurrency_limits()]


def test_one_clone_holds_a_stage_and_leaves_nothing(project):
    assert remote.name() == "store"
    with claims.claimed("train"):
        assert [name.startswith("claim:train-") for name in limits()] == [True]
        with pytest.raises(claims.ClaimedError, match="another machine has train-"), claims.claimed("train"):
            raise AssertionError("two hold it")
    assert limits() == []
    with pytest.raises(ZeroDivisionError), claims.claimed("train"):
        _ = 1 / 0
    assert limits() == []


def test_other_inputs_are_another_claim(project, tmp_path, monkeypatch):
    with claims.claimed("train"):
        clone(tmp_path / "other", monkeypatch, words="other words")
        with claims.claimed("train"):
            assert len(limits()) == 2


def test_without_a_remote_or_a_server_there_is_no_claim(project, monkeypatch):
    with temporary_settings(restore_defaults={PREFECT_API_URL}), claims.claimed("train"):
        pass
    (project / ".dvc" / "config").write_text(CONFIG.replace("remote = store", ""))
    assert remote.name() is None
    with claims.claimed("train"):
        assert limits() == []


def test_a_server_that_is_away_is_an_outage_that_is_named(project):
    nobody = f"http://127.0.0.1:{servers.free_port()}/api"
    with (
        temporary_settings({PREFECT_API_URL: nobody}),
        pytest.raises(StorageError, match=nobody),
        claims.claimed("train"),
    ):
        raise AssertionError("held without a server")


def test_a_flow_runs_in_the_clone_of_its_worker_not_of_the_deployer(project, tmp_path, monkeypatch):
    pull = YAML(typ="safe").load(ROOT / "prefect.yaml")["pull"]
    stored = apply_values(pull, {}, remove_notset=False)  # as `prefect deploy` does
    monkeypatch.setenv("PWD", str(tmp_path))  # as a worker hands it on to its flows
    asyncio.run(run_steps(stored))
    assert Path.cwd() == tmp_path


def test_a_busy_server_is_asked_again(project, monkeypatch):
    """Prefect answers 503 where SQLite let another transaction go first."""
    monkeypatch.setattr("prefect.client.base.clamped_poisson_interval", lambda *_: 0.01)
    answer, busy = httpx.HTTPTransport.handle_request, []

    def busy_once(transport: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        asked = f"{request.method} {request.url.path}"
        if "concurrency_limits" not in asked or asked in busy:
            return answer(transport, request)
        busy.append(asked)
        return httpx.Response(503, request=request)

    with monkeypatch.context() as patched:
        patched.setattr(httpx.HTTPTransport, "handle_request", busy_once)
        with claims.claimed("train"):
            pass
    assert [asked.split()[0] for asked in busy] == ["POST", "POST", "POST", "DELETE", "POST"]
    assert limits() == []


def test_never_two_holders_when_many_try(server):
    """The limit is made and removed with each claim: the moments between are where two could get in."""
    inside, most, held = 0, 0, 0
    lock = threading.Lock()

    def try_often(_: int) -> None:
        nonlocal inside, most, held
        with temporary_settings({PREFECT_API_URL: server.url}), get_client(sync_client=True) as client:
            deadline = time.monotonic() + 120
            while held < 12 and time.monotonic() < deadline:
                claim = claims._Claim(client, "claim:contested")
                try:
                    claim.take()
                except claims.ClaimedError:
                    continue
                with claim.kept(print):
                    with lock:
                        inside, held = inside + 1, held + 1
                        most = max(most, inside)
                    time.sleep(0.02)
                    with lock:
                        inside -= 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(try_often, range(4)))
    assert most == 1 and held >= 12


def test_a_killed_holder_loses_its_claim_when_the_lease_ends(project, server):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PREFECT_API_URL": server.url},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout.readline() == "held\n"
    holder.kill()
    holder.wait()
    assert is_held()
    end_every_lease(server)  # rather than to wait for the 60 seconds that are the least Prefect gives
    assert processes.within(60, lambda: not is_held())
    assert limits() == []


def test_a_lease_that_ended_while_the_server_was_away_is_taken_again(project, server, monkeypatch):
    renew, away = claims.internals.renew_slot, threading.Lock()

    def renew_unless_away(*arguments) -> None:
        if not away.acquire(blocking=False):
            raise httpx.ConnectError("away")
        try:
            renew(*arguments)
        finally:
            away.release()

    monkeypatch.setattr(claims, "RENEWAL", 0.2)
    monkeypatch.setattr(claims.internals, "renew_slot", renew_unless_away)
    with claims.claimed("train"):
        with away:
            end_every_lease(server)
            assert processes.within(60, lambda: not leases(server))
        assert processes.within(60, lambda: leases(server))
        assert is_held()
    assert limits() == []


def test_a_claim_outlasts_a_server_that_is_killed_and_started_again(project, server, monkeypatch):
    """The last test here: the server of the others is the one that is killed."""
    renew, renewed = claims.internals.renew_slot, []

    def noted(*arguments) -> None:
        renewed.append(False)
        renew(*arguments)
        renewed.append(True)

    monkeypatch.setattr("prefect.client.base.clamped_poisson_interval", lambda *_: 0.01)
    monkeypatch.setattr(claims, "RENEWAL", 0.5)
    monkeypatch.setattr(claims, "LEASE", 600)  # longer than any server takes to start
    monkeypatch.setattr(claims.internals, "renew_slot", noted)
    with claims.claimed("train"):
        server.end(signal.SIGKILL)
        renewed.clear()
        assert processes.within(60, lambda: renewed.count(False) > 1)  # tried while it was away, and again
        with servers.prefect(server.log.parent, port=urlsplit(server.url).port, **PREPARED):
            renewed.clear()
            assert processes.within(60, lambda: True in renewed)
            assert is_held() and len(limits()) == 1
    # Given back while no server was there, within the patience; nothing is raised.


def is_held() -> bool:
    try:
        with claims.claimed("train"):
            return False
    except claims.ClaimedError:
        return True


def leases(server: servers.Server) -> set[str]:
    """The ids of the leases that the server has."""
    files = (server.log.parent / "prefect" / "concurrency_leases").glob("*.json")
    return {file.stem for file in files} - {"expirations"}


def end_every_lease(server: servers.Server) -> None:
    for lease in (server.log.parent / "prefect" / "concurrency_leases").glob("*.json"):
        content = json.loads(lease.read_text())
        past = "2020-01-01T00:00:00+00:00"
        if lease.stem == "expirations":
            content = dict.fromkeys(content, past)
        else:
            content["expiration"] = past
        lease.write_text(json.dumps(content))
