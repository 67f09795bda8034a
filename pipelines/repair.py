"""`python -m pipelines.repair`: mend DVC's own files and `params.yaml` after a kill or a full disk."""

import argparse
import sys
from collections.abc import Sequence

from pipelines.dvc import dag
from pipelines.dvc.dag import DagError
from pipelines.dvc.repair import repair
from pipelines.flow import param_overrides
from stages.runtime import startup


def main(arguments: Sequence[str] | None = None) -> None:
    """Mend and say what was done; exit code 1 where the current folder is not the root of a DVC project, or
    `dvc.lock` holds a merge conflict."""
    argparse.ArgumentParser(
        prog="python -m pipelines.repair",
        description="Put aside a dvc.lock that is cut off, and remove DVC's list of who uses which file where it names "
        "no DVC process: after a kill or a full disk, either keeps DVC from starting. Put params.yaml back where a "
        "flow that was killed had changed it. Changes nothing where all is well. `python -m pipelines.experiment` does "
        "the same by itself.",
    ).parse_args(arguments)
    startup.start()
    try:
        dag.check_root()
        repair()
    except DagError as error:
        sys.exit(f"error: {error}")
    param_overrides.put_back(print)


if __name__ == "__main__":
    main()
