"""Everything of Prefect that its documentation does not promise: undocumented modules, variables, answers, log lines.

After an upgrade of Prefect, `tests/pipelines/test_prefect_internals.py` names each thing that has moved. What is
documented is used where it is needed.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.settings import (
    PREFECT_API_URL,
    get_current_settings,
    load_current_profile,
    update_current_profile,
)

if TYPE_CHECKING:
    from fastapi import FastAPI

FLOW_RUN_ID = "PREFECT__FLOW_RUN_ID"
LINK = "View at "  # begins the line with the address of a flow run's page
POOL = "sqlalchemy.pool.impl.AsyncAdaptedQueuePool"  # logs a connection that is not given back well
RECONNECTIONS = 600  # a second apart


class SlotTakenError(Exception):
    """Somebody else holds the slot of a concurrency limit."""


class LeaseEndedError(Exception):
    """The server has not heard of the holder of a slot for too long."""


class Slot(NamedTuple):
    """A slot of a global concurrency limit, and the lease that holds it."""

    limit: UUID
    lease: UUID


def flow_run_of(environment: Mapping[str, str]) -> str | None:
    """The flow run that a worker started a process for, by the environment of the process; None where none did."""
    return environment.get(FLOW_RUN_ID)


def keep_events_in_outages() -> None:
    """Have Prefect send events for `RECONNECTIONS` while its server is away, and not for 8 seconds, as it does.

    The states of tasks are such events.
    """
    from prefect.events.clients import PrefectEventsClient
    from prefect.events.worker import EventsWorker

    EventsWorker.set_client_override(PrefectEventsClient, reconnection_attempts=RECONNECTIONS)


def hide_links() -> None:
    """Do not print the addresses of pages that a server without a UI does not have."""
    logging.getLogger("prefect.flow_runs").addFilter(lambda record: not record.getMessage().startswith(LINK))


class _Warnings(logging.Handler):
    """Passes on warnings, and errors but for those by which the engine reports that a task or a run has failed."""

    def __init__(self, say: Callable[[str], None]):
        super().__init__(logging.WARNING)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        of_engine = record.name.startswith(("prefect.flow_runs", "prefect.task_runs"))
        if record.exc_info or not (of_engine and record.levelno > logging.WARNING):
            self._say(self.format(record))


def show_only_warnings(say: Callable[[str], None]) -> None:
    """Pass warnings of this process on to `say`, and print nothing else. Prefect's log of a run keeps every line."""
    logging.getLogger().handlers = [_Warnings(say)]


def hide_connections_that_end_with_the_server() -> None:
    """Do not log a database connection whose task is cancelled: the server cancels its services when it ends."""
    logging.getLogger(POOL).addFilter(
        lambda record: not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))
    )


def server_app() -> "FastAPI":
    """Prefect's server without its UI, for the lifetime of this process."""
    from prefect.server.api.server import create_app

    return create_app(ephemeral=True, final=True)


def database() -> Path:
    """Where Prefect's server has its database, unless it is told otherwise."""
    return get_current_settings().home / "prefect.db"


def url_in_profile() -> str | None:
    """The address of a server in the profile in force, `.prefect/profiles.toml` in this project."""
    return load_current_profile().settings.get(PREFECT_API_URL)


def write_url_in_profile(url: str | None) -> None:
    """Every flow and `prefect` command of this folder then uses that server; None takes it out again."""
    update_current_profile({PREFECT_API_URL: url})


def take_slot(client: SyncPrefectClient, limit: str, seconds: float) -> Slot | None:
    """Take one slot of a global concurrency limit, for some seconds.

    Returns:
        None where there is no such limit.

    Raises:
        SlotTakenError: it is held.
        httpx.HTTPError: the server does not answer, or refuses.
    """
    try:
        answer = client.increment_concurrency_slots_with_lease([limit], 1, "concurrency", seconds).json()
    except httpx.HTTPStatusError as error:
        if error.response.status_code != httpx.codes.LOCKED:
            raise
        raise SlotTakenError from None
    return Slot(UUID(answer["limits"][0]["id"]), UUID(answer["lease_id"])) if answer["limits"] else None


def renew_slot(client: SyncPrefectClient, slot: Slot, seconds: float) -> None:
    """Hold it for some seconds from now.

    Raises:
        LeaseEndedError: it was not renewed in time.
        httpx.HTTPError: the server does not answer, or refuses.
    """
    try:
        client.renew_concurrency_lease(slot.lease, seconds)
    except httpx.HTTPStatusError as error:
        if error.response.status_code != httpx.codes.GONE:
            raise
        raise LeaseEndedError from None


def delete_limit(client: SyncPrefectClient, slot: Slot) -> None:
    """Remove the limit of a slot, by its id: a later one may have its name. Raises httpx.HTTPError."""
    path = {"id_or_name": str(slot.limit)}
    client.request("DELETE", "/v2/concurrency_limits/{id_or_name}", path_params=path)


def release_slot(client: SyncPrefectClient, slot: Slot) -> None:
    """Give it back. Raises httpx.HTTPError."""
    client.release_concurrency_slots_with_lease(slot.lease)
