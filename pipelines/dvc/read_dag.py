"""`python -m pipelines.dvc.read_dag EXPERIMENT... [--look]`: the stages of experiments, for `pipelines.dvc.dag`.

A process of its own, as DVC's `Repo` depends on the working directory of the process and is not made for threads.
"""

import argparse
import json
import sys

from pipelines.dvc import stage_name
from stages.runtime import dvc_internals, experiments
from stages.runtime.dvc_internals import DvcError

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("experiments", nargs="+")
    parser.add_argument("--look", action="store_true")
    options = parser.parse_args()
    found = []
    for experiment in options.experiments:
        try:
            experiments.enter(experiment)
            stages = dvc_internals.stages(look=options.look)
        except DvcError as error:
            sys.exit(str(error) if experiment == experiments.DEFAULT else f"experiment {experiment}: {error}")
        for stage in stages:
            name, *needs = (stage_name.join(experiment, bare) for bare in (stage.name, *stage.needs))
            found.append(stage._replace(name=name, needs=needs)._asdict())
    json.dump(found, sys.stdout)
