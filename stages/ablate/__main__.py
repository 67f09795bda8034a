"""`python -m stages.ablate --dataset D`: compare the listed variants over the listed seeds, with intervals."""

import argparse
import sys
from collections.abc import Sequence

from stages.data import prepared
from stages.runtime import layout, params
from stages.runtime.atomic_write import atomic_write
from stages.scoring.protocols import PROTOCOLS
from stages.statistics import comparison, scored, slices


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the scores of every listed run, check that they are paired, compare the variants and write three tables."""
    options = _parser().parse_args(arguments)
    settings = params.read_or_exit()
    experiment, protocol = settings.experiment, PROTOCOLS[settings.evaluation.protocol]
    try:
        runs = scored.read(options.dataset, protocol, experiment.variants, experiment.seeds, experiment.reference)
        labels = slices.labels(prepared.read(layout.prepared(options.dataset)))
    except (scored.ComparisonError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
    found = comparison.estimates(runs)
    for path, table in (
        (layout.comparison(options.dataset), comparison.compare(runs, found, experiment.reference)),
        (layout.contrasts(options.dataset), comparison.contrasts(runs, found, settings.variants)),
        (layout.slices(options.dataset), comparison.by_slice(runs, labels, experiment.reference)),
    ):
        with atomic_write(path) as partial:
            table.to_csv(partial, index=False, lineterminator="\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m stages.ablate",
        description="Compare the listed variants over the listed seeds on one dataset, with intervals and p-values: "
        "results/comparison/D.csv (against the reference), results/contrasts/D.csv (part by part of the method) and "
        "results/slices/D.csv (by what the expressions are like).",
    )
    parser.add_argument("--dataset", required=True, help="name of a dataset of params.yaml whose runs are scored")
    return parser


if __name__ == "__main__":
    main()
