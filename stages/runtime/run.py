"""A run: one training of the comparison, and everything computed from it."""

from typing import NamedTuple

from stages.runtime import experiments, layout, params


class Run(NamedTuple):
    """A variant trained on a dataset under a seed. Dataset and variant are keys of `params.yaml`."""

    dataset: str
    variant: str
    seed: int

    @property
    def name(self) -> str:
        """Its name in the matrix of a DVC stage: `scenes-alignformer-0`."""
        return f"{self.dataset}-{self.variant}-{self.seed}"

    def stage(self, kind: str) -> str:
        """The DVC stage of this run for a kind such as train or evaluate: `train@scenes-baseline-0`."""
        return f"{kind}@{self.name}"

    def evaluation(self, on: str | None = None) -> str:
        """The DVC stage that scores this run, on its own splits or on a further dataset: `evaluate_on@ON-D-V-S`."""
        return f"evaluate_on@{on}-{self.name}" if on else self.stage("evaluate")


def how_to_train(run: Run, of: str | None = None) -> str:
    """What makes the model of a run: the command, and what `params.yaml` has to list before DVC knows the stage.

    Args:
        of: the experiment; None for the current one.
    """
    name = of or experiments.current()
    command = f"`{experiments.dvc('repro', run.stage('train'), of=name)}` trains it"
    if name != experiments.DEFAULT and not (experiments.place(name) / experiments.DAG).exists():
        command = f"`python -m pipelines.experiment {name}/{run.stage('train')}` trains it"
    file = experiments.folder(name) / layout.PARAMS
    try:
        experiment = params.read(experiments.place(name) / layout.PARAMS).experiment
    except params.ParamsError:
        return command
    lists = {"datasets": experiment.datasets, "variants": experiment.variants, "seeds": experiment.seeds}
    missing = [f"{one} under {key}" for (key, listed), one in zip(lists.items(), run, strict=True) if one not in listed]
    return command + (f" once `experiment` in {file} lists {' and '.join(missing)}" if missing else "")
