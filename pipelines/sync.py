"""`python -m pipelines.sync`: MLflow brought up to what DVC keeps, whatever it has lost or was never told."""

import argparse
import os
import sys
from collections.abc import Sequence

from pipelines.mlflow.sync import SyncError, sync
from stages.runtime import experiments, parent, startup
from stages.runtime.warm import OWNER


def main(arguments: Sequence[str] | None = None) -> None:
    """Sync and say what changed; exit code 1 where MLflow or dvc.lock cannot be used."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.sync",
        description="Bring MLflow up to what DVC keeps: runs, curves, models, comparisons, the champion of each "
        "dataset. Changes nothing where nothing is missing.",
    )
    experiments.add_option(parser)
    parser.parse_args(arguments)
    startup.start()
    if OWNER in os.environ:  # a flow started this
        parent.exit_with_parent()
    try:
        print(sync(lambda line: print(line, flush=True)))
    except SyncError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
