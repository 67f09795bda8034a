"""`python -m pipelines.dvc ARGUMENTS`: the `dvc` command line, which ends, with all it started, when its starter ends.

For a process group of its own: what is in it ends together.
"""

import os
import signal
import sys

from stages.runtime import dvc_internals, parent, startup

if __name__ == "__main__":
    starter = os.getppid()
    startup.start()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a flow in the background of a shell ignores it
    parent.exit_with_parent(whole_group=True)
    try:
        sys.exit(dvc_internals.command_line())
    finally:
        if os.getppid() != starter:  # nobody else ends what a stage left in the background
            os.killpg(0, signal.SIGKILL)
