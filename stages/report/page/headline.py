"""The result in words, made from the numbers: what each part of the method changes, and whether that is supported."""

import pandas as pd

from stages.report.dataset_numbers import DatasetNumbers
from stages.report.tables import captions, contrast_tables
from stages.report.tables.table import interval, percent, signed

SAME = "0.0"


def headline(results: DatasetNumbers) -> str:
    """One sentence: what the parts of the richest variant change, one after the other, on the first evaluation split.

    The richest variant is fixed by its place in `params.yaml`, not by its result, so the sentence also reports a loss.
    Its parts are found by going from it to the variant without its last part, and so on: `alignformer` over `vlba`,
    `vlba` over `baseline`. Without such pairs it is the difference to the reference. In the protocol's first metric.
    """
    split, richest = results.splits[0], results.richest
    if richest == results.reference:
        return _about_one(results, split)
    parts = _parts(results, split)
    said = [_said(row, results, first=place == 0) for place, row in enumerate(parts)]
    if not parts:
        row = results.row(richest, split, results.metric)
        said = [_difference(richest, row, f" {results.metric} over {results.reference}")]
    sentence = "; ".join(said)
    seeds = len(results.seeds) - len(results.missing.get(richest, []))
    where = f"{split}, {seeds} seeds" if seeds > 1 else f"{split}, one seed"
    return " ".join([f"{_capital(sentence) if parts else sentence} ({where}).", *_unscored(results)])


def details(results: DatasetNumbers) -> str:
    """Sentences about the other parts, the other splits, the losses, and what the seeds cannot say."""
    if results.richest == results.reference:
        return ""
    split, metric = results.splits[0], results.metric
    parts = _parts(results, split)
    chosen = [(row["variant"], row["against"]) for row in parts]
    others = [row for row in _contrasts(results, split) if (row["variant"], row["against"]) not in chosen]
    sentences = []
    if others:
        sentences.append(f"{_capital('; '.join(_said(row, results) for row in others))}.")
    for other in results.splits[1:]:
        same = {(row["variant"], row["against"]): row for row in _contrasts(results, other)}
        said = [_said(same[pair], results) for pair in chosen if pair in same] or [_to_reference(results, other)]
        sentences.append(f"On {other}: {'; '.join(said)}.")
    means = {name: results.row(name, split, metric)["mean"] for name in results.scored}
    best = max(means, key=means.get)
    row = results.row(best, split, metric)
    sentences.append(
        f"The highest mean on {split} is that of {best}, {percent(row['mean'])} {interval(row['low'], row['high'])}."
    )
    sentences += _losses(results)
    sentences.append("Not supported does not mean that there is no difference: these data cannot tell it from none.")
    if _adjusted_away(results):
        sentences.append(
            "Where an interval leaves 0 out and its difference is not supported, it is the adjustment for several "
            "comparisons that makes it so."
        )
    if len(results.seeds) == 1:
        sentences.append(
            "One seed cannot say which differences another seed would repeat: its intervals hold the luck of the "
            "images alone."
        )
    return " ".join(sentences)


def _about_one(results: DatasetNumbers, split: str) -> str:
    if results.reference not in results.scored:
        return " ".join(_unscored(results))
    row = results.row(results.reference, split, results.metric)
    number = f"{percent(row['mean'])} {results.metric} {interval(row['low'], row['high'])}".strip()
    alone = len(results.variants) == 1
    why = "no other variant is listed" if alone else "no other variant has scores"
    return " ".join(
        [f"{results.reference}: {number} on {split}; {why}, so there is no difference.", *_unscored(results)]
    )


def _contrasts(results: DatasetNumbers, split: str) -> list[pd.Series]:
    """Pairs with numbers in the first headline metric."""
    table = results.contrasts
    chosen = table[(table["split"] == split) & (table["metric"] == results.metric) & table["difference"].notna()]
    return [row for _, row in chosen.iterrows()]


def _parts(results: DatasetNumbers, split: str) -> list[pd.Series]:
    """The pairs from the poorest variant to the richest, one part a step; the contrastive loss is the last part."""
    pairs, steps, variant = _contrasts(results, split), [], results.richest
    while found := [row for row in pairs if row["variant"] == variant]:
        step = next((row for row in found if row["aspect"] == "contrastive"), found[0])
        steps.append(step)
        variant = step["against"]
    return steps[::-1]


def _said(row: pd.Series, results: DatasetNumbers, first: bool = False) -> str:
    """`bidirectional VLBA +3.1 mIoU over none [2.2, 4.0], supported`; variants are named where pairs share a part."""
    return _difference(contrast_tables.part(results, row), row, f" {results.metric} over none" if first else "")


def _to_reference(results: DatasetNumbers, split: str) -> str:
    return _difference(results.richest, results.row(results.richest, split, results.metric), "")


def _difference(what: str, row: pd.Series, unit: str) -> str:
    """A difference with its interval and whether it is supported; a loss is called one."""
    if pd.isna(row["difference"]):
        return f"{what}: no seed in common, so no difference"
    change = signed(row["difference"])
    bounds = interval(row["difference_low"], row["difference_high"])
    loss = "a loss, " if row["supported"] and row["difference"] < 0 and change != SAME else ""
    support = "supported" if row["supported"] else "not supported"
    return f"{what} {change}{unit} {bounds}, {loss}{support}"


def _losses(results: DatasetNumbers) -> list[str]:
    """Every variant that is below the reference, where that is supported."""
    lost = [
        f"{name} on {split} ({signed(row['difference'])})"
        for name in results.scored
        for split in results.splits
        for row in [results.row(name, split, results.metric)]
        if row["supported"] and row["difference"] < 0
    ]
    return [f"Below {results.reference}, supported: {_listing(lost)}."] if lost else []


def _adjusted_away(results: DatasetNumbers) -> bool:
    """Whether an interval of the first metric leaves 0 out whose difference is not supported."""
    of_reference = results.comparison.xs(results.metric, level="metric")
    of_pairs = results.contrasts[results.contrasts["metric"] == results.metric]
    return any(
        ((table["difference_low"] > 0) | (table["difference_high"] < 0))
        .to_numpy()[~table["supported"].to_numpy()]
        .any()
        for table in (of_reference, of_pairs)
    )


def _unscored(results: DatasetNumbers) -> list[str]:
    return [captions.why_no_number(results, name) for name in results.variants if name in results.missing]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _listing(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
