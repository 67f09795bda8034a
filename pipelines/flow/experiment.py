"""The flow `experiment`: every stage of one experiment, or of several, as a task, in the order of the DAG.

The same stages and the same outputs as `dvc repro`, with a log, a state and a duration of every stage in Prefect.
"""

import os
import sys
import threading
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated
from uuid import UUID

from prefect import flow, get_run_logger, runtime
from prefect.exceptions import TerminationSignal
from prefect.states import Cancelled, Completed, Failed, State
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field, WithJsonSchema

from pipelines.dvc import dag, remote, stage_name
from pipelines.dvc.dag import DagError
from pipelines.dvc.repair import repair
from pipelines.dvc.reproduce import Outcome
from pipelines.flow import form, held, view
from pipelines.flow.flow_run import FlowRun
from pipelines.flow.param_overrides import OverrideError
from pipelines.flow.tasks import run_stages
from pipelines.prefect import artifacts, flow_runs, internals
from stages.runtime import parent, startup
from stages.runtime.experiments import DEFAULT, ExperimentError
from stages.runtime.params import ParamsError

STORAGE = Path(".prefect/storage")  # Prefect needs one, although no result is written there
ENDING = 30  # seconds between Ctrl-C or SIGTERM and the end, where Prefect's server is away


def _name(stages: Collection[str] = (), of: Sequence[str] = ()) -> str:
    """`experiment: scenes, 39 stages`, `on-demand more: train`: who started the run, and what it is about."""
    given = runtime.flow_run.parameters
    about = ", ".join(given.get("targets") or [])
    if stages and not about:
        prepared = [bare for bare in map(stage_name.bare, stages) if bare.startswith("prepare@")]
        datasets = dict.fromkeys(bare.removeprefix("prepare@") for bare in prepared)
        about = ", ".join([*datasets, f"{len(stages)} stages"])
    as_given = [given["save_as"]] if given.get("save_as") else given.get("experiments") or [DEFAULT]
    named = list(of or as_given)
    who = runtime.deployment.name or runtime.flow_run.flow_name
    return ": ".join(filter(None, [who if named == [DEFAULT] else f"{who} {', '.join(named)}", about]))


@flow(  # what is named here, no PREFECT_ variable of the user changes
    name="experiment",
    flow_run_name=_name,
    persist_result=False,
    result_storage=STORAGE,
    retries=0,
    task_runner=ThreadPoolTaskRunner(max_workers=sys.maxsize),
)
def experiment(
    targets: Sequence[Annotated[str, WithJsonSchema(form.target())]] = (),
    experiments: Sequence[Annotated[str, WithJsonSchema(form.experiment())]] = (),
    overrides: Sequence[str] = (),
    save_as: str = "",
    jobs: Annotated[int, Field(ge=0)] = 0,
    keep_going: bool = True,
) -> State:
    """Bring experiments up to date, as `dvc repro` does.

    Args:
        targets: what to bring up to date, with what it is made from: all stages of a kind, as `train`, or one stage, as
            `train@scenes-vlba-0`; in each of the experiments, or in one, as `NAME/train`. Default: everything.
        experiments: which to run: `default` is the project itself, the others are folders in `experiments`. Default:
            those that the targets name, or else `default`.
        overrides: keys to change first, as `experiment.seeds=[0,1,2]`, in the `params.yaml` of the one experiment that
            is chosen in the field experiments, or of `default` where none is. They stay there for good, for all later
            runs and every night. With save_as they go into the `params.yaml` of that experiment instead.
        save_as: name of an experiment that is made of the chosen one with the overrides, or made anew by them, and run
            in its place. The chosen one stays as it is.
        jobs: stages that run at once. 0: one for each GPU of the machine that runs the flow, or else for each core.
        keep_going: after a stage failed, still run what does not wait for it.
    """
    startup.start()
    if internals.flow_run_of(os.environ):  # a worker started this process
        parent.exit_with_parent()
    internals.keep_events_in_outages()
    flow_runs.own(UUID(runtime.flow_run.id), runtime.flow_run.flow_name)
    try:
        dag.check_root()
        chosen = held.chosen(experiments, targets)
        with held.held(chosen, overrides, save_as, _say) as names:
            repair(_say, names)
            remote.say_unused(_say)
            pipeline = dag.look(names)
            stages = dag.restrict(pipeline.dag, targets)
            flow_runs.rename(UUID(runtime.flow_run.id), _name(stages, names))
            flow_run = FlowRun(stages, pipeline, jobs, keep_going, view.current())
            outcomes = _shown_in_prefect(flow_run, names)
            dag.sort_lock(pipeline.dag)
            return _summary(outcomes, flow_run.cancelled)
    except (OverrideError, DagError, ExperimentError, ParamsError) as error:
        return Failed(message=str(error))


def _say(line: str) -> None:
    get_run_logger().info(line)
    view.current().note(line)


def _shown_in_prefect(flow_run: FlowRun, names: Sequence[str]) -> dict[str, str]:
    """Run the stages, while Prefect shows how far they are and may cancel them. What became of each."""
    artifacts.show_links(names)
    page = artifacts.StagesPage()

    def show() -> None:
        progress = flow_run.progress
        states = {stage: each.described for stage, each in progress.items()}
        page.show(states, len(progress.done), progress.summary)

    with flow_runs.watched(UUID(runtime.flow_run.id), flow_run.cancel, show):
        try:
            outcomes = run_stages(flow_run)
        except BaseException as error:  # Ctrl-C, SIGTERM, cancelled by a worker: Prefect would wait for every task
            flow_run.end()
            _exit_later(error)
            raise
    show()
    for name in names:
        if outcomes.get(stage_name.join(name, "report")) in set(Outcome):
            artifacts.show_results(name)
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
