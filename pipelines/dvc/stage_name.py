"""Names of stages among several experiments: `train@d-v-0` of the default one, `NAME/train@d-v-0` of another.

What follows the slash is the bare name, the only one that DVC knows.
"""

from stages.runtime.experiments import DEFAULT


def join(experiment: str, bare: str) -> str:
    return bare if experiment == DEFAULT else f"{experiment}/{bare}"


def split(name: str) -> tuple[str, str]:
    """Experiment and bare name."""
    experiment, _, bare = name.rpartition("/")
    return experiment or DEFAULT, bare


def bare(name: str) -> str:
    return split(name)[1]
