"""`python -m pipelines.dvc ARGUMENTS`: the `dvc` command line, which ends, with all it started, when its starter ends.

For a process group of its own: what is in it ends together.
"""

import os
import signal
import sys

from dvc.cli import main

from stages.runtime.parent import exit_with_parent

if __name__ == "__main__":
    starter = os.getppid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a flow in the background of a shell ignores it
    exit_with_parent(whole_group=True)
    try:
        sys.exit(main())
    finally:
        if os.getppid() != starter:  # nobody else ends what a stage left in the background
            os.killpg(0, signal.SIGKILL)
