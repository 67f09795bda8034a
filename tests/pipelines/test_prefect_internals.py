"""One test for each thing of Prefect that is used without being documented: an upgrade that moves one names it."""

import ast
import asyncio
import logging
import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from unittest.mock import Mock

import pytest
from prefect import flow, runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, PREFECT_PROFILES_PATH, PREFECT_UI_URL, temporary_settings
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from benchmarks import servers
from pipelines.prefect import internals
from pipelines.prefect.internals import LeaseEndedError, SlotTakenError
from tests.project import PREPARED

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTED = {
    "prefect",
    "prefect.artifacts",
    "prefect.automations",
    "prefect.cache_policies",
    "prefect.client.orchestration",
    "prefect.client.schemas.actions",
    "prefect.client.schemas.filters",
    "prefect.client.schemas.objects",
    "prefect.client.schemas.sorting",
    "prefect.events.actions",
    "prefect.events.schemas.automations",
    "prefect.events.schemas.events",
    "prefect.exceptions",
    "prefect.futures",
    "prefect.settings",
    "prefect.states",
    "prefect.task_runners",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory, prefect_database):
    folder = tmp_path_factory.mktemp("server")
    (folder / "prefect").mkdir()
    shutil.copy(prefect_database, folder / "prefect")
    with servers.prefect(folder, **PREPARED) as running, temporary_settings({PREFECT_API_URL: running.url}):
        yield running


@pytest.fixture
def client(server):
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def limit(client):
    """A global concurrency limit of one slot."""
    name = f"limit-{time.monotonic_ns()}"
    client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=1))
    return name


def test_only_the_adapter_imports_what_is_not_documented():
    found = set()
    for path in (ROOT / "pipelines").rglob("*.py"):
        if path != Path(internals.__file__):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                found |= {name for name in names if name.split(".")[0] == "prefect"}
    assert found <= DOCUMENTED


def test_prefect_flow_run_id_names_the_flow_run_of_a_process(monkeypatch):
    monkeypatch.delenv(internals.FLOW_RUN_ID, raising=False)
    assert internals.flow_run_of(os.environ) is None and runtime.flow_run.id is None
    monkeypatch.setenv(internals.FLOW_RUN_ID, "an-id")
    assert internals.flow_run_of(os.environ) == runtime.flow_run.id == "an-id"


def test_prefect_events_worker_takes_another_client():
    from prefect.events.clients import PrefectEventsClient
    from prefect.events.worker import EventsWorker

    internals.keep_events_in_outages()
    try:
        kind, options = EventsWorker._client_override
    finally:
        EventsWorker.set_client_override(None)
    client = kind("http://127.0.0.1:9/api", **dict(options))
    assert isinstance(client, PrefectEventsClient)
    assert client._reconnection_attempts == internals.RECONNECTIONS > PrefectEventsClient.__init__.__defaults__[1]


def test_prefect_logs_the_address_of_a_flow_run_as_view_at(server, caplog):
    @flow
    def nothing():
        pass

    log = logging.getLogger("prefect.flow_runs")

    def links() -> list[str]:
        caplog.clear()
        nothing()
        return [record.getMessage() for record in caplog.records if "/runs/flow-run/" in record.getMessage()]

    before = list(log.filters)
    log.filters = []  # a flow that another test ran here may have hidden the links already
    log.addHandler(caplog.handler)
    try:
        with temporary_settings({PREFECT_UI_URL: "http://127.0.0.1:9"}):
            (link,) = set(links())
            assert link.startswith(f"{internals.LINK}http://127.0.0.1:9/")
            internals.hide_links()
            assert links() == []
    finally:
        log.removeHandler(caplog.handler)
        log.filters = before


@pytest.mark.programs
def test_prefect_create_app_gives_a_server_without_ui(tmp_path, prefect_database):
    """In a process of its own: it is the last app that a process makes."""
    shutil.copy(prefect_database, tmp_path)
    script = """
from fastapi.testclient import TestClient
from pipelines.prefect import internals
with TestClient(internals.server_app()) as client:
    print(client.get("/api/health").json(), client.post("/api/flow_runs/filter", json={}).json(), client.get("/").text)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **PREPARED, "PYTHONPATH": str(ROOT), "PREFECT_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("True [] ") and "<html" not in done.stdout


def test_prefects_database_logs_a_cancelled_connection_under_this_name(caplog, monkeypatch):
    """Its engine has such a pool; a rollback that is cancelled, as at the end of the server, is no error."""
    log = logging.getLogger(internals.POOL)
    monkeypatch.setattr(log, "filters", [])

    def logged(reason: BaseException) -> int:
        async def given_back():
            engine = create_async_engine("sqlite+aiosqlite:///:memory:", poolclass=AsyncAdaptedQueuePool)
            connection = await engine.connect()
            with monkeypatch.context() as patch:
                patch.setattr(engine.dialect, "do_rollback", Mock(side_effect=reason))
                with suppress(type(reason)):
                    await connection.close()
            await engine.dispose()

        caplog.clear()
        asyncio.run(given_back())
        return len([record for record in caplog.records if record.levelname == "ERROR"])

    assert logged(asyncio.CancelledError()) == 1
    internals.hide_connections_that_end_with_the_server()
    assert logged(asyncio.CancelledError()) == 0
    assert logged(ValueError("damaged")) == 1


def test_prefect_server_has_its_database_in_its_home(server):
    with temporary_settings({PREFECT_HOME: server.log.parent / "prefect"}):
        assert internals.database().read_bytes().startswith(b"SQLite format 3")


def test_prefect_profile_keeps_the_address_of_a_server(tmp_path):
    with temporary_settings({PREFECT_PROFILES_PATH: tmp_path / "profiles.toml"}):
        internals.write_url_in_profile("http://127.0.0.1:9/api")
        assert internals.url_in_profile() == "http://127.0.0.1:9/api"
        assert "http://127.0.0.1:9/api" in (tmp_path / "profiles.toml").read_text()
        internals.write_url_in_profile(None)
        assert internals.url_in_profile() is None
        assert "PREFECT_API_URL" not in (tmp_path / "profiles.toml").read_text()


def test_prefect_gives_one_slot_with_a_lease(client, limit):
    slot = internals.take_slot(client, limit, 60)
    assert client.read_global_concurrency_limit_by_name(limit).id == slot.limit
    with pytest.raises(SlotTakenError):
        internals.take_slot(client, limit, 60)
    internals.release_slot(client, slot)
    assert internals.take_slot(client, limit, 60).lease != slot.lease


def test_prefect_gives_no_slot_of_a_limit_that_is_not_there(client):
    assert internals.take_slot(client, "no-such-limit", 60) is None


def test_prefect_renews_a_lease_until_it_is_given_back(client, limit):
    slot = internals.take_slot(client, limit, 60)
    internals.renew_slot(client, slot, 60)
    internals.release_slot(client, slot)
    with pytest.raises(LeaseEndedError):
        internals.renew_slot(client, slot, 60)


def test_prefect_deletes_a_limit_by_its_id(client, limit):
    slot = internals.take_slot(client, limit, 60)
    internals.delete_limit(client, slot)
    with pytest.raises(ObjectNotFound):
        client.read_global_concurrency_limit_by_name(limit)
    internals.release_slot(client, slot)
