"""`python -m pipelines.experiment`: every stage of `dvc.yaml` as a task of one Prefect flow, in the order of the DAG.

The same stages and the same outputs as `dvc repro`, with a log, a state and a duration of every stage in Prefect.
"""

from stages.runtime import startup

if __name__ == "__main__":
    startup.start()  # before Prefect is imported, which may call home at once

import argparse
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn
from uuid import UUID

from prefect import flow, get_run_logger, runtime
from prefect.exceptions import TerminationSignal
from prefect.states import Cancelled, Completed, Failed, State
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from pipelines.dvc import dag, remote
from pipelines.dvc.dag import DagError
from pipelines.dvc.repair import repair
from pipelines.dvc.reproduce import Outcome
from pipelines.flow import param_overrides
from pipelines.flow.flow_run import FlowRun
from pipelines.flow.param_overrides import OverrideError
from pipelines.flow.tasks import run_stages
from pipelines.prefect import artifacts, flow_runs, internals, server
from pipelines.prefect.server import ServerError
from stages.runtime import parent

STORAGE = Path(".prefect/storage")  # Prefect needs one, although no result is written there
ENDING = 30  # seconds between Ctrl-C or SIGTERM and the end, where Prefect's server is away


@flow(  # what is named here, no PREFECT_ variable of the user changes
    name="experiment",
    persist_result=False,
    result_storage=STORAGE,
    retries=0,
    task_runner=ThreadPoolTaskRunner(max_workers=sys.maxsize),
)
def experiment(
    targets: list[str] | None = None,
    overrides: list[str] | None = None,
    jobs: Annotated[int, Field(ge=1)] = 1,
    keep_going: bool = True,
    keep: bool = False,
) -> State:
    """Bring the experiment up to date, as `dvc repro` does.

    Args:
        targets: stages, or all of a matrix by its name, as `train`, with what they are made from; default: everything.
        overrides: keys of params.yaml to change for this run, as `experiment.seeds=[0,1,2]`. At its end the file is put
            back. `results` and `reports` then hold this run; the next run brings the old ones back from DVC's cache.
        jobs: stages that run at once.
        keep_going: after a stage failed, still run what does not wait for it.
        keep: where the run succeeds, leave the overrides in params.yaml for good, for all later runs and every night.
    """
    startup.start()
    if internals.flow_run_of(os.environ):  # a worker started this process
        parent.exit_with_parent()
    internals.keep_events_in_outages()
    flow_runs.own(UUID(runtime.flow_run.id), runtime.flow_run.flow_name)
    say = get_run_logger().info
    try:
        dag.check_root()
        with param_overrides.held(overrides or [], say) as keep_overrides:
            repair(say)
            remote.say_unused(say)
            pipeline = dag.look()
            stages = dag.restrict(pipeline.dag, targets or [])
            flow_run = FlowRun(stages, pipeline, jobs, keep_going)
            outcomes = _shown_in_prefect(flow_run)
            dag.sort_lock(pipeline.dag)
            state = _summary(outcomes, flow_run.cancelled)
            if keep and state.is_completed():
                keep_overrides()
            return state
    except (OverrideError, DagError) as error:
        return Failed(message=str(error))


def _shown_in_prefect(flow_run: FlowRun) -> dict[str, str]:
    """Run the stages, while Prefect shows how far they are and may cancel them. What became of each."""
    artifacts.show_links()
    with flow_runs.watched(UUID(runtime.flow_run.id), flow_run.cancel, flow_run.progress.show):
        try:
            outcomes = run_stages(flow_run)
        except BaseException as error:  # Ctrl-C, SIGTERM, cancelled by a worker: Prefect would wait for every task
            flow_run.end()
            _exit_later(error)
            raise
    flow_run.progress.show()
    if outcomes.get("report") in set(Outcome):
        artifacts.show_results()
    return outcomes


def _exit_later(error: BaseException) -> None:
    """End the process in any case: Prefect would try for minutes to tell a server that is away."""
    if isinstance(error, SystemExit | TerminationSignal):
        code = error.code if isinstance(error, SystemExit) else 128 + error.signal
        deadline = threading.Timer(ENDING, os._exit, [code])
        deadline.daemon = True
        deadline.start()


def _summary(outcomes: Mapping[str, str], cancelled: bool) -> State:
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
        server.leave_out_unusable_proxies()
        repair()
        param_overrides.put_back(print)
        if not param_overrides.check(options.set) and options.targets:  # a change may change what stages there are
            dag.restrict(dag.read(), options.targets)
        with _server():
            state = experiment(
                options.targets, options.set, options.jobs, options.keep_going, keep=True, return_state=True
            )
    except (OverrideError, DagError, ServerError) as error:
        sys.exit(f"error: {error}")
    if not state.is_completed():
        sys.exit(f"error: {state.message}")
    print(state.message)


@contextmanager
def _server() -> Iterator[None]:
    """The server that is set, or a temporary one while the block runs. Raises ServerError."""
    if server.address():
        server.check()
        yield
        return
    with server.temporary():
        try:
            yield
        finally:
            flow_runs.settle()


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
        help="change params.yaml first, where the schema allows it: experiment.seeds=[0,1,2]; may be given again. "
        "After a run that succeeds the change stays, as with dvc exp run -S; after any other the file is put back",
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
