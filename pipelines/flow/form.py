"""What the form on Prefect's page offers: Prefect makes it from the types of the flow's parameters.

It is made when the deployments are registered. The flow itself takes other names too, and says which it does not know.
"""

from contextlib import suppress

from stages.runtime import experiments
from stages.runtime.dvc_internals import DvcError, read_yaml


def experiment() -> dict:
    """The JSON schema of an experiment's name, with those that there are."""
    return {"type": "string", "enum": experiments.names()}


def target() -> dict:
    """The JSON schema of a target, with every kind of stage, in the order of `dvc.yaml`."""
    with suppress(OSError, DvcError, KeyError, TypeError):  # the flow itself says what is wrong with the file
        return {"type": "string", "enum": list(read_yaml(experiments.DAG)["stages"])}
    return {"type": "string"}
