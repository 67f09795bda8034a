"""When the nights of `prefect.yaml` begin and what becomes of late ones, asked of Prefect's own services at set times.

The services of a server are called in this process, on a database of the test: no server runs, and nothing is waited
for.
"""

import asyncio
import shutil
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from prefect.server import models
from prefect.server.database import provide_database_interface
from prefect.server.database.configurations import AioSqliteConfiguration
from prefect.server.database.dependencies import temporary_database_config
from prefect.server.orchestration.core_policy import CoreFlowPolicy
from prefect.server.schemas import states
from prefect.server.schemas.actions import WorkPoolCreate
from prefect.server.schemas.core import Deployment, DeploymentSchedule, Flow
from prefect.server.schemas.schedules import CronSchedule
from prefect.server.services import late_runs, scheduler
from prefect.settings import PREFECT_HOME, temporary_settings
from prefect.types import _datetime

from stages.runtime.dvc_internals import read_yaml

DAYS = 4
AHEAD = 3  # nights that Prefect knows of while its server is off
CHANGES = [  # noon two days before the clocks change, and the hours at which the night of that day may begin
    ("Europe/Berlin", datetime(2026, 3, 27, 12, tzinfo=UTC), (1, 3)),  # 2 o'clock does not come
    ("Europe/Berlin", datetime(2026, 10, 23, 12, tzinfo=UTC), (2,)),  # it comes twice
    ("America/New_York", datetime(2026, 3, 6, 12, tzinfo=UTC), (1, 3)),
    ("America/New_York", datetime(2026, 10, 30, 12, tzinfo=UTC), (2,)),
    ("UTC", datetime(2026, 3, 27, 12, tzinfo=UTC), (2,)),
]


def nightly(root: Path) -> dict:
    """The deployment in `prefect.yaml`."""
    return next(item for item in read_yaml(root / "prefect.yaml")["deployments"] if item["name"] == "nightly")


def nights(root, zone: str, noon: datetime) -> list[datetime]:
    """The moments, in local time, that the scheduler finds when it asks every hour for the next five nights."""
    (schedule,) = nightly(root)["schedules"]
    cron = CronSchedule(cron=schedule["cron"], timezone=zone)
    found = set()
    for hour in range(24 * DAYS):
        found |= set(asyncio.run(cron.get_dates(n=5, start=noon + timedelta(hours=hour))))
    moments = sorted(moment.astimezone(UTC) for moment in found)
    return [moment.astimezone(ZoneInfo(zone)) for moment in moments if moment < noon + timedelta(days=DAYS)]


@pytest.mark.parametrize(("zone", "noon", "hours"), CHANGES)
def test_around_a_change_of_the_clocks_each_night_comes_once(root, zone, noon, hours):
    found = nights(root, zone, noon)
    assert [night.date() for night in found] == [noon.date() + timedelta(days=day) for day in range(1, DAYS + 1)]
    before, changing, *others = (night.hour for night in found)
    assert changing in hours and [before, *others] == [2, 2, 2]


class Server:
    """Prefect's database with the deployment `nightly`, its services of nights run by hand, and a clock set by hand."""

    def __init__(self, monkeypatch):
        self._database = provide_database_interface()
        self._pool: UUID | None = None
        self._moment = datetime.now(UTC)
        for name, module in list(sys.modules.items()):
            if name.startswith("prefect.server.") and vars(module).get("now") is _datetime.now:
                monkeypatch.setattr(module, "now", lambda zone="UTC": _datetime.create_datetime_instance(self._moment))

    async def deploy(self, deployment: dict, zone: str) -> None:
        """Register a deployment as `prefect.yaml` has it, with the clock of a time zone."""
        (schedule,), limit = deployment["schedules"], deployment["concurrency_limit"]
        cron = CronSchedule(cron=schedule["cron"], timezone=zone)
        pool = WorkPoolCreate(name=deployment["work_pool"]["name"], type="process", base_job_template={})
        async with self._database.session_context(begin_transaction=True) as session:
            flow = await models.flows.create_flow(session=session, flow=Flow(name="experiment"))
            made = await models.workers.create_work_pool(session=session, work_pool=pool)
            self._pool = made.id
            registered = Deployment(
                name=deployment["name"],
                flow_id=flow.id,
                work_queue_id=made.default_queue_id,
                concurrency_limit=limit["limit"],
                concurrency_options={"collision_strategy": limit["collision_strategy"]},
                schedules=[DeploymentSchedule(schedule=cron)],
            )
            await models.deployments.create_deployment(session=session, deployment=registered)

    async def at(self, moment: datetime) -> None:
        """The services that begin nights and mark late ones do their round at this moment."""
        self._moment = moment
        await scheduler.schedule_deployments()
        await late_runs.monitor_late_runs(docket=self, db=self._database)

    def add(self, task: Callable, key: str) -> Callable:
        """As a docket: what a service leaves to another process is done at once."""
        return partial(task, db=self._database)

    async def first_due(self) -> UUID | None:
        """The flow run that a worker, which takes one at a time, would start now."""
        async with self._database.session_context(begin_transaction=True) as session:
            found = await models.workers.get_scheduled_flow_runs(
                session=session, work_pool_ids=[self._pool], scheduled_before=self._moment, limit=1
            )
        return found[0].flow_run.id if found else None

    async def set(self, run: UUID, state: states.State) -> str:
        """The name of the state that the run has then."""
        async with self._database.session_context(begin_transaction=True) as session:
            await models.flow_runs.set_flow_run_state(
                session=session, flow_run_id=run, state=state, flow_policy=CoreFlowPolicy
            )
            return (await models.flow_runs.read_flow_run(session=session, flow_run_id=run)).state.name

    async def nights(self) -> list[tuple[datetime, str]]:
        """When each night was due that was due by now, the first one first, and the name of its state."""
        async with self._database.session_context() as session:
            runs = await models.flow_runs.read_flow_runs(session=session)
        return sorted(
            (run.expected_start_time, run.state.name) for run in runs if run.expected_start_time <= self._moment
        )


@pytest.fixture
def server(tmp_path, monkeypatch, prefect_database) -> Iterator[Server]:
    shutil.copy(prefect_database, tmp_path)
    database = AioSqliteConfiguration(connection_url=f"sqlite+aiosqlite:///{tmp_path / prefect_database.name}")
    with temporary_settings({PREFECT_HOME: tmp_path}), temporary_database_config(database):
        yield Server(monkeypatch)


@pytest.mark.parametrize(("zone", "noon", "hours"), CHANGES)
def test_missed_nights_are_late_once_each_and_run_one_by_one(root, server, zone, noon, hours):
    """The machine is off from the noon before until two days after the clocks change."""

    async def story() -> None:
        await server.deploy(nightly(root), zone)
        await server.at(noon)
        assert await server.nights() == []
        await server.at(noon + timedelta(days=DAYS))
        missed = await server.nights()
        local = [due.astimezone(ZoneInfo(zone)) for due, _ in missed]
        assert [night.date() for night in local] == [noon.date() + timedelta(days=day) for day in range(1, AHEAD + 1)]
        assert local[1].hour in hours and {local[0].hour, local[2].hour} == {2}
        assert [state for _, state in missed] == ["Late"] * AHEAD
        for done in range(AHEAD):
            run = await server.first_due()
            assert await server.set(run, states.Pending()) == "Pending"
            assert await server.set(run, states.Running()) == "Running"
            await server.at(noon + timedelta(days=DAYS, minutes=done))
            found = [state for _, state in await server.nights()]
            assert found == ["Completed"] * done + ["Running"] + ["Late"] * (AHEAD - 1 - done)
            assert await server.set(run, states.Completed()) == "Completed"
        assert await server.first_due() is None

    asyncio.run(story())


def test_a_server_without_a_worker_keeps_every_night(root, server):
    async def story() -> None:
        await server.deploy(nightly(root), "UTC")
        noon = datetime(2026, 3, 27, 12, tzinfo=UTC)
        for day in range(DAYS + 1):
            await server.at(noon + timedelta(days=day))
        late = [(datetime(2026, 3, day, 2, tzinfo=UTC), "Late") for day in range(28, 28 + DAYS)]
        assert await server.nights() == late

    asyncio.run(story())


def test_a_night_does_not_begin_while_the_one_before_runs(root, server):
    """Prefect cancels it: at once where a worker asks to start it, and where none does, once it is late."""

    async def story() -> None:
        await server.deploy(nightly(root), "UTC")
        first = datetime(2026, 3, 27, 2, tzinfo=UTC)
        await server.at(first - timedelta(hours=1))
        await server.at(first + timedelta(seconds=1))
        running = await server.first_due()
        assert await server.set(running, states.Pending()) == "Pending"
        assert await server.set(running, states.Running()) == "Running"
        await server.at(first + timedelta(days=1, seconds=1))
        assert await server.set(await server.first_due(), states.Pending()) == "Cancelled"
        await server.at(first + timedelta(days=2, minutes=1))
        assert [state for _, state in await server.nights()] == ["Running", "Cancelled", "Cancelled"]

    asyncio.run(story())
