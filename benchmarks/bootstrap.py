"""How long does the comparison of a whole experiment take, with 10,000 resamples?

The scores are random, for a split as large as RefCOCO val (10,834 expressions of 1,500 images) and six variants with
three seeds each. Measured are the means and differences of all metrics with intervals and p-values, and all contrasts
between parts of the method.

Adds a row to `benchmarks/results/bootstrap.csv`.
"""

import argparse
import time
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd

from benchmarks import table
from stages.runtime import params
from stages.scoring.protocols import PROTOCOLS
from stages.statistics import comparison
from stages.statistics.bootstrap import RESAMPLES
from stages.statistics.scored import Scored

RESULTS = Path("benchmarks/results/bootstrap.csv")
EXPRESSIONS, IMAGES, SEEDS = 10_834, 1_500, [0, 1, 2]
LISTED = ["baseline", "text_to_pixel", "pixel_to_text", "vlba", "vlba_pixel", "alignformer"]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bootstrap", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    variants, scored = params.read_or_exit().variants, random_scores()

    def once() -> float:
        began = time.perf_counter()
        comparison.compare(scored, comparison.estimates(scored), LISTED[0], LISTED[-1], variants)
        return time.perf_counter() - began

    seconds = sorted(once() for _ in range(arguments.rounds))
    row = {
        "expressions": EXPRESSIONS,
        "images": IMAGES,
        "runs": len(scored.runs),
        "resamples": RESAMPLES,
        "seconds": round(median(seconds), 2),
        "lowest": round(seconds[0], 2),
        "highest": round(seconds[-1], 2),
        "rounds": arguments.rounds,
        **table.surroundings("numpy", "pandas"),
        "command": f"python -m benchmarks.bootstrap --rounds {arguments.rounds}",
    }
    print(", ".join(f"{key} {value}" for key, value in row.items()))
    table.append(RESULTS, [row])


def random_scores() -> Scored:
    random = np.random.default_rng(0)
    runs = [(variant, seed) for variant in LISTED for seed in SEEDS]
    union = random.integers(100, 50_000, (len(runs), EXPRESSIONS))
    return Scored(
        dataset="random",
        protocol=PROTOCOLS["original"],
        variants=LISTED,
        seeds=SEEDS,
        runs=runs,
        expressions=pd.DataFrame(
            {
                "sent_id": np.arange(EXPRESSIONS),
                "image_id": np.arange(EXPRESSIONS) % IMAGES,
                "split": "val",
            }
        ),
        intersection=(union * random.beta(2, 1, union.shape)).astype(np.int64),
        union=union,
    )


if __name__ == "__main__":
    main()
