"""The result in words: what the richest variant changes, and which variants the seeds do not tell apart."""

import math
from collections.abc import Callable

import pandas as pd

from stages.report.inputs import DatasetResults
from stages.report.tables import percent, signed


def headline(results: DatasetResults) -> str:
    """One sentence about the last listed variant on the first evaluation split.

    The variant is fixed by its place in `params.yaml`, not by its result, so the sentence also reports a loss. It says
    nothing of significance: the spread it names is over seeds only. The metric is the protocol's first headline.
    """
    variant, reference, split = results.richest, results.reference, results.splits[0]
    metric = results.protocol.headline[0]
    if variant == reference:
        mean = results.comparison.loc[(reference, split, metric), "mean"]
        return (
            f"{reference}: {percent(mean)} {metric} on {split}; no other variant is listed, so there is no difference."
        )
    row = results.comparison.loc[(variant, split, metric)]
    change, spread = signed(row["difference"]), _spread(results, variant, split)
    if change == "0.0":
        return f"{variant} does not help: {metric} on {split} is that of {reference} to one decimal ({spread})."
    if row["difference"] < 0:
        return f"{variant} does not help: {change} {metric} on {split} against {reference} ({spread})."
    return f"{variant}: {change} {metric} on {split} over {reference} ({spread})."


def details(results: DatasetResults) -> str:
    """Sentences about the other splits and about every variant whose range over seeds meets the reference's."""
    variant, split, metric = results.richest, results.splits[0], results.protocol.headline[0]
    others = [name for name in results.variants if name != results.reference]
    if not others:
        return ""
    sentences = []
    if len(results.splits) > 1:
        changes = [
            f"{signed(results.comparison.loc[(variant, other, metric), 'difference'])} on {other}"
            for other in results.splits[1:]
        ]
        sentences.append(f"The same difference is {_listing(changes)}.")
    means = {name: results.comparison.loc[(name, split, metric), "mean"] for name in results.variants}
    best = max(means, key=means.get)
    sentences.append(f"The highest mean on {split} is that of {best}, {percent(means[best])}.")
    if len(results.seeds) == 1:
        sentences.append("One seed cannot say which differences another seed would repeat.")
        return " ".join(sentences)
    above = _where(results, split, others, lambda row, reference: row["min"] > reference["max"])
    below = _where(results, split, others, lambda row, reference: row["max"] < reference["min"])
    level = [name for name in others if name not in above + below]
    if above:
        sentences.append(f"Every seed of {_listing(above)} is above every seed of {results.reference} on {split}.")
    if below:
        sentences.append(f"Every seed of {_listing(below)} is below every seed of {results.reference} on {split}.")
    if level:
        sentences.append(
            f"The seeds do not tell {_listing(level, 'or')} from {results.reference} on {split}: their ranges overlap."
        )
    return " ".join(sentences)


def _spread(results: DatasetResults, variant: str, split: str) -> str:
    metric = results.protocol.headline[0]
    stds = [results.comparison.loc[(name, split, metric), "std"] for name in (variant, results.reference)]
    if any(math.isnan(std) for std in stds):
        return "one seed: the spread is not known"
    return (
        f"standard deviation over {len(results.seeds)} seeds: {percent(stds[0])} for {variant}, "
        f"{percent(stds[1])} for {results.reference}"
    )


def _where(
    results: DatasetResults, split: str, variants: list[str], holds: Callable[[pd.Series, pd.Series], bool]
) -> list[str]:
    metric = results.protocol.headline[0]
    reference = results.comparison.loc[(results.reference, split, metric)]
    return [name for name in variants if holds(results.comparison.loc[(name, split, metric)], reference)]


def _listing(names: list[str], word: str = "and") -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {word} {names[-1]}"
