"""`python -m pipelines.repair`: mend DVC's own files after a kill or a full disk."""

import argparse
import sys
from collections.abc import Sequence

from pipelines.dvc import dag
from pipelines.dvc.dag import DagError
from pipelines.dvc.repair import repair
from stages.runtime import experiments, startup


def main(arguments: Sequence[str] | None = None) -> None:
    """Mend and say what was done; exit code 1 where the current folder is not the root of a DVC project, or
    a `dvc.lock` holds a merge conflict."""
    argparse.ArgumentParser(
        prog="python -m pipelines.repair",
        description="Put aside a dvc.lock that is cut off, and remove DVC's list of who uses which file where it names "
        "no DVC process: after a kill or a full disk, either keeps DVC from starting. Of every experiment. Changes "
        "nothing where all is well. `python -m pipelines.experiment` does the same by itself.",
    ).parse_args(arguments)
    startup.start()
    try:
        dag.check_root()
        repair(of=experiments.names())
    except DagError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
