"""Which stage starts when: at most so many at once, and of those that could, the first in the order of the DAG."""

import threading
from collections.abc import Iterable, Iterator

from pipelines.dvc.dag import Dag


class ClosedError(Exception):
    """No stage starts any more; the message says why."""


class Turns:
    """Shared by the thread that starts stages and the threads that they run in."""

    def __init__(self, stages: Dag, jobs: int):
        self._stages = stages
        self._jobs = jobs
        self._having: set[str] = set()
        self._well: set[str] = set()
        self._not_well: dict[str, str] = {}  # and why
        self._closed: str | None = None
        self._changed = threading.Condition()

    def order(self) -> Iterator[str]:
        """Every stage, as soon as it has a turn; without one where it can have none, after a failure or `close`."""
        waiting = list(self._stages)
        while waiting:
            with self._changed:
                self._changed.wait_for(lambda: self._next(waiting))
                stage = self._next(waiting)
                if not self._closed and stage not in self._not_well:
                    self._having.add(stage)
            waiting.remove(stage)
            yield stage

    def pause(self, stage: str, seconds: float) -> None:
        """Give the turn of a stage back, wait, and take another. Raises ClosedError at once where `close` is called."""
        with self._changed:
            self._having.discard(stage)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._closed, seconds)
            self._changed.wait_for(lambda: self._closed or self._is_free())
            self.check(stage)
            self._having.add(stage)

    def ended(self, stage: str, well: bool) -> None:
        """A stage is over: it gives its turn back, and what waits for it may start, or never can."""
        with self._changed:
            self._having.discard(stage)
            if well:
                self._well.add(stage)
            else:
                self._not_well.setdefault(stage, f"{stage} did not end well")
            for other, needed in self._stages.items():
                for reason in (self._not_well[name] for name in needed if name in self._not_well):
                    self._not_well.setdefault(other, reason)
            self._changed.notify_all()

    def close(self, reason: str) -> None:
        """Give no further turn; stages that have one keep it."""
        with self._changed:
            self._closed = self._closed or reason
            self._changed.notify_all()

    def check(self, stage: str) -> None:
        """Raises ClosedError where the stage is to do nothing: after `close`, or a failure of what it waits for."""
        if reason := self._closed or self._not_well.get(stage):
            raise ClosedError(reason)

    def well(self, stages: Iterable[str]) -> list[str]:
        """Those that have ended well."""
        return [stage for stage in stages if stage in self._well]

    def _next(self, waiting: list[str]) -> str | None:
        if self._closed:
            return waiting[0]
        for stage in waiting:
            if stage in self._not_well or (self._is_free() and self._stages[stage] <= self._well):
                return stage
        return None

    def _is_free(self) -> bool:
        return len(self._having) < self._jobs
