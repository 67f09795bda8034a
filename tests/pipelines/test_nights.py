"""When the nights of `prefect.yaml` begin, asked of Prefect's own schedule as its scheduler asks: again and again."""

import asyncio
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from prefect.server.schemas.schedules import CronSchedule

from stages.runtime.dvc_internals import read_yaml

DAYS = 4
CHANGES = [  # noon two days before the clocks change, and the hours at which the night of that day may begin
    ("Europe/Berlin", datetime(2026, 3, 27, 12, tzinfo=UTC), (1, 3)),  # 2 o'clock does not come
    ("Europe/Berlin", datetime(2026, 10, 23, 12, tzinfo=UTC), (2,)),  # it comes twice
    ("America/New_York", datetime(2026, 3, 6, 12, tzinfo=UTC), (1, 3)),
    ("America/New_York", datetime(2026, 10, 30, 12, tzinfo=UTC), (2,)),
    ("UTC", datetime(2026, 3, 27, 12, tzinfo=UTC), (2,)),
]


def nights(root, zone: str, noon: datetime) -> list[datetime]:
    """The moments, in local time, that the scheduler finds when it asks every hour for the next five nights."""
    deployments = {item["name"]: item for item in read_yaml(root / "prefect.yaml")["deployments"]}
    (schedule,) = deployments["nightly"]["schedules"]
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
