"""The tasks of a flow run: one for each stage, and one for each experiment, which brings MLflow into step."""

from functools import partial

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture
from prefect.states import Cancelled, Completed, State

from pipelines.dvc import stage_name
from pipelines.dvc.reproduce import Outcome, StageFailedError, run
from pipelines.flow.flow_run import TO_TRY_AGAIN, EndedError, FlowRun
from pipelines.flow.scheduler import ClosedError
from pipelines.prefect import artifacts

RETRIES = 100_000  # a lock or a claim may last as long as a training


def run_stages(flow_run: FlowRun) -> dict[str, str]:
    """Run every stage, and then bring MLflow into step with each experiment in which not all were unchanged.

    Returns:
        What became of each stage: an `Outcome`, or failed, skipped, stopped.
    """
    futures: dict[str, PrefectFuture] = {}
    scheduler, needs = flow_run.scheduler, flow_run.stages
    for name in scheduler.order():
        needed = [futures[other] for other in scheduler.succeeded(needs[name])]
        futures[name] = stage.submit(name, flow_run, wait_for=needed)
        futures[name].add_done_callback(partial(_ended, flow_run, name))
    outcomes = {name: _outcome(futures[name]) for name in needs}
    changed = [stage_name.split(name)[0] for name, outcome in outcomes.items() if outcome != Outcome.UNCHANGED]
    for experiment in [] if flow_run.cancelled else dict.fromkeys(changed):
        mlflow.submit(stage_name.join(experiment, "mlflow"), experiment).wait()
    return outcomes


def _is_to_be_tried_again(task, task_run, state: State) -> bool:
    return isinstance(state.result(raise_on_failure=False), TO_TRY_AGAIN)


@task(
    task_run_name="{name}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=RETRIES,
    retry_delay_seconds=0,  # not that of the user's settings: `FlowRun` pauses by itself
    retry_condition_fn=_is_to_be_tried_again,
)
def stage(name: str, flow_run: FlowRun) -> State:
    """One DVC stage. Completed as what DVC did, failed where DVC fails, cancelled where it must not run."""
    try:
        outcome = flow_run.do(name, partial(get_run_logger().info, "%s: %s", name))
    except EndedError as error:
        return Cancelled(name="Stopped", message=str(error))
    except ClosedError as error:
        return Cancelled(name="Skipped", message=f"not started: {error}")
    return Completed(name=outcome.capitalize(), message=f"{name} {outcome}")


@task(task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False, retries=0)
def mlflow(name: str, experiment: str) -> State:
    """Bring MLflow into step with an experiment's outputs. It is a view: where that fails, the flow does not."""
    command = f"python -m pipelines.sync --experiment {experiment}"
    pages = artifacts.mlflow_pages()
    options = ["--ui", pages] if pages else []
    try:
        say = partial(get_run_logger().info, "mlflow: %s")
        lines = run(command, "pipelines.sync", "--experiment", experiment, *options, say=say)
        if pages:
            artifacts.show_views(experiment, lines)
        return Completed(message=[line for line in lines if not artifacts.VIEW.fullmatch(line)][-1])
    except StageFailedError as error:
        get_run_logger().warning("mlflow: MLflow is not in step: %s", error)
        return Completed(name="Behind", message=str(error))


def _ended(flow_run: FlowRun, name: str, future: PrefectFuture) -> None:
    flow_run.ended(name, _outcome(future))


def _outcome(future: PrefectFuture) -> str:
    """Waits for its end."""
    future.wait()
    state = future.state
    return state.name.lower() if state.is_completed() or state.is_cancelled() else "failed"
