"""How long stages took in earlier runs of this clone, and in this one."""

import json
import statistics
from contextlib import suppress
from pathlib import Path

from pipelines.dvc import stage_name
from stages.runtime import experiments, layout, params
from stages.runtime.atomic_write import atomic_write

FILE = Path(".dvc/tmp/experiment.timings.json")  # recipe -> bare stage -> seconds; for estimates only


class Timings:
    """Seconds that stages take under the recipe of their experiment.

    What this run measured counts most: the setting or the machine may have changed since the earlier ones.
    """

    def __init__(self):
        self._recipes: dict[str, str] = {}
        self._earlier = _read()
        self._now: dict[str, float] = {}

    def add(self, stage: str, seconds: float) -> None:
        """A stage has run. Nothing fails where that cannot be written."""
        self._now[stage] = round(seconds, 1)
        known = _read()
        for name, took in list(self._now.items()):
            known.setdefault(self._recipe(name), {})[stage_name.bare(name)] = took
        with suppress(OSError), atomic_write(FILE) as partial:
            partial.write_text(json.dumps(known, indent=1), encoding="utf-8")

    def expected(self, stage: str, running: dict[str, float]) -> float | None:
        """Seconds that a stage will probably take; None where nothing like it has run.

        Args:
            running: stage -> seconds that it will have taken, of those that run now and tell.
        """
        recipe, kind = self._recipe(stage), _kind(stage)
        now = {**running, **self._now}
        if like := [took for name, took in now.items() if (self._recipe(name), _kind(name)) == (recipe, kind)]:
            return statistics.mean(like)
        earlier = self._earlier.get(recipe, {})
        if (bare := stage_name.bare(stage)) in earlier:
            return earlier[bare]
        like = [took for name, took in earlier.items() if _kind(name) == kind]
        return statistics.mean(like) if like else None

    def _recipe(self, stage: str) -> str:
        """That of the stage's experiment."""
        experiment, _ = stage_name.split(stage)
        if experiment not in self._recipes:
            try:
                settings = params.read(experiments.folder(experiment) / layout.PARAMS)
                self._recipes[experiment] = settings.experiment.recipe
            except params.ParamsError:
                self._recipes[experiment] = ""
        return self._recipes[experiment]


def _kind(stage: str) -> tuple[str, str]:
    """Stages take about as long where the command and the dataset are the same."""
    command, _, matrix = stage_name.bare(stage).partition("@")
    return command, matrix.partition("-")[0]


def _read() -> dict[str, dict[str, float]]:
    try:
        found = json.loads(FILE.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
