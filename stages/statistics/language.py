"""What language contributes: every variant with its own expressions and with those of other images.

A model that ignores words segments as well with any words. So the same models are scored with expressions of other
images, and the difference, own minus others', is taken on the same expressions, images and seeds, as every other.
Masks without a model stand beside them: what an image gives away alone.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from stages.statistics import comparison
from stages.statistics.bootstrap import NOTHING, VariantSeed
from stages.statistics.scored import Scored

OTHER = "other images' expressions"
COLUMNS = [
    *("dataset", "protocol", "split", "metric", "system", "without_model", "expressions", "images", "seeds"),
    *("mean", "low", "high", "difference", "difference_low", "difference_high"),
]


def compare(
    scored: Scored,
    controls: tuple[np.ndarray, np.ndarray, np.ndarray],
    without_model: Mapping[str, pd.DataFrame],
) -> pd.DataFrame:
    """One row for each split, headline metric of the protocol and system, with `COLUMNS`.

    Args:
        scored: the runs.
        controls: their scores with expressions of other images, as `scored.read_controls` returns them.
        without_model: name -> intersection and union of a mask that needs no model, for each expression.

    Returns:
        First the masks without a model (without_model is true): mean, low and high over images, no difference. Then
        the listed variants: seeds, mean, low and high are of the control, over seeds and images; difference is the
        variant with its own expressions minus the control. Fractions; a variant without scores has no numbers, and
        none has some on a split of a single image.
    """
    intersection, union, given = controls
    masks = list(without_model)
    names = {variant: f"{variant}, {OTHER}" for variant in scored.variants}
    own = [place for place, run in enumerate(scored.runs) if run.variant not in scored.others]
    tables = list(without_model.values())
    both = replace(
        scored,
        variants=[*scored.variants, *names.values()],
        others=masks,
        runs=[
            *(scored.runs[place] for place in own),
            *(VariantSeed(names[scored.runs[place].variant], scored.runs[place].seed) for place in own),
            *(VariantSeed(name, 0) for name in masks),
        ],
        intersection=np.vstack([scored.intersection[own], intersection[own], *(t["intersection"] for t in tables)]),
        union=np.vstack([scored.union[own], union[own], *(t["union"] for t in tables)]),
    )
    found = comparison.estimates(both, scored.protocol.headline)
    rows = []
    for split in scored.splits:
        chosen = scored.rows(split)
        has_control = bool(given[chosen].all())
        about = {"dataset": scored.dataset, "protocol": scored.protocol.name, "split": split}
        size = {"expressions": int(chosen.sum()), "images": scored.images(chosen)}
        for metric, of in found[split].items():
            alone = replace(of, common_degrees=0)  # a difference of one model says nothing about that of another
            for system in [*masks, *scored.variants]:
                mask = system in masks
                mean = of.mean(system if mask else names[system]) if mask or has_control else None
                difference = None if mask or not has_control else alone.difference(system, names[system])
                mean, difference = mean or NOTHING, difference or NOTHING
                rows.append(
                    {
                        **about,
                        "metric": metric,
                        "system": system,
                        "without_model": mask,
                        **size,
                        "seeds": 0 if mask else len(scored.seeds_of(system)),
                        **{"mean": mean.value, "low": mean.low, "high": mean.high},
                        "difference": difference.value,
                        "difference_low": difference.low,
                        "difference_high": difference.high,
                    }
                )
    return pd.DataFrame(rows, columns=COLUMNS)
