"""`python -m pipelines.sync`: MLflow brought up to what DVC keeps, whatever it has lost or was never told."""

import argparse
import os
import sys
from collections.abc import Sequence

from pipelines.mlflow import views
from pipelines.mlflow.sync import sync
from stages.runtime import experiments, keys, parent, startup
from stages.runtime.errors import UserError
from stages.runtime.experiments import ExperimentError
from stages.runtime.warm import OWNER
from stages.tracking import store


def main(arguments: Sequence[str] | None = None) -> None:
    """Sync and say what changed; exit code 1 where MLflow or the dvc.lock of an experiment cannot be used."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.sync",
        description="Bring MLflow up to what DVC keeps: runs, curves, models, comparisons, the champion of each "
        "dataset. Changes nothing where nothing is missing.",
    )
    parser.add_argument(
        "--experiment",
        metavar="NAME",
        help="that one alone (default: every one that was ever run)",
    )
    parser.add_argument(
        "--ui",
        metavar="ADDRESS",
        help="where MLflow's pages are, such as http://127.0.0.1:5000: print the addresses of the views there",
    )
    options = parser.parse_args(arguments)
    try:
        experiments.check(options.experiment or experiments.DEFAULT)
    except ExperimentError as error:
        parser.error(str(error))
    startup.start()
    if OWNER in os.environ:  # a flow started this
        parent.exit_with_parent()
    done = [_synced(name, options.ui) for name in ([options.experiment] if options.experiment else _with_results())]
    if not all(done):
        sys.exit(1)


def _with_results() -> list[str]:
    """The default experiment, and the others that have a `dvc.lock`."""
    default, *others = experiments.names()
    return [default, *(name for name in others if (experiments.place(name) / keys.LOCK).exists())]


def _synced(name: str, ui: str | None) -> bool:
    """Sync one experiment, which becomes the current one. Returns whether nothing went wrong."""
    of = "" if name == experiments.DEFAULT else f"{name}: "
    try:
        experiments.enter(name)
        print(f"{of}{sync(lambda line: print(f'{of}{line}', flush=True))}", flush=True)
        if ui:
            with store.opened() as opened:
                for title, address in views.addresses(opened, ui).items():
                    print(f"{of}{title}: {address}", flush=True)
    except UserError as error:
        print(f"error: {of}{error}", file=sys.stderr)
        return False
    return True


if __name__ == "__main__":
    main()
