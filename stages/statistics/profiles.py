"""Performance profiles: for which share of the expressions a variant's IoU is above a threshold.

At 0.5 it is Pr@0.5, and so on; the area below a profile is about mIoU (Dolan and More, Benchmarking optimization
software with performance profiles, 2002, draw such curves over solvers).
"""

import numpy as np
import pandas as pd

from stages.statistics import bootstrap
from stages.statistics.scored import Scored

THRESHOLDS = [place / 40 for place in range(40)]  # of IoU, from 0 on, those of Pr@X among them
AT_ONCE = 10  # thresholds whose resamples are in memory together
COLUMNS = ["dataset", "protocol", "split", "variant", "threshold", "share", "low", "high"]


def profiles(scored: Scored) -> pd.DataFrame:
    """The profile of every variant with scores on every split, mean over seeds.

    Returns:
        `COLUMNS`: share of the expressions whose IoU passes the threshold, as Pr@X counts it under the protocol, with
        its 95 % interval over images and seeds.
    """
    passes = np.greater if scored.protocol.strict else np.greater_equal
    variants, rows = [name for name in scored.systems if scored.seeds_of(name)], []
    for split in scored.splits:
        chosen = scored.rows(split)
        ious = scored.ious(chosen)  # (R, n)
        count = scored.by_image(chosen, np.ones((1, ious.shape[1])))
        for start in range(0, len(THRESHOLDS), AT_ONCE):
            sums = {
                str(threshold): (scored.by_image(chosen, passes(ious, threshold)), count)
                for threshold in THRESHOLDS[start : start + AT_ONCE]
            }
            found_at = bootstrap.estimates(scored.runs, sums, scored.protocol.both_empty, files=scored.files)
            for threshold, found in found_at.items():
                rows += [
                    (scored.dataset, scored.protocol.name, split, name, float(threshold), *found.mean(name)[:3])
                    for name in variants
                ]
    return pd.DataFrame(rows, columns=COLUMNS)
