"""Which stage starts when: no more at once than allowed, and of those that could, the first in the order of the DAG.

Never two of the same bare name: what one experiment makes, DVC's run-cache gives to the next, if it is the same.
"""

import threading
from collections.abc import Iterable, Iterator

from pipelines.dvc.dag import Dag
from pipelines.dvc.stage_name import bare


class ClosedError(Exception):
    """No stage starts any more; the message says why."""


class StageScheduler:
    """Gives each stage that runs one of a number of slots.

    Shared by the thread that starts stages and the threads that they run in.
    """

    def __init__(self, stages: Dag, slots: int):
        self._stages = stages
        self._slots = slots
        self._running: set[str] = set()  # each has a slot
        self._succeeded: set[str] = set()
        self._failed: dict[str, str] = {}  # failed, or waits for what failed -> why
        self._closed: str | None = None
        self._changed = threading.Condition()

    def order(self) -> Iterator[str]:
        """Every stage, as soon as it has a slot. One that can get none, after a failure or `close`, comes without."""
        waiting = list(self._stages)
        while waiting:
            with self._changed:
                self._changed.wait_for(lambda: self._next(waiting))
                stage = self._next(waiting)
                if not self._closed and stage not in self._failed:
                    self._running.add(stage)
            waiting.remove(stage)
            yield stage

    def pause(self, stage: str, seconds: float) -> None:
        """Free the slot of a stage, wait, and take another one. Raises ClosedError, at once after `close`."""
        with self._changed:
            self._running.discard(stage)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._closed, seconds)
            self._changed.wait_for(lambda: self._closed or self._has_slot_for(stage))
            self.check(stage)
            self._running.add(stage)

    def ended(self, stage: str, succeeded: bool) -> None:
        """A stage is over. Its slot is free, and what waits for it may start, or never can."""
        with self._changed:
            self._running.discard(stage)
            if succeeded:
                self._succeeded.add(stage)
            else:
                self._failed.setdefault(stage, f"{stage} did not succeed")
            for other, needed in self._stages.items():
                for reason in (self._failed[name] for name in needed if name in self._failed):
                    self._failed.setdefault(other, reason)
            self._changed.notify_all()

    def close(self, reason: str) -> None:
        """Start no further stage; those that run keep their slots."""
        with self._changed:
            self._closed = self._closed or reason
            self._changed.notify_all()

    def check(self, stage: str) -> None:
        """Raises ClosedError where the stage must not run: after `close`, or where something that it needs failed."""
        if reason := self._closed or self._failed.get(stage):
            raise ClosedError(reason)

    def succeeded(self, stages: Iterable[str]) -> list[str]:
        """Which of the stages have succeeded."""
        return [stage for stage in stages if stage in self._succeeded]

    def _next(self, waiting: list[str]) -> str | None:
        if self._closed:
            return waiting[0]
        for stage in waiting:
            if stage in self._failed or (self._has_slot_for(stage) and self._stages[stage] <= self._succeeded):
                return stage
        return None

    def _has_slot_for(self, stage: str) -> bool:
        return len(self._running) < self._slots and bare(stage) not in map(bare, self._running)
