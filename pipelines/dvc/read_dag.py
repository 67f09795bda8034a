"""`python -m pipelines.dvc.read_dag [look]`: the stages of the project in the current folder, for `pipelines.dvc.dag`.

A process of its own, as DVC's `Repo` depends on the working directory of the process and is not made for threads.
"""

import json
import sys

from stages.runtime import dvc_internals
from stages.runtime.dvc_internals import DvcError

if __name__ == "__main__":
    try:
        stages = dvc_internals.stages(look="look" in sys.argv)
    except DvcError as error:
        sys.exit(str(error))
    json.dump([stage._asdict() for stage in stages], sys.stdout)
