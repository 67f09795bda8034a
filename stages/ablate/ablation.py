"""Scores of the listed runs -> seven tables that compare the variants."""

import pandas as pd

from stages.ablate import without_model
from stages.runtime import experiments, layout
from stages.runtime.atomic_write import atomic_write
from stages.runtime.params import Params
from stages.scoring.protocols import PROTOCOLS
from stages.statistics import averages, comparison, factorial, language, planning, profiles, scored, scored_on, slices
from stages.statistics.scored import ComparisonError


def ablate(dataset: str, settings: Params) -> None:
    """Read the scores of every listed run, check that they are paired, compare the variants, write seven tables.

    Raises:
        ComparisonError: scores are missing, or cannot be compared.
        FileNotFoundError: the dataset is not prepared.
    """
    experiment, protocol = settings.experiment, PROTOCOLS[settings.evaluation.protocol]
    others = {name: layout.scores_of_other(dataset, name) for name in experiment.predictions(dataset)}
    further = experiment.evaluate_on
    runs = scored.read(dataset, protocol, experiment.variants, experiment.seeds, experiment.reference, others, further)
    prepared = scored_on.read(dataset, further)
    labels = slices.labels(prepared)
    masks = without_model.counted(prepared, runs.expressions, protocol)
    smallest = experiment.smallest_effect and experiment.smallest_effect / 100
    found = comparison.estimates(runs)
    compared, contrasts = comparison.compare(
        runs, found, experiment.reference, experiment.highlight, settings.variants, smallest
    )
    for path, table in (
        (layout.comparison(dataset), compared),
        (layout.contrasts(dataset), contrasts),
        (layout.factorial(dataset), factorial.compare(runs, found, settings.variants, smallest)),
        (layout.language(dataset), language.compare(runs, scored.read_controls(runs), masks)),
        (layout.slices(dataset), comparison.by_slice(runs, labels, experiment.reference)),
        (
            layout.averages(dataset),
            averages.compare(runs, found, experiment.reference, experiment.highlight, contrasts),
        ),
        (layout.profiles(dataset), profiles.profiles(runs)),
    ):
        with atomic_write(path) as partial:
            table.to_csv(partial, index=False, lineterminator="\n")


def plan(dataset: str, settings: Params) -> str:
    """What the experiment can show, by split, as text; from the tables that `ablate` has written.

    Raises:
        ComparisonError: there are none.
    """
    paths = layout.comparison(dataset), layout.contrasts(dataset)
    if missing := [path for path in paths if not path.exists()]:
        again = experiments.dvc("repro", f"ablate@{dataset}")
        raise ComparisonError(f"{missing[0]} is missing. Make it with: {again}")
    tables = [pd.read_csv(path) for path in paths]
    metric = PROTOCOLS[settings.evaluation.protocol].headline[0]
    splits = list(tables[0]["split"].unique())
    headline = comparison.headline_pairs(tables[1], settings.experiment.highlight, settings.experiment.reference)
    plans = {split: planning.plan(*tables, settings.experiment.reference, headline, split, metric) for split in splits}
    rows = [
        {"split": split, "pairs": plan.pairs, "seeds": plan.seeds, "smallest": f"{100 * plan.smallest:.1f}"}
        | {
            f"seeds for {points}": needed or f">{planning.MOST_SEEDS}"
            for points, needed in zip(planning.DIFFERENCES, plan.needed, strict=True)
        }
        for split, plan in plans.items()
        if plan
    ]
    said = [
        f"{metric} in points. Smallest: the true difference that is supported in {100 * planning.POWER:g} % of cases, "
        "at the level of the first step of Holm's adjustment for the pairs of the headline.",
        *([pd.DataFrame(rows).to_string(index=False)] if rows else []),
        *(
            f"{split}: no pair has a p-value, so there is nothing to plan with: two or more seeds are needed"
            for split, plan in plans.items()
            if not plan
        ),
    ]
    return "\n\n".join(said)
