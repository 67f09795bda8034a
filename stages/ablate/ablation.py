"""Scores of the listed runs -> three tables that compare the variants."""

from stages.data import prepared
from stages.runtime import layout
from stages.runtime.atomic_write import atomic_write
from stages.runtime.params import Params
from stages.scoring.protocols import PROTOCOLS
from stages.statistics import comparison, scored, slices


def ablate(dataset: str, settings: Params) -> None:
    """Read the scores of every listed run, check that they are paired, compare the variants, write three tables.

    Raises:
        ComparisonError: scores are missing, or cannot be compared.
        FileNotFoundError: the dataset is not prepared.
    """
    experiment, protocol = settings.experiment, PROTOCOLS[settings.evaluation.protocol]
    runs = scored.read(dataset, protocol, experiment.variants, experiment.seeds, experiment.reference)
    labels = slices.labels(prepared.read(layout.prepared(dataset)))
    smallest = experiment.smallest_effect and experiment.smallest_effect / 100
    compared, contrasts = comparison.compare(runs, experiment.reference, settings.variants, smallest)
    for path, table in (
        (layout.comparison(dataset), compared),
        (layout.contrasts(dataset), contrasts),
        (layout.slices(dataset), comparison.by_slice(runs, labels, experiment.reference)),
    ):
        with atomic_write(path) as partial:
            table.to_csv(partial, index=False, lineterminator="\n")
