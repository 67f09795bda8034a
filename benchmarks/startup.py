"""How much CPU time do the start and the end of a stage take, and what does the garbage collector's setting save?

Each process does what `python -m stages.NAME` does beside its work: `start()`, and all imports of the command, those
inside its functions included. It does so once with Python's own setting of the collector and once with that of
`stages.runtime.startup`, in turn. Seconds are CPU seconds, medians over the rounds.

Adds one row per stage to `benchmarks/results/startup.csv`.
"""

import argparse
import ast
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks import table

RESULTS = Path("benchmarks/results/startup.csv")
ROOT = Path(__file__).parents[1]
STAGES = ("prepare", "train", "evaluate", "diagnose", "card", "score", "ablate", "report", "predict")
START = "from stages.runtime.startup import start; start()"
WAYS = {
    "as python": (
        f"import atexit, gc; given = gc.get_threshold(); {START}; "
        "gc.set_threshold(*given); atexit.unregister(gc.freeze)"
    ),
    "as stages": START,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description=__doc__.splitlines()[0])
    parser.add_argument("stages", nargs="*", metavar="STAGE", default=STAGES, help=f"default: {' '.join(STAGES)}")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="processes per way (default: 5)")
    options = parser.parse_args()
    for stage in options.stages:
        spent = {way: [] for way in WAYS}
        for _ in range(options.rounds):
            for way, code in WAYS.items():
                spent[way].append(seconds(f"{code}\n{imports(stage)}"))
        medians = {way: statistics.median(times) for way, times in spent.items()}
        row = {
            **table.surroundings("torch", "transformers"),
            "stage": stage,
            "rounds": options.rounds,
            **{f"{way}, CPU s": round(median, 2) for way, median in medians.items()},
            "ratio": round(medians["as stages"] / medians["as python"], 2),
            "command": table.command("startup"),
        }
        table.append(RESULTS, [row])
        print(f"{stage}: {row['as stages, CPU s']} s, {row['ratio']} of {row['as python, CPU s']} s", flush=True)


def imports(stage: str) -> str:
    """All import statements of a stage's `__main__.py`, those at the top first, then those inside functions."""
    command = ast.parse((ROOT / "stages" / stage / "__main__.py").read_text(encoding="utf-8"))
    return "\n".join(ast.unparse(node) for node in ast.walk(command) if isinstance(node, ast.Import | ast.ImportFrom))


def seconds(code: str) -> float:
    """CPU seconds of a Python process that runs the code."""
    before = table.cpu_of_children()
    subprocess.run([sys.executable, "-c", code], check=True)
    return table.cpu_of_children() - before


if __name__ == "__main__":
    main()
