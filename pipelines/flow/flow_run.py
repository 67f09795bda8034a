"""One run of the flow: what its tasks share."""

import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext

import joblib

from pipelines.dvc import dag, remote, stage_name
from pipelines.dvc.dag import Dag, Pipeline
from pipelines.dvc.reproduce import LockedError, Outcome, StageFailedError, StorageError, reproduce, stop
from pipelines.flow import progress
from pipelines.flow.gpus import Gpus
from pipelines.flow.progress import Progress, Viewer
from pipelines.flow.scheduler import ClosedError, StageScheduler
from pipelines.prefect import claims, server
from pipelines.prefect.claims import ClaimedError
from stages.runtime.progress import VARIABLE

PAUSES = (5, 10, 20, 40, 60)  # seconds before a stage is tried again; the last one again and again
FAULTS = 20  # tries of a stage while a storage or a server is away, about 18 minutes
TO_TRY_AGAIN = (LockedError, ClaimedError, StorageError)

Say = Callable[[str], None]


class EndedError(ClosedError):
    """The stage was running when the flow was ended."""


class FlowRun:
    """Which stage starts when, how far each is, and how all of them end.

    Attributes:
        stages: those of this run.
        cancelled: whether the run was cancelled in Prefect.
    """

    def __init__(self, stages: Dag, pipeline: Pipeline, jobs: int, keep_going: bool, viewer: Viewer):
        self.stages = stages
        self._gpus = Gpus()
        jobs = jobs or self._gpus.count or joblib.cpu_count()
        self.progress = Progress(stages, progress.stale(stages, pipeline.settled), jobs, viewer)
        self.scheduler = StageScheduler(stages, jobs)
        self.cancelled = False
        self._pipeline = pipeline
        self._keep_going = keep_going
        self._ended = False
        self._has_remote = remote.name() is not None
        self._tries: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()
        self._outcomes: dict[str, Outcome] = {}
        self._looked_after: set[str] = set()  # they have run, and then the state of all others was looked at again
        self._to_push: dict[str, Outcome] = {}

    def do(self, stage: str, say: Say) -> Outcome:
        """Bring one stage up to date.

        Args:
            say: gets every line of DVC, and of what is done about the stage.

        Raises:
            LockedError, ClaimedError, StorageError: to be tried again now: the pause is over, and the stage has a slot.
            StageFailedError: the stage failed.
            ClosedError: no stage starts any more.
            EndedError: the stage was ended with the flow.
        """
        self.scheduler.check(stage)

        def tell(line: str) -> None:
            say(line)
            self.progress.said(stage, line)

        try:
            outcome = self._up_to_date(stage, tell)
        except TO_TRY_AGAIN as error:
            self._pause(stage, error, say)
            raise
        except StageFailedError:
            if self._ended:
                raise EndedError("stopped with the flow") from None
            raise
        except Exception as error:
            if not isinstance(error, ClosedError):
                self.progress.said(stage, traceback.format_exc())
            raise
        self._outcomes[stage] = outcome
        self.progress.end(stage, outcome)
        return outcome

    def ended(self, stage: str, outcome: str) -> None:
        """The task of a stage is over, with an `Outcome` or as failed, skipped or stopped."""
        if outcome not in set(Outcome):
            self.progress.end(stage, outcome)
        if outcome == "failed" and not self._keep_going:
            self.scheduler.close(f"{stage} failed")
        self.scheduler.ended(stage, outcome in set(Outcome))

    def end(self) -> None:
        """Start no further stage, and end at once what runs or waits."""
        self._ended = True
        self.scheduler.close("the flow is being ended")
        stop()

    def cancel(self) -> None:
        """The same, as somebody cancelled the run in Prefect."""
        self.cancelled = True
        self.end()

    def _up_to_date(self, stage: str, say: Say) -> Outcome:
        if self._has_remote:
            return self._shared(stage, say)
        needed = {self._outcomes[name] for name in self.stages[stage] - self._looked_after}
        if stage in self._pipeline.unchanged and needed <= {Outcome.UNCHANGED}:
            say(f"Stage '{stage}' didn't change, skipping")
            return Outcome.UNCHANGED
        return self._reproduce(stage, say)

    def _shared(self, stage: str, say: Say) -> Outcome:
        """With a DVC remote, other machines may do the same stages: one does each, and the others pull its outputs."""
        with claims.claimed(stage, say) if server.is_shared() else nullcontext():
            outcome = self._reproduce(stage, say, pull=True)
            outcome = self._to_push.setdefault(stage, outcome)  # a push that is tried again finds it unchanged
            remote.push(stage, say)
        return outcome

    def _reproduce(self, stage: str, say: Say, pull: bool = False) -> Outcome:
        self.progress.start(stage)
        with self._gpus.one() as gpu:
            environment = {**gpu, VARIABLE: str(self.progress.file(stage))}
            outcome = reproduce(stage, say, pull=pull, environment=environment)
        before = self._pipeline.outputs.get(stage)
        if outcome is Outcome.RAN and before is not None and before == dag.recorded_outputs(stage):
            say(f"Stage '{stage}' runs each time, and its outputs didn't change")
            return Outcome.UNCHANGED
        if outcome is Outcome.RAN and stage in self._pipeline.commands and self._pipeline.unchanged:
            self._look_again(stage)
        return outcome

    def _look_again(self, ran: str) -> None:
        """A stage that runs each time, such as `params`, has made something new: see for all stages whom that concerns.

        To ask DVC about each of those that need it would take a second for each.
        """
        of = dict.fromkeys(stage_name.split(stage)[0] for stage in self._pipeline.dag)
        self._pipeline = self._pipeline._replace(unchanged=dag.look(list(of)).unchanged)
        self._looked_after.add(ran)
        self.progress.stale = progress.stale(self.stages, self._pipeline.settled)

    def _pause(self, stage: str, error: Exception, say: Say) -> None:
        """Wait before Prefect tries the stage again. Its own pause would keep the slot, and ignore Ctrl-C."""
        if isinstance(error, StorageError):
            self._faults[stage] += 1
            if self._faults[stage] >= FAULTS:
                self.progress.said(stage, f"error: tried {FAULTS} times: {error}")
                raise StageFailedError(f"{stage} was tried {FAULTS} times: {error}") from error
        pause = PAUSES[min(self._tries[stage], len(PAUSES) - 1)]
        self._tries[stage] += 1
        reason = str(error).strip().splitlines()[-1]
        say(f"{stage} is tried again in {pause} s: {reason}")
        self.progress.wait(stage, reason)
        self.scheduler.pause(stage, pause)
