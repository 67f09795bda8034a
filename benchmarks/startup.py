"""What a stage's process costs beside its work: the imports and the end, with Python's collector as `stages` sets it.

Against the collector as Python sets it, in turns. Seconds are of the CPU, and medians.

Adds a row a stage to `benchmarks/results/startup.csv`.
"""

import argparse
import resource
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks import table

RESULTS = Path("benchmarks/results/startup.csv")
STAGES = ("prepare", "train", "evaluate", "diagnose", "ablate", "report", "predict")
WAYS = {
    "as python": (
        "import atexit, gc; given = gc.get_threshold(); import stages; "
        "gc.set_threshold(*given); atexit.unregister(gc.freeze)"
    ),
    "as stages": "import stages",
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description=__doc__.splitlines()[0])
    parser.add_argument("stages", nargs="*", metavar="STAGE", default=STAGES, help=f"default: {' '.join(STAGES)}")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="processes of each (default: 5)")
    options = parser.parse_args()
    for stage in options.stages:
        spent = {way: [] for way in WAYS}
        for _ in range(options.rounds):
            for way, code in WAYS.items():
                spent[way].append(seconds(f"{code}; import stages.{stage}.__main__"))
        medians = {way: statistics.median(times) for way, times in spent.items()}
        row = {
            **table.surroundings("torch", "transformers"),
            "stage": stage,
            "rounds": options.rounds,
            **{f"{way}, CPU s": round(median, 2) for way, median in medians.items()},
            "ratio": round(medians["as stages"] / medians["as python"], 2),
            "command": f"python -m benchmarks.startup {' '.join(sys.argv[1:])}".strip(),
        }
        table.append(RESULTS, [row])
        print(f"{stage}: {row['as stages, CPU s']} s, {row['ratio']} of {row['as python, CPU s']} s", flush=True)


def seconds(code: str) -> float:
    """Of the CPU, of a Python process that runs the code."""
    before = _spent()
    subprocess.run([sys.executable, "-c", code], check=True)
    return _spent() - before


def _spent() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
