"""The result in sentences, made from the numbers: what each part of the method changes, and whether it is supported."""

import pandas as pd

from stages.report.dataset_numbers import DatasetNumbers
from stages.report.tables import captions, contrast_tables
from stages.report.tables.table import interval, percent, signed

SAME = "0.0"


def headline(results: DatasetNumbers) -> str:
    """One sentence: what the parts of the highlighted variant change, one by one, on the first evaluation split.

    `params.yaml` chooses the variant, not its result, so the sentence also reports a loss. Its parts are found by going
    from it to the variant without its last part, and so on: `alignformer` over `vlba`, `vlba` over `baseline`. Without
    such pairs it is the difference to the reference. In the protocol's first headline metric.
    """
    split, highlight = results.splits[0], results.highlight
    if highlight == results.reference:
        return _about_the_reference(results, split)
    parts = _parts(results, split)
    said = [_said(row, results, first=place == 0) for place, row in enumerate(parts)]
    if not parts:
        row = results.row(highlight, split, results.metric)
        said = [_difference(highlight, row, f" {results.metric} over {results.reference}")]
    sentence = "; ".join(said)
    seeds = len(results.scored_seeds[highlight])
    where = f"{split}, {seeds} seeds" if seeds > 1 else f"{split}, one seed"
    return " ".join([f"{_capital(sentence) if parts else sentence} ({where}).", *_unscored(results)])


def details(results: DatasetNumbers) -> str:
    """Sentences about the other parts, the other splits, the losses, and what the seeds cannot show."""
    if len(results.scored) < 2:
        return ""
    split, metric = results.splits[0], results.metric
    parts = [] if results.highlight == results.reference else _parts(results, split)
    chosen = [(row["variant"], row["against"]) for row in parts]
    others = [row for row in _contrasts(results, split) if (row["variant"], row["against"]) not in chosen]
    sentences = []
    if others:
        sentences.append(f"{_capital('; '.join(_said(row, results) for row in others))}.")
    for other in results.splits[1:]:
        if said := _on_another_split(results, chosen, other):
            sentences.append(f"On {other}: {'; '.join(said)}.")
    means = {name: results.row(name, split, metric)["mean"] for name in results.scored}
    best = max(means, key=means.get)
    row = results.row(best, split, metric)
    sentences.append(
        f"{best} has the highest mean on {split}: {percent(row['mean'])} {interval(row['low'], row['high'])}."
    )
    sentences += _losses(results)
    sentences.append(
        "Not supported does not mean that there is no difference, only that these data cannot tell it from none."
    )
    if _adjusted_away(results):
        sentences.append(
            "Where an interval excludes 0 and the difference is still not supported, the adjustment for several "
            "comparisons is the reason."
        )
    if len(results.seeds) == 1:
        sentences.append(
            "One seed cannot show which differences another seed would repeat: its intervals cover the luck of the "
            "images alone."
        )
    return " ".join(sentences)


def _about_the_reference(results: DatasetNumbers, split: str) -> str:
    """Where the report is about the reference, and why."""
    reference, unscored = results.reference, _unscored(results)
    if reference not in results.scored:
        return " ".join(unscored)
    row = results.row(reference, split, results.metric)
    number = f"{percent(row['mean'])} {results.metric} {interval(row['low'], row['high'])}".strip()
    if results.named_highlight != reference:
        named = results.named_highlight
        said = f"The highlighted variant {named} has no scores, so this is about the reference {reference}: {number}"
        return " ".join([f"{said} on {split}.", *unscored])
    why = "no other variant is listed"
    if len(results.variants) > 1:
        why = "it is both the highlighted variant and the reference"
    return " ".join([f"{reference}: {number} on {split}; {why}, so there is no difference.", *unscored])


def _on_another_split(results: DatasetNumbers, chosen: list[tuple[str, str]], split: str) -> list[str]:
    """The chosen pairs (variant, against) there, or without any the highlighted variant's difference."""
    same = {(row["variant"], row["against"]): row for row in _contrasts(results, split)}
    said = [_said(same[pair], results) for pair in chosen if pair in same]
    if said or results.highlight == results.reference:
        return said
    return [_difference(results.highlight, results.row(results.highlight, split, results.metric), "")]


def _contrasts(results: DatasetNumbers, split: str) -> list[pd.Series]:
    """Pairs with numbers in the first headline metric."""
    table = results.contrasts
    chosen = table[(table["split"] == split) & (table["metric"] == results.metric) & table["difference"].notna()]
    return [row for _, row in chosen.iterrows()]


def _parts(results: DatasetNumbers, split: str) -> list[pd.Series]:
    """The pairs that lead to the highlighted variant, one part in each step; the contrastive loss is the last part."""
    pairs, steps, variant = _contrasts(results, split), [], results.highlight
    while found := [row for row in pairs if row["variant"] == variant]:
        step = next((row for row in found if row["aspect"] == "contrastive"), found[0])
        steps.append(step)
        variant = step["against"]
    return steps[::-1]


def _said(row: pd.Series, results: DatasetNumbers, first: bool = False) -> str:
    """`bidirectional VLBA: +3.1 [2.2, 4.0], supported`; variants are named where several pairs share the part."""
    unit = f" {results.metric} over the variant without it" if first else ""
    return _difference(contrast_tables.part(results, row), row, unit)


def _difference(what: str, row: pd.Series, unit: str) -> str:
    """A difference with its interval and whether it is supported; a loss is called one."""
    if pd.isna(row["difference"]):
        return f"{what}: no seed in common, so no difference"
    change = signed(row["difference"])
    bounds = interval(row["difference_low"], row["difference_high"])
    loss = "a loss, " if row["supported"] and row["difference"] < 0 and change != SAME else ""
    support = "supported" if row["supported"] else "not supported"
    return f"{what}: {change}{unit} {bounds}, {loss}{support}"


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
    """Whether an interval of the first metric excludes 0 whose difference is not supported."""
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
