"""A run: one training of the comparison, with all that is made from it."""

from typing import NamedTuple


class Run(NamedTuple):
    """A variant of a dataset, trained with a seed. The names are keys of `params.yaml`."""

    dataset: str
    variant: str
    seed: int

    @property
    def name(self) -> str:
        """As DVC names it in a matrix: `scenes-alignformer-0`."""
        return f"{self.dataset}-{self.variant}-{self.seed}"

    def stage(self, kind: str) -> str:
        """The DVC stage of a kind, such as train or evaluate, that belongs to the run: `train@scenes-baseline-0`."""
        return f"{kind}@{self.name}"
