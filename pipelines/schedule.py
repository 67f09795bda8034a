"""`python -m pipelines.schedule up|down|status`: Prefect's server, a worker and the deployments of `prefect.yaml`.

Where `PREFECT_API_URL` names a server elsewhere, that one is used, and only the worker runs here.
"""

from stages.runtime import startup

if __name__ == "__main__":
    startup.start()  # before Prefect is imported, which may call home at once

import argparse
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from filelock import FileLock
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun as PrefectFlowRun
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    get_current_settings,
    temporary_settings,
)
from prefect.states import Cancelled, Cancelling

from pipelines.prefect import daemons, deployments, internals, server
from pipelines.prefect.deployments import DeploymentError
from pipelines.prefect.server import ServerError, without_secrets
from stages.runtime.parent import alive
from stages.runtime.ports import HOST

POOL = "experiments"
PORT = 4200
START, CANCEL = 120, 20  # seconds to wait: for the start of server and worker, for the end of flow runs
UNDERWAY = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING, StateType.PAUSED]


class ScheduleError(Exception):
    """Server or worker cannot be started; the message says what to do."""


def up(port: int | None = None) -> None:
    """Start what does not run yet, and register the deployments. Returns when server and worker answer.

    Args:
        port: of the server; None for the one it has or had before, or 4200.

    Raises:
        ScheduleError: the port is taken, the server runs on another port, or server or worker do not start.
        DeploymentError: the deployments cannot be registered.
        ServerError: the server that the settings name does not answer, or refuses.
    """
    if not Path("prefect.yaml").exists():
        raise ScheduleError(f"there is no prefect.yaml in {os.getcwd()}: start it in the project's folder")
    with _alone():
        url = _elsewhere() or _start_server(port)
        with _client(url) as client:
            server.check()
            _start_worker(url, client)
            deployments.deploy(url)
            deployments.crash_silent_runs()
            _tell(url, client)


def down() -> None:
    """Cancel the flow runs, end the worker and the server. Scheduled runs wait for the next `up`."""
    with _alone():
        elsewhere = _elsewhere()
        url = elsewhere or _own_url()
        if url and _answers(url):
            with _client(url) as client:
                runs = _underway(client, everyones=not elsewhere)
                _cancel(client, runs)
                _end_worker()
                _settle(client, runs)
        else:
            _end_worker()
        if not elsewhere:
            daemons.end(daemons.running("server"))
            internals.write_url_in_profile(None)
        print("Prefect: worker ended" if elsewhere else "Prefect: server and worker ended")


def _end_worker() -> None:
    """End the worker and its flow runs, also one that it started while it was being ended."""
    while left := [*daemons.running("worker", POOL), *daemons.flow_runs()]:
        daemons.end(left)


def status() -> bool:
    """Print what runs. Returns whether server and worker do."""
    url = _elsewhere() or _own_url()
    if url and _answers(url):
        with _client(url) as client:
            _tell(url, client)
        return bool(daemons.running("worker", POOL))
    print(f"Prefect: no answer from {without_secrets(url)}" if url else "Prefect: no server runs here (make schedule)")
    return False


@contextmanager
def _alone() -> Iterator[None]:
    home = get_current_settings().home
    home.mkdir(parents=True, exist_ok=True)
    with FileLock(home / "schedule.lock"):
        yield


@contextmanager
def _client(url: str) -> Iterator[SyncPrefectClient]:
    with temporary_settings({PREFECT_API_URL: url}), get_client(sync_client=True) as client:
        yield client


def _answers(url: str) -> bool:
    """Whether a server answers at once: flows and workers are more patient."""
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}), _client(url) as client:
        return client.api_healthcheck() is None


def _elsewhere() -> str | None:
    """A server that the environment or `.env` names: not ours to start. An address that `up` wrote does not count."""
    url = get_current_settings().api.url
    if not url or (url == internals.url_in_profile() and urlsplit(url).hostname == HOST):
        return None
    return url


def _own_url() -> str | None:
    """The address of the server that runs in this folder, however it was started."""
    for process in daemons.running("server"):
        command = process.info["cmdline"]
        if "--port" in command:
            return _url(int(command[command.index("--port") + 1]))
        return _url(int(process.info["environ"].get("PREFECT_SERVER_API_PORT", PORT)))
    return None


def _url(port: int) -> str:
    return f"http://{HOST}:{port}/api"


def _start_server(port: int | None) -> str:
    """Start it, and write its address into `.prefect/profiles.toml` for every flow and `prefect` command here."""
    url = _own_url()
    if url and port and url != _url(port):
        raise ScheduleError(f"the server of this folder runs at {url}: `make unschedule` first, to change the port")
    if not url:
        port = port or urlsplit(internals.url_in_profile() or "").port or PORT
        url = _url(port)
        if _is_taken(port):
            raise ScheduleError(f"another program answers on port {port}: `make schedule PORT=...` with a free one")
        arguments = ["--host", HOST, "--port", str(port)]
        _start("server", arguments, url, lambda: _answers(url))
    internals.write_url_in_profile(url)
    return url


def _is_taken(port: int) -> bool:
    with suppress(OSError), socket.create_connection((HOST, port), timeout=5):
        return True
    return False


def _start_worker(url: str, client: SyncPrefectClient) -> None:
    """Start a worker for this server; end one of this folder that was started for another server."""
    name = f"{socket.gethostname()}-{Path.cwd().name}"
    others = [
        worker
        for worker in daemons.running("worker", POOL)
        if worker.info["environ"].get("PREFECT_API_URL", url) != url
    ]
    daemons.end(others)
    if daemons.running("worker", POOL):
        return
    before = _heartbeat(client, name)
    arguments = ["--pool", POOL, "--type", "process", "--limit", "1", "--name", name, "--install-policy", "never"]
    _start("worker", arguments, url, lambda: _heartbeat(client, name) != before)


def _heartbeat(client: SyncPrefectClient, name: str):
    """When the worker last reported to the server; None where it never did."""
    with suppress(ObjectNotFound):  # the first worker makes the pool
        client.read_work_pool(POOL)
        workers = client.read_workers_for_work_pool(POOL)
        return next((worker.last_heartbeat_time for worker in workers if worker.name == name), None)
    return None


def _start(kind: daemons.Kind, arguments: list[str], url: str, answers: Callable[[], bool]) -> None:
    log = server.log_file().with_name(f"{kind}.log")
    before = log.stat().st_size if log.exists() else 0
    started = daemons.start(kind, arguments, {**server.OURS, "PREFECT_API_URL": url}, log)
    deadline = time.monotonic() + START
    while not answers():
        if not alive(started) or time.monotonic() > deadline:
            daemons.end([started])
            raise ScheduleError(f"Prefect's {kind} did not start; {server.why_not_started(log, before)}")
        time.sleep(0.2)


def _underway(client: SyncPrefectClient, everyones: bool) -> list[PrefectFlowRun]:
    """The flow runs on our server; on a server elsewhere, those of this folder."""
    runs = client.read_flow_runs(flow_run_filter=FlowRunFilter(state={"type": {"any_": UNDERWAY}}))
    here = set(daemons.flow_runs().values())
    return [run for run in runs if everyones or str(run.id) in here]


def _cancel(client: SyncPrefectClient, runs: list[PrefectFlowRun]) -> None:
    """As "Cancel" in the UI: worker or flow end the stages. Returns when all have ended, or after `CANCEL` seconds."""
    for run in runs:
        client.set_flow_run_state(run.id, Cancelling(message="make unschedule"))
    deadline = time.monotonic() + CANCEL
    while time.monotonic() < deadline and not all(client.read_flow_run(run.id).state.is_final() for run in runs):
        time.sleep(0.5)


def _settle(client: SyncPrefectClient, runs: list[PrefectFlowRun]) -> None:
    """Mark as cancelled what no worker or flow could mark: nothing of it runs any more."""
    for run in runs:
        if not client.read_flow_run(run.id).state.is_final():
            client.set_flow_run_state(run.id, Cancelled(message="make unschedule"), force=True)


def _tell(url: str, client: SyncPrefectClient) -> None:
    worker = ", ".join(f"process {process.pid}" for process in daemons.running("worker", POOL)) or "none here"
    print(f"Prefect: {without_secrets(url).removesuffix('/api')} (worker: {worker}; make unschedule ends both)")
    for deployment in client.read_deployments():
        schedules = [item.schedule for item in deployment.schedules if item.active]
        crons = [f"{schedule.cron} ({schedule.timezone or 'UTC'})" for schedule in schedules]
        print(f"  {deployment.name}: {', '.join(crons) or f'prefect deployment run experiment/{deployment.name}'}")
    waiting = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(state={"type": {"any_": [StateType.SCHEDULED]}}),
        sort=FlowRunSort.EXPECTED_START_TIME_ASC,
        limit=1,
    )
    for run in waiting:
        print(f"  next: {run.next_scheduled_start_time.astimezone():%A %d %B %H:%M %Z}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Exit code 1 and a message after an error; for `status` also where server or worker do not run."""
    options = _parser().parse_args(arguments)
    server.leave_out_unusable_proxies()
    try:
        if options.command == "up":
            up(options.port)
        elif options.command == "down":
            down()
        elif not status():
            sys.exit(1)
    except (ScheduleError, DeploymentError, ServerError) as error:
        sys.exit(f"error: {error}")
    except httpx.HTTPError as error:
        sys.exit(f"error: the Prefect server stopped answering, or refuses: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.schedule",
        description="Prefect's server, a worker and the deployments of prefect.yaml. Where PREFECT_API_URL names a "
        "server elsewhere, that one is used, and only the worker runs here.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser("up", help="start server and worker, register the deployments")
    start.add_argument("--port", type=int, metavar="N", help=f"of the server (default: as it was, or {PORT})")
    commands.add_parser("down", help="cancel what runs, end worker and server")
    commands.add_parser("status", help="what runs, and what is next")
    return parser


if __name__ == "__main__":
    main()
