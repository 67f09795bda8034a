"""How far a flow run is: what terminal, pipe and Prefect's page show, each in its way."""

import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from pipelines.dvc.dag import Dag
from pipelines.dvc.reproduce import Outcome
from pipelines.flow.timings import Timings
from stages.runtime import dvc_internals, progress
from stages.runtime.progress import Position

FOLDER = Path(".dvc/tmp/progress")  # a stage that starts removes what a kill has left there
WAITING, RUNNING = "waiting", "running"
CAUSES = ("error:", "Traceback (most recent call last)")  # begin a stage's own words about why it failed


@dataclass
class StageProgress:
    """One stage in this flow run.

    Attributes:
        state: waiting, running, `waits: REASON`, or what became of it: an `Outcome`, failed, skipped, stopped.
        began: the time when it began, as `time.monotonic` has it; None where it has not.
        took: seconds; None where it has not ended, or did not run.
        lines: what the stage itself printed, and DVC's errors.
    """

    state: str = WAITING
    began: float | None = None
    took: float | None = None
    lines: list[str] = field(default_factory=list)

    @property
    def described(self) -> str:
        """`ran in 48 s`."""
        took = None if self.state == Outcome.UNCHANGED else self.took
        return self.state if took is None else f"{self.state} in {span(took)}"


class Left(NamedTuple):
    """Seconds to the end of the flow run; `at_least` where some stages are unknown."""

    seconds: float
    at_least: bool


class Viewer(Protocol):
    """Who shows the progress. It is called from the threads of the stages."""

    def begin(self, progress: "Progress") -> None:
        """The stages are known, and none has started."""

    def changed(self, stage: str) -> None:
        """A stage has another state."""

    def said(self, stage: str, line: str) -> None:
        """A stage has printed a line."""


class Progress:
    """The state of every stage of a flow run, and how long what is left will take.

    Args:
        stages: those of this run.
        stale: those of them that are not up to date, as far as that is known before any has run.
        jobs: how many run at once.
    """

    def __init__(self, stages: Dag, stale: Collection[str], jobs: int, viewer: Viewer):
        self.stale = stale
        self._began = time.monotonic()
        self._stages, self._jobs, self._viewer = stages, jobs, viewer
        self._each = {stage: StageProgress() for stage in stages}
        self._timings = Timings()
        viewer.begin(self)

    def __getitem__(self, stage: str) -> StageProgress:
        return self._each[stage]

    def items(self) -> list[tuple[str, StageProgress]]:
        """Stages in the order of the DAG."""
        return list(self._each.items())

    def in_state(self, *states: str) -> list[str]:
        return [stage for stage, each in self.items() if each.state in states]

    @property
    def done(self) -> list[str]:
        """The stages that are up to date."""
        return self.in_state(*Outcome)

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._began

    def so_far(self, stage: str) -> float:
        """Seconds since a stage began; 0 where it has not."""
        began = self._each[stage].began
        return 0.0 if began is None else time.monotonic() - began

    def file(self, stage: str) -> Path:
        """Where the stage may write how far it is."""
        return FOLDER.absolute() / f"{stage}.json"

    def position(self, stage: str) -> Position | None:
        """What the stage wrote there."""
        return progress.read(self.file(stage))

    def start(self, stage: str) -> None:
        self.file(stage).unlink(missing_ok=True)
        each = self._each[stage]
        each.began, each.lines = time.monotonic(), []
        self._set(stage, RUNNING)

    def said(self, stage: str, line: str) -> None:
        """A line about the stage: of the stage, of DVC, or of an error in the flow itself."""
        for each in line.splitlines():
            if not dvc_internals.is_chatter(each):
                self._each[stage].lines.append(each)
                self._viewer.said(stage, each)

    def wait(self, stage: str, reason: str) -> None:
        self._set(stage, f"waits: {reason}")

    def end(self, stage: str, outcome: str) -> None:
        """What became of a stage: an `Outcome`, failed, skipped or stopped."""
        each = self._each[stage]
        if each.state == RUNNING:
            each.took = self.so_far(stage)
            if outcome == Outcome.RAN:
                self._timings.add(stage, each.took)
        self.file(stage).unlink(missing_ok=True)
        self._set(stage, outcome)

    def cause(self, stage: str) -> list[str]:
        """Why a stage failed, in its own words, or else in DVC's."""
        lines = self._each[stage].lines
        begins = [place for place, line in enumerate(lines) if line.startswith(CAUSES)]
        own = [line for line in lines[begins[-1] :] if not line.startswith(dvc_internals.ERROR)] if begins else []
        return own or [line.removeprefix(f"{dvc_internals.ERROR}: ") for line in lines[-3:]]

    def left(self, stage: str) -> float | None:
        """Seconds to the end of a stage that runs, 0 where it takes longer than expected; None if unknown."""
        if (position := self.position(stage)) and position.left is not None:
            return position.left
        expected = self._timings.expected(stage, {})
        return None if expected is None else max(expected - self.so_far(stage), 0.0)

    def left_of_all(self) -> Left | None:
        """Seconds to the end of the flow run: of the longest way through the DAG, or of all work if that is more.

        None where nothing is known.
        """
        left = {stage: self.left(stage) for stage in self.in_state(RUNNING)}
        running = {stage: self.so_far(stage) + seconds for stage, seconds in left.items() if seconds is not None}
        for stage, each in self.items():
            if (each.state == WAITING and stage in self.stale) or each.state.startswith("waits"):
                left[stage] = self._timings.expected(stage, running)
        ways: dict[str, float] = {}
        for stage, needed in self._stages.items():
            ways[stage] = (left.get(stage) or 0) + max((ways[name] for name in needed), default=0)
        seconds = max(max(ways.values(), default=0), sum(filter(None, left.values())) / self._jobs)
        return Left(seconds, at_least=None in left.values()) if seconds else None

    @property
    def summary(self) -> str:
        """`14 of 51 stages done in 3 min, about 12 min left`."""
        left = self.left_of_all()
        words = f"{len(self.done)} of {len(self._each)} stages done in {span(self.seconds)}"
        if left and left.seconds >= 1:
            words += f", {'at least' if left.at_least else 'about'} {span(left.seconds)} left"
        return words

    def _set(self, stage: str, state: str) -> None:
        self._each[stage].state = state
        self._viewer.changed(stage)


def span(seconds: float) -> str:
    """`48 s`, `12 min`, `2 h 5 min`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def stale(stages: Dag, settled: Collection[str]) -> set[str]:
    """The stages that are not settled, and those that are made from them."""
    found: set[str] = set()
    for stage, needed in stages.items():
        if stage not in settled or needed & found:
            found.add(stage)
    return found
