"""Compare the listed variants over the listed seeds on one dataset, with intervals and p-values."""

import argparse
from collections.abc import Sequence

from stages.runtime import command_line, experiments, params
from stages.runtime.errors import exit_on_error
from stages.runtime.startup import start


def main(arguments: Sequence[str] | None = None) -> None:
    command = _parser()
    options = command.parse_args(arguments)
    settings = params.read_or_exit()
    if options.dataset:
        command_line.require_known(command, "dataset", options.dataset, settings.datasets)
    elif not options.plan:
        command.error("--dataset is missing")
    with exit_on_error():
        from stages.ablate import ablation

        if options.plan:
            for dataset in [options.dataset] if options.dataset else settings.experiment.datasets:
                print(f"{dataset}: {ablation.plan(dataset, settings)}")
        else:
            ablation.ablate(options.dataset, settings)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m stages.ablate",
        description=f"{__doc__} Writes results/comparison/D.csv (against the reference), results/contrasts/D.csv (part "
        "by part of the method), results/factorial/D.csv (effects of VLBA and contrast, where every kind of one is "
        "combined with every kind of the other), results/language/D.csv (what language contributes), "
        "results/slices/D.csv (by what the expressions are like), results/averages/D.csv (over the splits) and "
        "results/profiles/D.csv (the share of expressions whose IoU is above a threshold).",
    )
    parser.add_argument("--dataset", help="a key of datasets in params.yaml; only --plan does without, of all")
    parser.add_argument(
        "--plan",
        action="store_true",
        help="write nothing; from the tables that exist, print the smallest difference that the experiment supports in "
        "80 %% of cases, and how many seeds a difference of 1, 2 and 3 points needs",
    )
    experiments.add_option(parser)
    return parser


if __name__ == "__main__":
    start()
    main()
