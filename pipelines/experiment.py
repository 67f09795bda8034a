"""`python -m pipelines.experiment`: bring experiments up to date by the flow `experiment`, and show how far they are.

Prefect is imported only where there is something to do: that takes longer than to see that there is nothing.
"""

from stages.runtime import startup

if __name__ == "__main__":
    startup.start()  # before Prefect is imported, which may call home at once

import argparse
import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

from pipelines.dvc import dag
from pipelines.dvc.dag import DagError
from pipelines.dvc.repair import repair
from pipelines.flow import closing, held, up_to_date
from pipelines.flow.param_overrides import OverrideError
from pipelines.flow.progress import span
from stages.runtime import experiments, layout, params
from stages.runtime.experiments import ExperimentError


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the flow; exit code 1 and what failed where a stage did, 130 after Ctrl-C, 143 after SIGTERM."""
    began = time.monotonic()
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupted)
    try:
        dag.check_root()
        chosen = held.chosen(options.experiment, options.targets)
        with held.held(chosen, options.set, options.save_as, print) as names:
            if experiments.DEFAULT in names and layout.PARAMS.exists():
                params.require_schema()
            if not _is_up_to_date(names, options.targets, began):
                _run(options, names, _command(arguments, options), began)
    except (OverrideError, DagError, ExperimentError) as error:
        sys.exit(f"error: {error}")
    except params.ParamsError as error:
        params.exit_with(error)


def _is_up_to_date(names: Sequence[str], targets: Sequence[str], began: float) -> bool:
    """Look, without Prefect, and say so where nothing is to do."""
    print("looking for what is stale", flush=True)
    stages = up_to_date.stages(names, targets)
    if stages:
        are = "1 stage is" if len(stages) == 1 else f"{len(stages)} stages are"
        what = f"{are} up to date: nothing to do, found in {span(time.monotonic() - began)}."
        print(closing.up_to_date(stages, what))
    return bool(stages)


def _run(options: argparse.Namespace, names: list[str], again: str, began: float) -> None:
    print("starting Prefect", flush=True)
    from pipelines.flow import view as views
    from pipelines.flow.experiment import experiment
    from pipelines.prefect import internals, server
    from pipelines.prefect.server import ServerError

    view = views.made()
    try:
        server.leave_out_unusable_proxies()
        repair(of=names)
        with views.shown(view), _server():
            internals.show_only_warnings(view.note)
            state = experiment(
                options.targets, names, jobs=options.jobs, keep_going=options.keep_going, return_state=True
            )
    except ServerError as error:
        sys.exit(f"error: {error}")
    except SystemExit as error:
        if error.code in (128 + signal.SIGINT, 128 + signal.SIGTERM):
            print(closing.interrupted(view.progress, again), file=sys.stderr)
        raise
    if state.is_completed():
        what = f"Done in {span(time.monotonic() - began)}: {closing.counts(view.progress)}."
        print(closing.up_to_date(dict(view.progress.items()), what))
    elif view.progress and view.progress.in_state("failed"):
        sys.exit(closing.failed(view.progress, again))
    else:
        sys.exit(f"error: {state.message}")


@contextmanager
def _server() -> Iterator[None]:
    """The server that is set, or a temporary one while the block runs. Raises ServerError."""
    from pipelines.prefect import flow_runs, server

    if server.address():
        server.check()
        yield
        return
    with server.temporary():
        try:
            yield
        finally:
            flow_runs.settle()


def _command(arguments: Sequence[str], options: argparse.Namespace) -> str:
    """What the user has typed, and may type again."""
    if "MAKELEVEL" in os.environ:
        return " ".join(["make repro", *(f"EXPERIMENT={name}" for name in options.experiment)])
    return shlex.join(["python", "-m", "pipelines.experiment", *arguments])


def _interrupted(number: int, frame: object) -> NoReturn:
    """Ctrl-C or SIGTERM: the flow ends its stages, and tells Prefect, if that listens."""
    print("interrupted: the running stages are being stopped", file=sys.stderr)
    sys.exit(128 + number)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.experiment",
        description="Bring experiments up to date, as `dvc repro` does, with a log and a state of every stage.",
    )
    parser.add_argument(
        "targets",
        nargs="*",
        help="stages, or a matrix by its name: train, or NAME/train of one experiment only (default: all)",
    )
    parser.add_argument(
        "--experiment",
        action="append",
        default=[],
        metavar="NAME",
        help=f"one in {layout.EXPERIMENTS}/; may be given again, to run several at once (default: the one that the "
        f"targets name, or else {experiments.DEFAULT}, which is the project itself)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change the experiment's params.yaml first, for good, where the schema allows it: "
        "experiment.seeds=[0,1,2]; may be given again",
    )
    parser.add_argument(
        "--as",
        dest="save_as",
        metavar="NAME",
        help=f"make {layout.EXPERIMENTS}/NAME of the experiment, with what is --set, or make it anew, and run that: "
        "the experiment itself stays as it is",
    )
    parser.add_argument(
        "--jobs",
        type=_jobs,
        default=0,
        metavar="N",
        help="stages that run at once (default: the number of GPUs, or else of cores)",
    )
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
