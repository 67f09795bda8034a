"""A run: one training of the comparison, and everything computed from it."""

from typing import NamedTuple


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
