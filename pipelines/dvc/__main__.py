"""`python -m pipelines.dvc ARGUMENTS`: the `dvc` command line, which ends when the process that started it ends.

With it end all processes of its group, so it must be started in a process group of its own.
"""

import os
import signal
import sys

from stages.runtime import dvc_internals, parent, startup

if __name__ == "__main__":
    starter = os.getppid()
    startup.start()
    parent.exit_with_parent(whole_group=True)
    try:
        sys.exit(dvc_internals.command_line())
    finally:
        if os.getppid() != starter:  # nobody else ends what a stage started in the background
            os.killpg(0, signal.SIGKILL)
