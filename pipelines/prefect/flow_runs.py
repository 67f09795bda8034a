"""Keeps flow runs and what Prefect shows of them the same: a cancelled run ends here, a dead one ends there."""

import platform
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from uuid import UUID

import httpx
import psutil
from prefect import get_run_logger
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowFilter, FlowRunFilter, TaskRunFilter
from prefect.client.schemas.objects import FlowRun as PrefectFlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import Cancelled, Crashed

EVERY = 3  # seconds between two looks at the state of the run
OPEN, ENDED = ["RUNNING", "CANCELLING"], ["CRASHED", "CANCELLED"]  # of flows
UNDONE = ["RUNNING", "PENDING", "SCHEDULED"]  # of tasks
GONE = "its process had ended"
SETTLING = 5  # seconds to wait for the server


@contextmanager
def watched(run: UUID, cancel: Callable[[], None], each_time: Callable[[], None]) -> Iterator[None]:
    """While the block runs, look every few seconds whether the run was cancelled in Prefect.

    A worker ends the runs that it started by itself; nobody else ends one that was started by hand.

    Args:
        cancel: called once, from another thread, when the run was cancelled.
        each_time: called after each look that finds it not cancelled, from the same thread.
    """
    ended = threading.Event()

    def watch() -> None:
        client = get_client(sync_client=True)
        while not ended.wait(EVERY):
            try:
                state = client.read_flow_run(run).state
            except httpx.HTTPError:
                continue
            if state and (state.is_cancelling() or state.is_cancelled()):
                cancel()
                return
            each_time()

    watcher = threading.Thread(target=copy_context().run, args=(watch,), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join(EVERY)  # it may wait for a server that is away


def own(run: UUID, flow_name: str) -> None:
    """Label a run with its process, and set the runs of this machine whose process has ended to Crashed.

    A flow that was ended by `kill -9`, or with the machine, could not tell Prefect.
    """
    try:
        with get_client(sync_client=True) as client:
            client.update_flow_run_labels(run, _labels(psutil.Process()))
            runs = client.read_flow_runs(
                flow_filter=FlowFilter.model_validate({"name": {"any_": [flow_name]}}),
                flow_run_filter=FlowRunFilter.model_validate({"state": {"type": {"any_": OPEN}}}),
            )
            for dead in filter(_is_dead, runs):
                _end(client, dead)
                get_run_logger().info("flow run %r: its process has ended without a word, set to Crashed", dead.name)
            noticed = client.read_flow_runs(  # by a worker, or by missing heartbeats: the tasks are still open
                flow_filter=FlowFilter.model_validate({"name": {"any_": [flow_name]}}),
                flow_run_filter=FlowRunFilter.model_validate({"state": {"type": {"any_": ENDED}}}),
                task_run_filter=TaskRunFilter.model_validate({"state": {"type": {"any_": UNDONE}}}),
            )
            for dead in filter(_is_dead, noticed):
                _end_tasks(client, dead)
    except httpx.HTTPError as error:
        get_run_logger().warning("Prefect may show runs as running whose process has ended: %s", error)


def rename(run: UUID, name: str) -> None:
    """Give a run a name that was not known when it began; it keeps the old one where the server does not answer."""
    with suppress(httpx.HTTPError), get_client(sync_client=True) as client:
        client.set_flow_run_name(run, name)


def settle() -> None:
    """Wait, a few seconds at most, until the server has recorded how the tasks of this process ended."""
    unsettled = {"name": {"any_": ["Pending", "Running", "Retrying"]}}
    deadline = time.monotonic() + SETTLING
    with suppress(httpx.HTTPError), get_client(sync_client=True) as client:
        runs = client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=20)
        mine = [run.id for run in runs if _labels(psutil.Process()).items() <= run.labels.items()]
        while time.monotonic() < deadline and client.read_task_runs(
            flow_run_filter=FlowRunFilter.model_validate({"id": {"any_": mine}}),
            task_run_filter=TaskRunFilter.model_validate({"state": unsettled}),
        ):
            time.sleep(0.1)


def _labels(process: psutil.Process) -> dict[str, str]:
    return {"host": _host(), "pid": str(process.pid), "started": str(process.create_time())}


def _host() -> str:
    """Name and hardware address: several machines that use one server may be called `localhost`."""
    return f"{platform.node()} {uuid.getnode():012x}"


def _is_dead(run: PrefectFlowRun) -> bool:
    """Whether it ran on this machine and its process has ended; a later process may have the same number."""
    labels = {name: run.labels.get(name) for name in ("host", "pid", "started")}
    if labels["host"] != _host():
        return False
    try:
        process = psutil.Process(int(labels["pid"]))
        return process.status() == psutil.STATUS_ZOMBIE or labels != _labels(process)
    except psutil.NoSuchProcess:
        return True


def _end(client: SyncPrefectClient, run: PrefectFlowRun) -> None:
    _end_tasks(client, run)
    end = Cancelled if run.state.is_cancelling() else Crashed
    client.set_flow_run_state(run.id, end(message=GONE), force=True)


def _end_tasks(client: SyncPrefectClient, run: PrefectFlowRun) -> None:
    tasks = client.read_task_runs(
        flow_run_filter=FlowRunFilter.model_validate({"id": {"any_": [run.id]}}),
        task_run_filter=TaskRunFilter.model_validate({"state": {"type": {"any_": UNDONE}}}),
    )
    for task in tasks:
        client.set_task_run_state(task.id, Crashed(message=GONE), force=True)
