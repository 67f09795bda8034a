"""Scores of all runs -> three tables: variants against the reference, parts of the method, and slices of expressions.

Numbers are fractions between 0 and 1. A mean is over the seeds of a variant, a difference over the seeds that both
variants have. Intervals hold 95 % and p-values are two-sided, both computed as `bootstrap` says.
"""

import math
from collections.abc import Mapping, Sequence, Set

import numpy as np
import pandas as pd

from models.variant import CONTRAST_FIELDS
from stages.runtime.params import Variant
from stages.scoring.metrics import METRICS, PRECISION_THRESHOLDS
from stages.statistics import bootstrap, planning
from stages.statistics.bootstrap import NOTHING, Estimates, Interval, holm
from stages.statistics.evidence import FEWEST_IMAGES
from stages.statistics.planning import Error
from stages.statistics.scored import Scored

LARGEST_P = 0.05  # the adjusted p-value below which a difference is called supported
SUPPORTED = (
    f"p < {LARGEST_P} after Holm's adjustment within a split and metric, for the pairs of the headline and for all "
    "others by themselves"
)
VLBA = {  # kind of VLBA, and the one it is compared with: the part in which they differ
    ("text_to_pixel", "none"): "text-to-pixel VLBA",
    ("pixel_to_text", "none"): "pixel-to-text VLBA",
    ("bidirectional", "none"): "bidirectional VLBA",
    ("global_words", "none"): "mean of the words at every pixel",
    ("no_exchange", "none"): "parameters of VLBA without exchange",
    ("text_to_pixel", "global_words"): "attention rather than the mean of the words",
    ("bidirectional", "no_exchange"): "exchange in VLBA",
}
CONTRAST_COLUMNS = [
    *("dataset", "protocol", "split", "metric", "variant", "against", "aspect", "what"),
    *("difference", "difference_low", "difference_high", "shared_seeds", "images_error", "seeds_error", "degrees"),
    *("p", "no_verdict"),
]
CONTRAST = {"pixel": "pixel contrast", "instance": "instance contrast"}


Splits = dict[str, dict[str, Estimates]]  # split -> metric -> estimates


def estimates(scored: Scored, metrics: Sequence[str] = METRICS) -> Splits:
    """Metrics of every run on every split."""
    return {split: _estimates(scored, scored.rows(split), metrics) for split in scored.splits}


def compare(
    scored: Scored,
    found: Splits,
    reference: str,
    highlight: str,
    variants: Mapping[str, Variant],
    smallest_effect: float | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every listed variant against the reference, and pairs of listed variants that differ in one part of the method.

    The p-values of a split and metric are adjusted in two families: the pairs of the headline, which `params.yaml`
    names before there is a result, and all other pairs. Each pair counts once, however often and whichever way round it
    is in the tables, so it has the same verdict everywhere. P-values of equivalence are adjusted in the same way, by
    themselves.

    Args:
        found: `estimates` of the same scores.
        reference: the variant that the others are compared with.
        highlight: the variant that the headline is about, see `headline_pairs`.
        variants: what each listed variant is made of.
        smallest_effect: the smallest difference that matters, a fraction; None: there are no words for verdicts.

    Returns:
        The comparison and the contrasts. Both have a row for each split and metric of what they compare, with dataset,
        protocol, and the columns

        - difference, difference_low, difference_high, p;
        - shared_seeds: how many both variants have; images_error, seeds_error, degrees: the two parts of its standard
          error, see `planning`;
        - p_holm: the adjusted p-value; supported: it is below `LARGEST_P`;
        - p_equivalent, p_equivalent_holm: `planning.p_equivalent`, alone and adjusted; verdict: `planning.verdict`;
        - no_verdict: why the difference has no p-value, as `evidence.no_verdict` says it; empty where it has one.

        The comparison has these of every variant to the reference, and

        - seeds, missing: how many of the listed seeds have scores, and which do not;
        - expressions, images: of the split;
        - mean, low, high: over seeds, with the interval; std (n - 1; missing for one seed), min and max over seeds;
        - improvement, improvement_low, improvement_high: probability that the variant's IoU on a random expression is
          above the reference's under the same seed; ties count half.

        A variant without scores has 0 seeds and no numbers. The reference's difference is 0, without interval and p.
        Systems of others, each one file of predictions, follow the variants: one seed, intervals over images alone, a
        difference to the mean over the reference's seeds, and no p-value.

        The contrasts have these of every pair of which one variant has a part that the other lacks, all else equal:
        variant, against (the one without the part), aspect (vlba or contrastive), what (name of the part). A pair
        without a seed in common has no numbers.
    """
    compared, contrasts = _compare(scored, found, reference), _contrasts(scored, found, variants)
    pairs = set(map(frozenset, headline_pairs(contrasts, highlight, reference)))
    compared, contrasts = _with_support([compared.assign(against=reference), contrasts], pairs, smallest_effect)
    return compared.drop(columns="against"), contrasts


def headline_pairs(contrasts: pd.DataFrame, highlight: str, reference: str) -> list[tuple[str, str]]:
    """The pairs that lead to the highlighted variant, one part of the method in each step, as (variant, against).

    They are found by going from it to the variant without its last part, and so on: `alignformer` over `vlba`, `vlba`
    over `baseline`. The contrastive loss is the last part. Without such pairs it is the difference to the reference.
    """
    there = contrasts[contrasts["difference"].notna()].drop_duplicates(["variant", "against"])
    steps, variant = [], highlight
    while len(found := there[there["variant"] == variant]):
        of_contrast = found[found["aspect"] == "contrastive"]
        step = (of_contrast if len(of_contrast) else found).iloc[0]
        steps.append((variant, step["against"]))
        variant = step["against"]
    return steps[::-1] or [(highlight, reference)]


def _compare(scored: Scored, found: Splits, reference: str) -> pd.DataFrame:
    better = {split: _improvement(scored, scored.rows(split), reference) for split in scored.splits}
    rows = [
        {
            **_described(scored),
            "variant": variant,
            "split": split,
            "metric": metric,
            **_seeds(scored, variant),
            **_size(scored, scored.rows(split)),
            **_mean(found[split][metric], variant),
            **_over_seeds(found[split][metric], variant),
            **_difference(found[split][metric], variant, reference),
            **_columns("improvement", better[split] and better[split].mean(variant)),
        }
        for variant in scored.systems
        for split in scored.splits
        for metric in METRICS
    ]
    return pd.DataFrame(rows)


def _contrasts(scored: Scored, found: Splits, variants: Mapping[str, Variant]) -> pd.DataFrame:
    rows = [
        {
            **_described(scored),
            "split": split,
            "metric": metric,
            "variant": variant,
            "against": against,
            "aspect": aspect,
            "what": what,
            **_difference(found[split][metric], variant, against),
        }
        for variant, against, aspect, what in _pairs({name: variants[name] for name in scored.variants})
        for split in scored.splits
        for metric in METRICS
    ]
    return pd.DataFrame(rows, columns=CONTRAST_COLUMNS)


def by_slice(scored: Scored, labels: pd.DataFrame, reference: str) -> pd.DataFrame:
    """The protocol's first headline metric in every slice of the expressions.

    Args:
        labels: sent_id, family, slice, in the order of families and slices; an expression may be in several slices.

    Returns:
        One row for each split, family, slice and variant: metric, expressions and images of the slice, mean and
        difference with intervals. A slice of fewer than `FEWEST_IMAGES` images has no numbers.
    """
    metric, rows = scored.protocol.headline[0], []
    for split in scored.splits:
        for (family, name), of_slice in labels.groupby(["family", "slice"], sort=False):
            chosen = scored.rows(split) & scored.expressions["sent_id"].isin(of_slice["sent_id"]).to_numpy()
            if not chosen.any():
                continue
            enough = scored.images(chosen) >= FEWEST_IMAGES
            found = _estimates(scored, chosen, [metric])[metric] if enough else None
            rows += [
                {
                    **_described(scored),
                    "metric": metric,
                    "split": split,
                    "family": family,
                    "slice": name,
                    "variant": variant,
                    **_size(scored, chosen),
                    **_mean(found, variant),
                    **_difference(found, variant, reference, with_p=False),
                }
                for variant in scored.systems
            ]
    return pd.DataFrame(rows)


def _estimates(scored: Scored, rows: np.ndarray, metrics: Sequence[str]) -> dict[str, Estimates]:
    """Metrics of every run on the chosen expressions; rows (E,) bool."""
    passes = np.greater if scored.protocol.strict else np.greater_equal
    ious = scored.ious(rows)  # (R, n)
    count = scored.by_image(rows, np.ones((1, ious.shape[1])))  # (1, N)
    sums = {
        "oIoU": tuple(scored.by_image(rows, pixels[:, rows]) for pixels in (scored.intersection, scored.union)),
        "mIoU": (scored.by_image(rows, ious), count),
    }
    for threshold in PRECISION_THRESHOLDS:
        sums[f"Pr@{threshold}"] = scored.by_image(rows, passes(ious, threshold)), count
    chosen = {name: sums[name] for name in metrics}
    return bootstrap.estimates(scored.runs, chosen, scored.protocol.both_empty, files=scored.files)


def _improvement(scored: Scored, rows: np.ndarray, reference: str) -> Estimates | None:
    """Share of expressions on which a run's IoU is above that of the reference's run of the same seed.

    Of a file of predictions, the mean of its shares over the reference's seeds.
    """
    places = {run: place for place, run in enumerate(scored.runs)}
    against = {
        run: [seed for seed in scored.seeds_of(reference) if run[0] in scored.others or seed == run[1]]
        for run in scored.runs
        if run[0] != reference
    }
    runs = [run for run, seeds in against.items() if seeds]
    if not runs:
        return None
    ious = scored.ious(rows)  # (R, n)
    signs = np.stack(
        [
            np.mean([np.sign(ious[places[run]] - ious[places[reference, seed]]) for seed in against[run]], axis=0)
            for run in runs
        ]
    )
    sums = scored.by_image(rows, (signs + 1) / 2), scored.by_image(rows, np.ones((1, ious.shape[1])))
    return bootstrap.estimates(runs, {"above": sums}, empty=0.5, files=scored.files)["above"]


def _pairs(variants: Mapping[str, Variant]) -> list[tuple[str, str, str, str]]:
    """Pairs that differ in one part: the variant with it, the one without it, the aspect, the name of the part."""
    found = []
    for name, variant in variants.items():
        for against, other in variants.items():
            if _rest(variant) != _rest(other):
                continue
            same_levels = other.vlba == "none" or variant.vlba_levels == other.vlba_levels
            what = VLBA.get((variant.vlba, other.vlba))
            if what and same_levels and _contrast(variant) == _contrast(other):
                found.append((name, against, "vlba", what))
            if _vlba(variant) == _vlba(other) and other.contrastive == "none" != variant.contrastive:
                found.append((name, against, "contrastive", CONTRAST[variant.contrastive]))
    return found


def _vlba(variant: Variant) -> tuple:
    return variant.vlba, None if variant.vlba == "none" else variant.vlba_levels


def _contrast(variant: Variant) -> tuple:
    weighs = variant.contrastive != "none"
    return variant.contrastive, weighs and tuple(getattr(variant, key) for key in CONTRAST_FIELDS)


def _rest(variant: Variant) -> dict:
    """What a pair must agree in to tell anything about VLBA or the contrast."""
    return variant.model_dump(exclude={"vlba", "vlba_levels", "contrastive", *CONTRAST_FIELDS})


def _described(scored: Scored) -> dict:
    return {"dataset": scored.dataset, "protocol": scored.protocol.name}


def _seeds(scored: Scored, variant: str) -> dict:
    there = scored.seeds_of(variant)
    listed = [] if variant in scored.others else scored.seeds
    return {"seeds": len(there), "missing": " ".join(str(seed) for seed in listed if seed not in there)}


def _size(scored: Scored, rows: np.ndarray) -> dict:
    return {"expressions": int(rows.sum()), "images": scored.images(rows)}


def _mean(found: Estimates | None, variant: str) -> dict:
    interval = (found and found.mean(variant)) or NOTHING
    return {"mean": interval.value, "low": interval.low, "high": interval.high}


def _over_seeds(found: Estimates, variant: str) -> dict:
    values = found.of(variant)
    if not len(values):
        return {"std": math.nan, "min": math.nan, "max": math.nan}
    return {"std": values.std(ddof=1) if len(values) > 1 else math.nan, "min": values.min(), "max": values.max()}


def _difference(found: Estimates | None, variant: str, against: str, with_p: bool = True) -> dict:
    if variant == against:
        interval = NOTHING._replace(value=0.0)
    else:
        interval = (found and found.difference(variant, against)) or NOTHING
    told = {}
    if with_p:
        compares = variant != against and not math.isnan(interval.value)
        error = {name: getattr(interval, name) for name in ("images_error", "seeds_error", "degrees")}
        shared = len(found.common_seeds(variant, against)) if found else 0
        told = {"shared_seeds": shared} | error
        told |= {"p": interval.p, "no_verdict": found.no_verdict(variant, against) if compares else ""}
    return _columns("difference", interval) | told


def _columns(name: str, interval: Interval | None) -> dict:
    found = interval or NOTHING
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}


def _with_support(
    tables: list[pd.DataFrame], headline: Set[frozenset[str]], smallest_effect: float | None
) -> list[pd.DataFrame]:
    """The tables with adjusted p-values, supported and verdict; variant and against say which pair a row is about."""
    for table in tables:
        errors = table[["difference", "images_error", "seeds_error", "degrees"]].itertuples(index=False)
        table["p_equivalent"] = [
            planning.p_equivalent(difference, Error(*error), smallest_effect) for difference, *error in errors
        ]
    for column in ("p", "p_equivalent"):
        _adjust(tables, column, headline)
    for table in tables:
        table["supported"] = table["p_holm"] < LARGEST_P
        judged = table[["difference", "supported", "p_equivalent_holm"]].itertuples(index=False)
        table["verdict"] = [planning.verdict(*row) for row in judged]
    return tables


def _adjust(tables: list[pd.DataFrame], column: str, headline: Set[frozenset[str]]) -> None:
    """Add the column of p-values adjusted in their families, as COLUMN_holm; `headline`: the pairs of one family."""
    p_values = {test: p for table in tables for test, p in zip(_tests(table), table[column], strict=True)}
    adjusted = {}
    families: dict[tuple, list[tuple]] = {}
    for split, metric, pair in p_values:
        families.setdefault((split, metric, pair in headline), []).append((split, metric, pair))
    for tests in families.values():
        adjusted |= zip(tests, holm(np.array([p_values[test] for test in tests])), strict=True)
    for table in tables:
        found = pd.Series([adjusted[test] for test in _tests(table)], index=table.index, dtype=float)
        table.insert(table.columns.get_loc(column) + 1, f"{column}_holm", found)


def _tests(table: pd.DataFrame) -> list[tuple[str, str, frozenset[str]]]:
    """Split, metric and pair of variants of each row."""
    pairs = map(frozenset, zip(table["variant"], table["against"], strict=True))
    return list(zip(table["split"], table["metric"], pairs, strict=True))
