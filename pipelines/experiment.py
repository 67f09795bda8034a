"""`python -m pipelines.experiment`: every stage of `dvc.yaml` as a task of one Prefect flow, in the order of the DAG.

The same stages and the same outputs as `dvc repro`, with a log, a state and a duration of every stage in Prefect.
"""

import argparse
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Annotated, NoReturn
from uuid import UUID

from prefect import flow, get_run_logger, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.exceptions import TerminationSignal
from prefect.futures import PrefectFuture
from prefect.states import Cancelled, Completed, Failed, State
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from pipelines.dvc import dag
from pipelines.dvc.dag import Dag, DagError
from pipelines.dvc.repair import repair
from pipelines.dvc.reproduce import LockedError, Outcome, StageFailedError, StorageError, reproduce, stop
from pipelines.flow import overrides as knobs
from pipelines.flow.gpus import Gpus
from pipelines.flow.overrides import OverrideError
from pipelines.flow.scheduler import ClosedError, Turns
from pipelines.prefect import artifacts, claims, runs, server
from pipelines.prefect.claims import ClaimedError
from pipelines.prefect.server import ServerError
from stages.runtime.parent import exit_with_parent

PAUSES = (5, 10, 20, 40, 60)  # seconds before a stage is tried again; the last one again and again
RETRIES = 100_000  # a lock or a claim may last as long as a training
FAULTS = 20  # tries of a stage while a storage or a server is away, about 18 minutes
ENDING = 30  # seconds between Ctrl-C or SIGTERM and the end, where Prefect's server is away


class EndedError(ClosedError):
    """A stage was at work when the flow was ended."""


class Work:
    """What the tasks of one flow run share: whose turn it is, how far they are, and how they end."""

    def __init__(self, stages: Dag, unchanged: set[str], jobs: int, keep_going: bool):
        self.progress = artifacts.Progress(list(stages))
        self.turns = Turns(stages, jobs)
        self.cancelled = False
        self._stages, self._unchanged = stages, unchanged
        self._keep_going = keep_going
        self._ended = False
        self._remote = claims.remote()
        self._gpus = Gpus()
        self._tries: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()
        self._outcomes: dict[str, Outcome] = {}
        self._pushing: dict[str, Outcome] = {}

    def do(self, stage: str, say: Callable[[str], None]) -> Outcome:
        """One stage.

        Raises:
            LockedError, ClaimedError, StorageError: to be tried again; it has paused for that, and has its turn again.
            StageFailedError: see there.
            ClosedError, EndedError: nothing starts any more, or the stage was ended with the flow.
        """
        self.turns.check(stage)
        self.progress.set(stage, "running")
        started = time.monotonic()
        try:
            outcome = self._reproduce(stage, say)
        except (LockedError, ClaimedError, StorageError) as error:
            self._pause(stage, error, say)
            raise
        except StageFailedError:
            if self._ended:
                raise EndedError("stopped with the flow") from None
            raise
        self._outcomes[stage] = outcome
        took = "" if outcome is Outcome.UNCHANGED else f", {time.monotonic() - started:.0f} s"
        self.progress.set(stage, f"{outcome}{took}")
        return outcome

    def ended(self, stage: str, future: PrefectFuture) -> None:
        """A task is over, in whichever way."""
        outcome = _outcome(future)
        if outcome not in set(Outcome):
            self.progress.set(stage, outcome)
        if outcome == "failed" and not self._keep_going:
            self.turns.close(f"{stage} failed")
        self.turns.ended(stage, outcome in set(Outcome))

    def end(self) -> None:
        """Start no further stage, and end at once what runs or waits."""
        self._ended = True
        self.turns.close("the flow is being ended")
        stop()

    def cancel(self) -> None:
        self.cancelled = True
        self.end()

    def _reproduce(self, stage: str, say: Callable[[str], None]) -> Outcome:
        """With a DVC remote, other machines may do the same stages: one does each, and the others pull its outputs."""
        if self._remote:
            with claims.claimed(stage, say) if server.is_shared() else nullcontext():
                with self._gpus.one() as environment:
                    outcome = reproduce(stage, say, pull=True, environment=environment)
                outcome = self._pushing.setdefault(stage, outcome)  # a push that is tried again finds it unchanged
                claims.push(stage, say)
            return outcome
        before = {self._outcomes[needed] for needed in self._stages[stage]}
        if stage in self._unchanged and before <= {Outcome.UNCHANGED}:
            say(f"Stage '{stage}' didn't change, skipping")
            return Outcome.UNCHANGED
        with self._gpus.one() as environment:
            return reproduce(stage, say, environment=environment)

    def _pause(self, stage: str, error: Exception, say: Callable[[str], None]) -> None:
        """Before Prefect tries the stage again. Its own pause would keep the turn, and be deaf to Ctrl-C."""
        if isinstance(error, StorageError):
            self._faults[stage] += 1
            if self._faults[stage] >= FAULTS:
                raise StageFailedError(f"{stage} was tried {FAULTS} times: {error}") from error
        pause = PAUSES[min(self._tries[stage], len(PAUSES) - 1)]
        self._tries[stage] += 1
        reason = str(error).strip().splitlines()[-1]
        say(f"{stage} is tried again in {pause} s: {reason}")
        self.progress.set(stage, f"waits: {reason}")
        self.turns.pause(stage, pause)


def _is_passing(task, task_run, state: State) -> bool:
    """Whether a failure is a lock, a claim or a storage that is away: the only ones that are tried again."""
    return isinstance(state.result(raise_on_failure=False), LockedError | ClaimedError | StorageError)


@task(
    task_run_name="{name}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=RETRIES,
    retry_condition_fn=_is_passing,
)
def stage(name: str, work: Work) -> State:
    """One DVC stage. Completed as what DVC did, failed where DVC fails, cancelled where it is not to run."""
    try:
        outcome = work.do(name, get_run_logger().info)
    except EndedError as error:
        return Cancelled(name="Stopped", message=str(error))
    except ClosedError as error:
        return Cancelled(name="Skipped", message=f"not started: {error}")
    return Completed(name=outcome.capitalize(), message=f"{name} {outcome}")


@task(task_run_name="mlflow", cache_policy=NO_CACHE, persist_result=False)
def mlflow() -> State:
    """Bring MLflow into step with DVC's outputs. A view: where that fails, the flow does not."""
    try:
        from pipelines.mlflow.sync import sync

        return Completed(message=sync(get_run_logger().info))
    except Exception as error:
        get_run_logger().warning(
            "MLflow is not in step (python -m pipelines.sync): %s: %s", type(error).__name__, error
        )
        return Completed(name="Behind", message=f"{type(error).__name__}: {error}")


@flow(name="experiment", persist_result=False, task_runner=ThreadPoolTaskRunner(max_workers=sys.maxsize))
def experiment(
    targets: list[str] | None = None,
    overrides: list[str] | None = None,
    jobs: Annotated[int, Field(ge=1)] = 1,
    keep_going: bool = True,
) -> State:
    """Bring the experiment up to date, as `dvc repro` does.

    Args:
        targets: stages, or all of a matrix by its name, as `train`, with what they are made from; default: everything.
        overrides: knobs of params.yaml to change first, as `experiment.seeds=[0,1,2]`.
        jobs: stages that run at once.
        keep_going: after a stage failed, still run what does not wait for it.
    """
    say = get_run_logger().info
    if "PREFECT__FLOW_RUN_ID" in os.environ:  # a worker started it, and is its parent
        exit_with_parent()
    runs.outlive_outages()
    runs.own(UUID(runtime.flow_run.id), runtime.flow_run.flow_name)
    try:
        dag.check_root()
        with knobs.held(overrides or [], say):
            repair(say)
            whole, unchanged = dag.look()
            stages = dag.restrict(whole, targets or [])
            return _run(whole, stages, Work(stages, unchanged, jobs, keep_going))
    except (OverrideError, DagError) as error:
        return Failed(message=str(error))


def _run(whole: Dag, stages: Dag, work: Work) -> State:
    artifacts.show_links()
    with runs.watched(UUID(runtime.flow_run.id), work.cancel, work.progress.show):
        try:
            outcomes = _outcomes(stages, work)
        except BaseException as error:  # Ctrl-C, SIGTERM, cancelled by a worker: Prefect would wait for every task
            work.end()
            _exit_later(error)
            raise
    work.progress.show()
    if outcomes.get("report") in set(Outcome):
        artifacts.show_results()
    dag.sort_lock(whole)
    return _summary(outcomes, work.cancelled)


def _exit_later(error: BaseException) -> None:
    """In any case: Prefect would tell a server that is away for minutes."""
    if isinstance(error, SystemExit | TerminationSignal):
        code = error.code if isinstance(error, SystemExit) else 128 + error.signal
        deadline = threading.Timer(ENDING, os._exit, [code])
        deadline.daemon = True
        deadline.start()


def _outcomes(stages: Dag, work: Work) -> dict[str, str]:
    """What became of every stage: one of `Outcome`, failed, skipped or stopped."""
    running: dict[str, PrefectFuture] = {}
    for name in work.turns.order():
        running[name] = stage.submit(name, work, wait_for=[running[needed] for needed in work.turns.well(stages[name])])
        running[name].add_done_callback(partial(work.ended, name))
    outcomes = {name: _outcome(running[name]) for name in stages}
    if not work.cancelled and {Outcome.RAN, Outcome.CACHED} & set(outcomes.values()):
        mlflow.submit().wait()
    return outcomes


def _outcome(future: PrefectFuture) -> str:
    future.wait()
    state = future.state
    return state.name.lower() if state.is_completed() or state.is_cancelled() else "failed"


def _summary(outcomes: dict[str, str], cancelled: bool) -> State:
    """Completed only where every stage is up to date."""
    counted = Counter(outcomes.values())
    shown = [*Outcome, "failed", "skipped", *(["stopped"] if counted["stopped"] else [])]
    message = ", ".join(f"{counted[kind]} {kind}" for kind in shown)
    for kind in ("failed", "skipped", "stopped"):
        if counted[kind]:
            message += f"; {kind}: {', '.join(name for name, outcome in outcomes.items() if outcome == kind)}"
    if cancelled:
        return Cancelled(message=message)
    return Completed(message=message) if set(outcomes.values()) <= set(Outcome) else Failed(message=message)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the flow; exit code 1 and the names of the stages where one failed, 130 after Ctrl-C, 143 after SIGTERM."""
    options = _parser().parse_args(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupted)
    try:
        dag.check_root()
        repair()
        if not knobs.check(options.set) and options.targets:  # what is set may change what stages there are
            dag.restrict(dag.read(), options.targets)
        with _server():
            state = experiment(options.targets, options.set, options.jobs, options.keep_going, return_state=True)
    except (OverrideError, DagError, ServerError) as error:
        sys.exit(f"error: {error}")
    if not state.is_completed():
        sys.exit(f"error: {state.message}")
    print(state.message)


@contextmanager
def _server() -> Iterator[None]:
    if server.address():
        server.check()
        yield
        return
    with server.temporary():
        try:
            yield
        finally:
            runs.settle()


def _interrupted(number: int, frame: object) -> NoReturn:
    """Ctrl-C or SIGTERM: the flow ends its stages, and tells Prefect, if that listens."""
    print("interrupted: running stages are stopped, finished stages stay", file=sys.stderr)
    sys.exit(128 + number)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.experiment",
        description="Bring the experiment up to date, as `dvc repro` does, with a log and a state of every stage.",
    )
    parser.add_argument("targets", nargs="*", help="stages, or a matrix by its name: train (default: all)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change params.yaml first, where the schema allows it: experiment.seeds=[0,1,2]; may be given again",
    )
    parser.add_argument("--jobs", type=_jobs, default=1, metavar="N", help="stages that run at once (default: 1)")
    parser.add_argument(
        "--keep-going",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="after a stage failed, still run what does not wait for it",
    )
    return parser


def _jobs(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a number from 1 on, found {text!r}")
    return int(text)


if __name__ == "__main__":
    main()
