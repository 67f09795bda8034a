"""The last words of a run that was started by hand: the result and where it lies, or what failed and how to go on."""

import os
import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Collection

from pipelines.dvc import stage_name
from pipelines.dvc.reproduce import Outcome
from pipelines.flow.progress import Progress, span
from pipelines.mlflow import descriptions
from stages.runtime import experiments, layout
from stages.runtime.experiments import DEFAULT

COUNTED = {
    Outcome.RAN: "ran",
    Outcome.CACHED: "came from DVC's cache",
    Outcome.UNCHANGED: "unchanged",
    "failed": "failed",
    "skipped": "skipped",
    "stopped": "stopped",
}


def up_to_date(stages: Collection[str], what: str) -> str:
    """What was done, what each report that is one of the stages says first, and where to look."""
    lines = [what]
    names = list(dict.fromkeys(stage_name.split(stage)[0] for stage in stages))
    for name in names:
        folder = experiments.folder(name)
        results = [descriptions.result(path) for path in sorted(folder.glob(str(layout.result("*"))))]
        if stage_name.join(name, "report") in stages and results:
            of = [f"experiment {name}:"] if names != [DEFAULT] else []
            lines += ["", *of, *(_filled(" ".join(said)) for said in results), "", f"report: {folder / layout.PAGE}"]
    elsewhere = "MLFLOW_TRACKING_URI" in os.environ  # which may hold a password
    lines.append(f"models and runs: {'the MLflow that MLFLOW_TRACKING_URI names' if elsewhere else 'make ui'}")
    return "\n".join(lines)


def failed(progress: Progress, again: str) -> str:
    """Each stage that failed, with its own words, and the command to go on with."""
    lines = []
    for stage in progress.in_state("failed"):
        lines += [f"{stage} failed:", *(_filled(f"  {line}") for line in progress.cause(stage)), ""]
    lines.append(f"{counts(progress)} in {span(progress.seconds)}. What is up to date stays.")
    return "\n".join([*lines, f"Once the cause is gone, go on with: {again}"])


def interrupted(progress: Progress | None, again: str) -> str:
    """What stays, and the command to go on with."""
    ran = f"{counts(progress)} in {span(progress.seconds)}" if progress else "Nothing had begun"
    stays = "What is up to date stays, and a training goes on from its last checkpoint."
    return f"{ran}. {stays}\nGo on with: {again}"


def counts(progress: Progress) -> str:
    """`12 stages ran, 39 unchanged, 1 failed`."""
    counted = Counter(each.state for _, each in progress.items())
    (number, what), *others = [(counted[state], word) for state, word in COUNTED.items() if counted[state]]
    noun = "stage" if number == 1 else "stages"
    return ", ".join([f"{number} {noun} {what}", *(f"{number} {word}" for number, word in others)])


def _filled(line: str) -> str:
    """A long line broken between words, on a terminal."""
    return textwrap.fill(line, shutil.get_terminal_size().columns) if sys.stdout.isatty() else line
