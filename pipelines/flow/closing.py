"""The last words of a run that was started by hand: the result and where it lies, or what failed and how to go on."""

import html
import os
import re
import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Collection

from pipelines.dvc.reproduce import Outcome
from pipelines.flow.progress import Progress, span
from stages.runtime import layout

REPORT = layout.REPORTS / "index.html"
COUNTED = {
    Outcome.RAN: "ran",
    Outcome.CACHED: "came from DVC's cache",
    Outcome.UNCHANGED: "unchanged",
    "failed": "failed",
    "skipped": "skipped",
    "stopped": "stopped",
}


def up_to_date(stages: Collection[str], what: str) -> str:
    """What was done, the headline of the report where it is one of the stages, and where to look."""
    lines = [what]
    if "report" in stages and (said := headlines()):
        if sys.stdout.isatty():
            said = [textwrap.fill(line, shutil.get_terminal_size().columns) for line in said]
        lines += ["", *said, "", f"report: {REPORT}"]
    lines.append("models and runs: " + os.environ.get("MLFLOW_TRACKING_URI", "make ui"))
    return "\n".join(lines)


def failed(progress: Progress, again: str) -> str:
    """Each stage that failed, with its own words, and the command to go on with."""
    lines = []
    for stage in progress.in_state("failed"):
        lines += [f"{stage} failed:", *(f"  {line}" for line in progress.cause(stage)), ""]
    lines.append(f"{counts(progress)} in {span(progress.seconds)}. What is up to date stays.")
    return "\n".join([*lines, f"Once the cause is gone, go on with: {again}"])


def interrupted(progress: Progress | None, again: str) -> str:
    """What stays, and the command to go on with."""
    stays = f"{counts(progress)} in {span(progress.seconds)}. What is up to date stays" if progress else "Nothing ran"
    return f"{stays}, and a training goes on from its last checkpoint.\nGo on with: {again}"


def counts(progress: Progress) -> str:
    """`12 stages ran, 39 unchanged, 1 failed`."""
    counted = Counter(each.state for _, each in progress.items())
    words = [f"{counted[state]} {word}" for state, word in COUNTED.items() if counted[state]]
    return ", ".join(words).replace(" ", " stages " if not words[0].startswith("1 ") else " stage ", 1)


def headlines() -> list[str]:
    """What the report says first about each dataset; nothing where there is no report."""
    if not REPORT.exists():
        return []
    top = re.search(r'<ul class="headlines">(.*?)</ul>', REPORT.read_text(encoding="utf-8"), re.DOTALL)
    items = re.findall(r"<li>(.*?)</li>", top[1], re.DOTALL) if top else []
    return [html.unescape(re.sub(r"<[^>]*>", "", item)).strip() for item in items]
