"""`python -m stages.ablate --dataset D`: the listed variants over the listed seeds -> `results/comparison/D.csv`."""

import argparse
import sys
from collections.abc import Sequence

from stages import layout, params
from stages.ablate import comparison
from stages.evaluate.protocols import PROTOCOLS


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the scores of every listed run, check that they are paired, compare the variants, write the comparison."""
    options = _parser().parse_args(arguments)
    settings = params.read_or_exit()
    try:
        experiment, protocol = settings.experiment, PROTOCOLS[settings.evaluation.protocol]
        runs = comparison.read_runs(options.dataset, experiment.variants, experiment.seeds, protocol)
        comparison.check_paired(options.dataset, runs)
        table = comparison.compare(options.dataset, protocol, experiment.reference, runs)
        comparison.write(table, layout.comparison(options.dataset))
    except comparison.ComparisonError as error:
        sys.exit(f"error: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m stages.ablate",
        description="Compare the listed variants over the listed seeds on one dataset: results/comparison/D.csv.",
    )
    parser.add_argument("--dataset", required=True, help="name of a dataset of params.yaml whose runs are scored")
    return parser


if __name__ == "__main__":
    main()
