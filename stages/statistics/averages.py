"""Averages over the splits that chose no epoch, and over datasets.

The splits of a dataset share their runs, so what a seed adds to one is not independent of what it adds to another. The
average over K splits is taken in each run, and then treated as the metric of a single split: resampled, it is the mean
of the splits' resamples, of independent draws; an image adds to it 1 / K of what it adds to its split.

Runs on different datasets are independent. The mean over datasets, with weights w that add to 1, has the variance

    sum over datasets of w^2 (i^2 + s^2)        with the images' and the seeds' part of the error, see `planning`

and the degrees of freedom of Welch and Satterthwaite (Welch 1947), in which the images' parts count as known.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy import stats

from stages.scoring.metrics import METRICS
from stages.statistics import comparison, evidence
from stages.statistics.bootstrap import LEVEL, NOTHING, Estimates, holm
from stages.statistics.comparison import LARGEST_P, Splits
from stages.statistics.scored import Scored

COLUMNS = [
    *("dataset", "protocol", "metric", "splits", "variant", "against", "headline", "seeds"),
    *(
        "value",
        "low",
        "high",
        "std",
        "images_error",
        "seeds_error",
        "degrees",
        "p",
        "p_holm",
        "no_verdict",
        "supported",
    ),
]
KEYS = ["metric", "variant", "against"]


def over_splits(found: Sequence[Estimates]) -> Estimates:
    """The average of a metric over K splits of the same runs, as if it were that of one split."""
    first, splits = found[0], len(found)
    images = sum(each.images for each in found)
    shift = first.resampled.shape[1] // splits  # splits of the same size have the same draws: pair different ones
    additions = [
        each.additions * math.sqrt(images * (images - 1) / (each.images * max(1, each.images - 1))) / splits
        for each in found
    ]
    return replace(
        first,
        values=np.mean([each.values for each in found], axis=0),
        resampled=np.mean([np.roll(each.resampled, place * shift, axis=1) for place, each in enumerate(found)], axis=0),
        additions=np.hstack(additions),
        fewest=0 if all(each.images >= each.fewest for each in found) else images + 1,
    )


def compare(scored: Scored, found: Splits, reference: str, highlight: str, contrasts: pd.DataFrame) -> pd.DataFrame:
    """Averages over the unseen splits of every metric: of each variant, and of each pair that the report compares.

    Args:
        found: `comparison.estimates` of the same scores.
        reference, highlight: the variant that the others are compared with, and that of the headline.
        contrasts: as `comparison.compare` has them: the pairs beside those with the reference.

    Returns:
        `COLUMNS`. splits: their names, separated by spaces. against is empty for a variant's own mean, else value is
        the difference; headline says whether the pair is one of its family, see `comparison.compare`: p-values are
        adjusted as there. std is over seeds, missing for one. A variant without scores has no numbers.
    """
    pairs = [(name, reference) for name in scored.systems if name != reference]
    pairs += list(contrasts[["variant", "against"]].drop_duplicates().itertuples(index=False, name=None))
    splits = evidence.unseen(scored.splits)
    family = set(map(frozenset, comparison.headline_pairs(contrasts, highlight, reference)))
    rows = [
        {
            "dataset": scored.dataset,
            "protocol": scored.protocol.name,
            "metric": metric,
            "splits": " ".join(splits),
            "headline": frozenset((row["variant"], row["against"])) in family,
            **row,
        }
        for metric in METRICS
        for row in _rows([found[split][metric] for split in splits], scored.systems, list(dict.fromkeys(pairs)))
    ]
    return _adjusted(pd.DataFrame(rows))


def pooled(tables: Sequence[pd.DataFrame], weights: Sequence[float] | None = None) -> pd.DataFrame:
    """The mean over datasets of what `compare` has of each.

    Args:
        tables: one of `compare` for each dataset.
        weights: of the datasets, which add to 1; by default all weigh the same.

    Returns:
        `COLUMNS` without dataset, protocol and splits; seeds are the fewest of a dataset. A row without a number in one
        of the datasets has none.
    """
    shares = np.array(weights or [1 / len(tables)] * len(tables))
    parts = [table.set_index(KEYS) for table in tables]
    rows = [
        dict(zip(KEYS, key, strict=True)) | _over_datasets([part.loc[key] for part in parts], shares)
        for key in parts[0].index
        if all(key in part.index for part in parts)
    ]
    return _adjusted(pd.DataFrame(rows))


def _rows(found: list[Estimates], variants: list[str], pairs: list[tuple[str, str]]) -> Iterator[dict]:
    average, fewest = over_splits(found), min(found, key=lambda each: each.images)
    for variant, against in [*((name, "") for name in variants), *pairs]:
        interval = (average.difference(variant, against) if against else average.mean(variant)) or NOTHING
        values = average.of(variant)
        yield {
            "variant": variant,
            "against": against,
            "seeds": len(average.common_seeds(*filter(None, (variant, against)))),
            **dict(zip(("value", "low", "high"), interval[:3], strict=True)),
            "std": values.std(ddof=1) if len(values) > 1 and not against else math.nan,
            **{name: getattr(interval, name) for name in ("images_error", "seeds_error", "degrees")},
            "p": interval.p if against else math.nan,
            "no_verdict": fewest.no_verdict(variant, against) if against and not math.isnan(interval.value) else "",
        }


def _over_datasets(rows: list[pd.Series], weights: np.ndarray) -> dict:
    table = pd.DataFrame(rows)
    of_seeds = np.square(weights * table["seeds_error"].fillna(0).to_numpy(float))
    variance = np.square(weights * table["images_error"].to_numpy(float)).sum() + of_seeds.sum()
    value, error = float(weights @ table["value"].to_numpy(float)), math.sqrt(variance)
    known = (table["degrees"] > 0).all() and error > 0
    degrees = variance**2 / (np.square(of_seeds) / table["degrees"]).sum() if known and of_seeds.all() else math.inf
    half = stats.t.isf((1 - LEVEL) / 2, degrees) * error
    against = bool(rows[0].name[-1])
    lowest = -1 if against else 0
    return {
        "headline": rows[0]["headline"],
        "seeds": table["seeds"].min(),
        "value": value,
        "low": max(value - half, lowest),
        "high": min(value + half, 1),
        "std": math.sqrt(np.square(weights * table["std"].to_numpy(float)).sum()),
        "images_error": math.sqrt(variance - of_seeds.sum()),
        "seeds_error": math.sqrt(of_seeds.sum()),
        "degrees": degrees,
        "p": 2 * stats.t.sf(abs(value) / error, degrees) if against and known else math.nan,
        "no_verdict": table["no_verdict"].max(),
    }


def _adjusted(table: pd.DataFrame) -> pd.DataFrame:
    """With the p-values adjusted in each family of a metric, each pair counted once."""
    table["p_holm"] = math.nan
    pairs = table[["variant", "against"]].apply(frozenset, axis="columns")
    for _, rows in table[table["p"].notna()].groupby(["metric", "headline"]):
        first = rows[~pairs[rows.index].duplicated()]
        adjusted = dict(zip(pairs[first.index], holm(first["p"].to_numpy()), strict=True))
        table.loc[rows.index, "p_holm"] = pairs[rows.index].map(adjusted)
    table["supported"] = table["p_holm"] < LARGEST_P
    return table[[column for column in COLUMNS if column in table]]
