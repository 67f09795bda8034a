"""`python -m pipelines.dvc ARGUMENTS`: the `dvc` command line, which ends, with all it started, when its starter ends.

For a process group of its own: what is in it ends together.
"""

import sys

from dvc.cli import main

from stages import parent

if __name__ == "__main__":
    parent.watch(whole_group=True)
    sys.exit(main())
