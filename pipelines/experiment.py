"""`python -m pipelines.experiment`: every stage of `dvc.yaml` as a task of one Prefect flow, in the order of the DAG.

The same stages and the same outputs as `dvc repro`, with a log, a state and a duration of every stage in Prefect.
"""

import argparse
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import NoReturn

from filelock import FileLock
from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture
from prefect.settings import get_current_settings
from prefect.states import Completed, Failed, State
from prefect.task_runners import ThreadPoolTaskRunner

from pipelines import dag
from pipelines.reproduce import LockedError, Outcome, reproduce, stop

LOCK_RETRIES, LOCK_DELAY = 120, 5  # times, seconds


def _is_locked(task, task_run, state: State) -> bool:
    """Whether a failure is another DVC process at work: the only one that is tried again."""
    return isinstance(state.result(raise_on_failure=False), LockedError)


@task(
    task_run_name="{name}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=LOCK_RETRIES,
    retry_delay_seconds=LOCK_DELAY,
    retry_condition_fn=_is_locked,
)
def stage(name: str) -> State:
    """One DVC stage. Completed as what DVC did; failed where DVC fails."""
    outcome = reproduce(name, get_run_logger().info)
    return Completed(name=outcome.capitalize(), message=f"{name} {outcome}")


@flow(name="experiment", persist_result=False)
def experiment(targets: list[str] | None = None) -> State:
    """Bring the targets, or everything, up to date. A stage that fails stops what waits for it, and nothing else."""
    whole = dag.read()
    stages = dag.restrict(whole, targets or [])
    running: dict[str, PrefectFuture] = {}
    try:
        for name, needed in stages.items():
            running[name] = stage.submit(name, wait_for=[running[other] for other in needed])
        outcome = {name: _outcome(future) for name, future in running.items()}
    except BaseException:  # Ctrl-C, SIGTERM, cancelled: Prefect would wait for every task
        stop()
        raise
    dag.sort_lock(whole)
    return _summary(outcome)


def _outcome(future: PrefectFuture) -> str:
    """One of `Outcome`, failed, or skipped where a stage it waits for failed."""
    future.wait()
    if future.state.is_completed():
        return future.state.name.lower()
    return "skipped" if future.state.is_pending() else "failed"


def _summary(outcome: dict[str, str]) -> State:
    by_outcome = {
        kind: [name for name, found in outcome.items() if found == kind] for kind in (*Outcome, "failed", "skipped")
    }
    message = ", ".join(f"{len(names)} {kind}" for kind, names in by_outcome.items())
    for kind in ("failed", "skipped"):
        if by_outcome[kind]:
            message += f"; {kind}: {', '.join(by_outcome[kind])}"
    return Failed(message=message) if by_outcome["failed"] else Completed(message=message)


def prepare_database() -> None:
    """Create Prefect's own database, once: flows that start at once on a fresh home would each try."""
    settings = get_current_settings()
    if settings.api.url or (settings.home / "prefect.db").exists():
        return
    settings.home.mkdir(parents=True, exist_ok=True)
    with FileLock(settings.home / "database.lock"):
        subprocess.run([sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"], check=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the flow; exit code 1 and the names of the stages where one failed, 130 after Ctrl-C, 143 after SIGTERM."""
    options = _parser().parse_args(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupted)
    try:
        dag.restrict(dag.read(), options.targets)
    except dag.DagError as error:
        sys.exit(f"error: {error}")
    prepare_database()
    flow_of_jobs = experiment.with_options(task_runner=ThreadPoolTaskRunner(max_workers=options.jobs))
    state = flow_of_jobs(options.targets, return_state=True)
    if not state.is_completed():
        sys.exit(f"error: {state.message}")
    print(state.message)


def _interrupted(number: int, frame: object) -> NoReturn:
    """Ctrl-C or SIGTERM: the stages first, since Prefect waits for its tasks; a bare end would orphan its server."""
    stop()
    print("interrupted: running stages were stopped, finished stages stay", file=sys.stderr)
    sys.exit(128 + number)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.experiment",
        description="Bring the experiment up to date, as `dvc repro` does, with a log and a state of every stage.",
    )
    parser.add_argument("targets", nargs="*", help="stages, or a matrix by its name: train (default: all)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="stages that run at once (default: 1)")
    return parser


if __name__ == "__main__":
    main()
