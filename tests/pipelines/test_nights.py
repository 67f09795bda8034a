"""When the nights of `prefect.yaml` begin, asked of Prefect's own schedule as its scheduler asks: again and again."""

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from prefect.server.schemas.schedules import CronSchedule

from stages.runtime.dvc_internals import read_yaml

DAYS = 4
CHANGES = [  # noon two days before the clocks change, in UTC
    ("Europe/Berlin", datetime(2026, 3, 27, 12, tzinfo=UTC)),
    ("Europe/Berlin", datetime(2026, 10, 23, 12, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 3, 6, 12, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 10, 30, 12, tzinfo=UTC)),
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


@pytest.mark.parametrize(("zone", "noon"), CHANGES)
def test_around_a_change_of_the_clocks_each_night_comes_once(root, zone, noon):
    """2 o'clock is there twice in autumn, and not at all in spring: then the night begins up to an hour apart."""
    found = nights(root, zone, noon)
    assert [night.date() for night in found] == [noon.date() + timedelta(days=day) for day in range(1, DAYS + 1)]
    _, changing, *others = found
    assert [night.hour for night in others] == [2, 2] and found[0].hour == 2
    assert changing.hour in ((2,) if noon.month > 6 else (1, 3))


@pytest.mark.parametrize(("_", "noon"), CHANGES)
def test_in_utc_all_nights_are_a_day_apart(root, _, noon):
    found = nights(root, "UTC", noon)
    assert {after - before for before, after in pairwise(found)} == {timedelta(days=1)}
