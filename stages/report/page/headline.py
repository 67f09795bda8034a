"""The result in sentences, made from the numbers: what each part of the method changes, and whether it is supported."""

from collections import Counter

import pandas as pd

from stages.report.dataset_numbers import DIFFERENCE, DatasetNumbers, verdict
from stages.report.tables import captions, contrast_tables, language_tables, plan_tables
from stages.report.tables.table import interval, percent, signed
from stages.statistics.comparison import headline_pairs
from stages.statistics.evidence import ONE_FILE

SAME = "0.0"
PAIRS = 8  # one by one, in sentences and on the first screen; where there are more, they are counted


def headline(results: DatasetNumbers) -> str:
    """What the parts of the highlighted variant change, one by one, on the splits that chose no epoch.

    `params.yaml` chooses the variant, not its result, so the sentences also report a loss. `headline_pairs` finds its
    parts. In the protocol's first headline metric.
    """
    splits = results.unseen
    if results.highlight == results.reference:
        return " ".join([*about_the_reference(results), *_language(results), *captions.limits(results, splits)])
    parts, _ = parts_and_others(results)
    said = [_said(pair, results, splits, first=place == 0) for place, pair in enumerate(parts)]
    if not parts:
        said = [_over_reference(results, splits, f" {results.metric} over {results.reference}")]
    seeds = len(results.scored_seeds[results.highlight])
    said[-1] += f" ({seeds} seeds)" if seeds > 1 else " (one seed)"
    sentences = [f"{sentence}." for sentence in said]
    sentences += [
        f"No verdict on {captions.listing(of)}: {reason}."
        for reason, of in captions.no_verdicts(results, splits).items()
    ]
    return " ".join([*sentences, *_language(results), *captions.limits(results, splits), *unscored(results)])


def _language(results: DatasetNumbers) -> list[str]:
    return [said] if (said := language_tables.warning(results)) else []


def others(results: DatasetNumbers) -> str:
    """Where the systems that others made are, compared with the reference, in sentences; empty without any."""
    said = []
    for name in results.others:
        rows = {split: results.row(name, split, results.metric) for split in results.unseen}
        said.append(f"{_differences(name, rows, f' {results.metric} over {results.reference}')}.")
    return " ".join([*said, *([f"Of others there is {ONE_FILE}."] if said else [])])


def other_parts(results: DatasetNumbers) -> str:
    """Sentences about the parts that the headline does not have, and about the splits that chose the epoch."""
    if len(results.scored) < 2:
        return ""
    splits = results.unseen
    parts, others = parts_and_others(results)
    if len(others) <= PAIRS:
        sentences = [f"{_said(row, results, splits)}." for row in others]
    else:
        sentences = []
        for split in splits:
            rows = [contrast_tables.contrast(results, pair, split, results.metric) for pair in others]
            counted = _counted(pd.DataFrame(rows))
            sentences.append(f"{len(others)} other differences of one part on {split}: {counted}.")
    if (seen := [split for split in results.splits if split not in splits]) and results.highlight != results.reference:
        said = [_said(row, results, seen) for row in parts] or [_over_reference(results, seen, "")]
        sentences.append(f"Where the epoch was chosen: {'. '.join(said)}.")
    return " ".join(sentences)


def details(results: DatasetNumbers) -> str:
    """Sentences about the highest means, the losses, and what the data cannot show."""
    if len(results.scored) < 2:
        return ""
    tested = [split for split in results.unseen if not results.no_verdict(split)]
    best = {split: _highest(results, split) for split in tested}
    sentences = []
    if best:
        means = "; ".join(f"{name} on {split}, {_mean(results, name, split)}" for split, name in best.items())
        sentences.append(f"Highest mean: {means}.")
    sentences += _losses(results)
    if not all(map(results.no_verdict, results.splits)):
        sentences.append(plan_tables.sentence(results) + captions.verdict_words(results))
    if _adjusted_away(results):
        sentences.append(
            "Where an interval excludes 0 and the difference is still not supported, the adjustment for several "
            "comparisons is the reason."
        )
    if results.over == "images alone":
        sentences.append(
            "One seed cannot show which differences another seed would repeat"
            + (
                ": its intervals cover the luck of the images alone."
                if captions.has_intervals(results, results.splits)
                else "."
            )
        )
    return " ".join(sentences)


def effects(results: DatasetNumbers) -> str:
    """What the effects of the factorial are, on the splits that chose no epoch; empty where there is none.

    A sentence for each field's effects, one for each split's interactions, and one for each that is supported.
    """
    if results.factorial is None:
        return ""
    found = results.effects[results.effects["metric"] == results.metric]
    interactions = found[(found["vlba"] != "") & (found["contrastive"] != "")]
    said = []
    for field, other in (("vlba", "contrasts"), ("contrastive", "kinds of VLBA")):
        main = found[(found[field] != "") & ~found.index.isin(interactions.index)]
        said += [
            _effect(rows, results, f" {results.metric} in the mean over {other}" if place == 0 else "")
            for place, (_, rows) in enumerate(main.groupby("what", sort=False))
        ]
    if (number := interactions["what"].nunique()) == 1:
        return f"{'. '.join([*said, _effect(interactions, results, f' {results.metric}')])}."
    for split in results.unseen:
        of_split = interactions[interactions["split"] == split].dropna(subset="difference")
        if len(of_split):
            said.append(f"{number} interactions on {split}: {_counted(of_split)}")
    for _, rows in interactions.groupby("what", sort=False):
        if rows["supported"].any():
            said.append(_effect(rows, results, ""))
    return f"{'. '.join(said)}."


def _counted(rows: pd.DataFrame) -> str:
    """How many differences have which verdict, and from where to where they reach."""
    words = Counter(word for _, row in rows.iterrows() if (word := verdict(row)))
    counts = captions.listing([f"{count} {word}" for word, count in words.items()]) + ", " if words else ""
    ends = [signed(rows["difference"].agg(end)) for end in ("min", "max")]
    return f"{counts}from {ends[0]} to {ends[1]}"


def _effect(rows: pd.DataFrame, results: DatasetNumbers, unit: str) -> str:
    """An effect on each split that chose no epoch, from the rows that are about it."""
    by_split = {row["split"]: row for _, row in rows.iterrows()}
    what = captions.capital(rows["what"].iloc[0])
    return _differences(what, {split: by_split[split] for split in results.unseen}, unit)


def stated(results: DatasetNumbers, metric: str) -> pd.DataFrame:
    """The differences of `headline` and `other_parts` in a metric, on the splits that chose no epoch, in their order.

    Returns:
        A row for each difference and split: headline (whether it stands there), what, variant, against, split,
        difference, difference_low, difference_high (fractions), verdict (empty where there is none).
    """
    splits = results.unseen
    parts, others = parts_and_others(results)
    said = [
        (True, f"{results.highlight} over {results.reference}", results.highlight, results.reference, split, row)
        for split in splits
        if results.highlight != results.reference and not parts
        for row in [results.row(results.highlight, split, metric)]
    ]
    said += [
        (place < len(parts), contrast_tables.part(results, pair), pair["variant"], pair["against"], split, row)
        for place, pair in enumerate([*parts, *others])
        for split in splits
        for row in [contrast_tables.contrast(results, pair, split, metric)]
    ]
    columns = ["headline", "what", "variant", "against", "split", *DIFFERENCE, "verdict"]
    return pd.DataFrame([[*about, *row[[*DIFFERENCE]], told(row)] for *about, row in said], columns=columns)


def about_the_reference(results: DatasetNumbers) -> list[str]:
    """Where the report is about the reference, and why."""
    reference, missing = results.reference, unscored(results)
    if reference not in results.scored:
        return missing
    numbers = [f"{_mean(results, reference, split)} on {split}" for split in results.unseen]
    number = f"{results.metric} of {captions.listing(numbers)}"
    if results.named_highlight != reference:
        named = results.named_highlight
        said = f"The highlighted variant {named} has no scores, so this is about the reference {reference}: {number}"
        return [f"{said}.", *missing]
    why = "no other variant is listed"
    if len(results.variants) > 1:
        why = "it is both the highlighted variant and the reference"
    return [f"{reference}: {number}; {why}, so there is no difference.", *missing]


def _highest(results: DatasetNumbers, split: str) -> str:
    return max(results.scored, key=lambda name: results.row(name, split, results.metric)["mean"])


def _mean(results: DatasetNumbers, variant: str, split: str) -> str:
    row = results.row(variant, split, results.metric)
    return f"{percent(row['mean'])} {interval(row['low'], row['high'])}".strip()


def parts_and_others(results: DatasetNumbers) -> tuple[list[pd.Series], list[pd.Series]]:
    """Pairs with numbers in the first headline metric, as rows of the first split that chose no epoch.

    Returns:
        Those that lead to the highlighted variant, one part in each step, and all others. There are none of the first
        where the report is about the reference.
    """
    table = results.contrasts
    of_split = (table["split"] == results.unseen[0]) & (table["metric"] == results.metric)
    chosen = table[of_split & table["difference"].notna()]
    rows = {(row["variant"], row["against"]): row for _, row in chosen.iterrows()}
    steps = []
    if results.highlight != results.reference:
        steps = headline_pairs(table, results.highlight, results.reference)
    parts = [rows.pop(pair) for pair in steps if pair in rows]
    return parts, list(rows.values())


def _said(pair: pd.Series, results: DatasetNumbers, splits: list[str], first: bool = False) -> str:
    """`Bidirectional VLBA: +3.1 on testA [2.2, 4.0], supported; +2.9 on testB ...`.

    Variants are named where several pairs share the part.
    """
    unit = f" {results.metric} over the variant without it" if first else ""
    rows = {split: contrast_tables.contrast(results, pair, split, results.metric) for split in splits}
    return _differences(captions.capital(contrast_tables.part(results, pair)), rows, unit)


def _over_reference(results: DatasetNumbers, splits: list[str], unit: str) -> str:
    rows = {split: results.row(results.highlight, split, results.metric) for split in splits}
    return _differences(results.highlight, rows, unit)


def _differences(what: str, rows: dict[str, pd.Series], unit: str) -> str:
    """A difference on each split, with its interval and whether it is supported; a loss is called one."""
    if all(pd.isna(row["difference"]) for row in rows.values()):
        return f"{what}: no seed in common, so no difference"
    units = [unit, *[""] * (len(rows) - 1)]
    said = [_difference(row, f"{unit} on {split}") for unit, (split, row) in zip(units, rows.items(), strict=True)]
    return f"{what}: {'; '.join(said)}"


def _difference(row: pd.Series, where: str) -> str:
    change = signed(row["difference"])
    bounds = interval(row["difference_low"], row["difference_high"])
    word = told(row)
    return f"{change}{where} {bounds}".strip() + (f", {word}" if word else "")


def told(row: pd.Series) -> str:
    """The verdict as the sentences have it: a loss is called one where the word alone does not tell."""
    word = verdict(row)
    loss = word == "supported" and row["difference"] < 0 and signed(row["difference"]) != SAME
    return f"a loss, {word}" if loss else word


def _losses(results: DatasetNumbers) -> list[str]:
    """Every variant that is below the reference, where that is supported."""
    lost = [
        f"{name} on {split} ({signed(row['difference'])})"
        for name in results.scored
        for split in results.splits
        for row in [results.row(name, split, results.metric)]
        if row["supported"] and row["difference"] < 0
    ]
    return [f"Below {results.reference}, supported: {captions.listing(lost)}."] if lost else []


def _adjusted_away(results: DatasetNumbers) -> bool:
    """Whether an interval of the first metric excludes 0 whose difference is not supported."""
    of_reference = results.comparison.xs(results.metric, level="metric")
    of_pairs = results.contrasts[results.contrasts["metric"] == results.metric]
    return any(
        (
            ((table["difference_low"] > 0) | (table["difference_high"] < 0)) & table["p"].notna() & ~table["supported"]
        ).any()
        for table in (of_reference, of_pairs)
    )


def unscored(results: DatasetNumbers) -> list[str]:
    """A sentence for each listed variant of which scores are missing."""
    return [captions.why_no_number(results, name) for name in results.variants if name in results.missing]
