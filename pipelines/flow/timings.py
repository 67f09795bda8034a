"""How long stages took in earlier runs of this clone, and in this one."""

import json
import statistics
from contextlib import suppress
from pathlib import Path

from stages.runtime import params
from stages.runtime.atomic_write import atomic_write

FILE = Path(".dvc/tmp/experiment.timings.json")  # recipe -> stage -> seconds; for estimates only


class Timings:
    """Seconds that stages take under the recipe of `params.yaml`.

    What this run measured counts most: the setting or the machine may have changed since the earlier ones.
    """

    def __init__(self):
        try:
            self._recipe = params.read().experiment.recipe
        except params.ParamsError:
            self._recipe = ""
        self._earlier = _read().get(self._recipe, {})
        self._now: dict[str, float] = {}

    def add(self, stage: str, seconds: float) -> None:
        """A stage has run. Nothing fails where that cannot be written."""
        self._now[stage] = round(seconds, 1)
        known = _read()
        known.setdefault(self._recipe, {}).update(self._now)
        with suppress(OSError), atomic_write(FILE) as partial:
            partial.write_text(json.dumps(known, indent=1), encoding="utf-8")

    def expected(self, stage: str, running: dict[str, float]) -> float | None:
        """Seconds that a stage will probably take; None where nothing like it has run.

        Args:
            running: stage -> seconds that it will have taken, of those that run now and tell.
        """
        like = {name: seconds for name, seconds in {**running, **self._now}.items() if _kind(name) == _kind(stage)}
        if like:
            return statistics.mean(like.values())
        if stage in self._earlier:
            return self._earlier[stage]
        earlier = [seconds for name, seconds in self._earlier.items() if _kind(name) == _kind(stage)]
        return statistics.mean(earlier) if earlier else None


def _kind(stage: str) -> tuple[str, str]:
    """Stages take about as long where the command and the dataset are the same."""
    command, _, matrix = stage.partition("@")
    return command, matrix.partition("-")[0]


def _read() -> dict[str, dict[str, float]]:
    try:
        found = json.loads(FILE.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
