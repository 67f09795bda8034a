"""At most so many stages at work at once, and of those that could start, the first in the order of the DAG."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pipelines.dag import Dag

WAKING = 10  # seconds that an earlier stage may take from being ready to asking, before a later one goes first


class ClosedError(Exception):
    """No stage starts any more; the message says why."""


class Turns:
    """Every stage has a thread of its own, which asks for a turn when all that it waits for is done."""

    def __init__(self, stages: Dag, jobs: int):
        self._stages = stages
        self._places = {stage: place for place, stage in enumerate(stages)}
        self._free = jobs
        self._asking: set[str] = set()
        self._asked: set[str] = set()
        self._done: set[str] = set()
        self._closed: str | None = None
        self._changed = threading.Condition()

    @contextmanager
    def turn(self, stage: str) -> Iterator[None]:
        """Wait for a turn, and have it while the block runs. A block that ends without an exception is the stage done.

        Raises:
            ClosedError: before the block, where `close` was called.
        """
        with self._changed:
            self._asked.add(stage)
            self._asking.add(stage)
            self._changed.notify_all()
            try:
                while not self._changed.wait_for(lambda: self._closed or self._is_first(stage), WAKING):
                    if self._free and stage == min(self._asking, key=self._places.get):
                        break
            finally:
                self._asking.remove(stage)
            self._check_open()
            self._free -= 1
        done = False
        try:
            yield
            done = True
        finally:
            with self._changed:
                self._free += 1
                if done:
                    self._done.add(stage)
                self._changed.notify_all()

    def pause(self, seconds: float) -> None:
        """Wait without a turn. Raises ClosedError at once where `close` is called."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed, seconds)
            self._check_open()

    def close(self, reason: str) -> None:
        """Give no further turn; stages that have one keep it."""
        with self._changed:
            self._closed = self._closed or reason
            self._changed.notify_all()

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError(self._closed)

    def _is_first(self, stage: str) -> bool:
        """No earlier one asks, or is about to: its thread wakes a little after what it waited for is done."""
        earlier = [other for other in self._stages if self._places[other] < self._places[stage]]
        waking = any(other not in self._asked and self._stages[other] <= self._done for other in earlier)
        return self._free > 0 and self._asking.isdisjoint(earlier) and not waking
