"""The moments at which a fault is injected: places in the code of the project and of DVC."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

HOOK = Path(__file__).with_name("hook")


@dataclass(frozen=True)
class Moment:
    """A place in the code at which a process waits.

    Attributes:
        text: the moment in words, for the table.
        place: `MODULE:FUNCTION`; `MODULE:` is the import of the module.
        process: words of the command line of the process that waits there.
        call: the call of the function at which it waits, from 1; only calls that mention `mentions` count.
        after: wait after the function has returned, not before it begins.
        mentions: text in the function's arguments; a file counts by its name.
    """

    text: str
    place: str
    process: str
    call: int = 1
    after: bool = False
    mentions: str = ""

    def environment(self, folder: Path) -> dict[str, str]:
        """Environment variables that make the process wait; a file `reached` in the folder shows that it waits."""
        at = {**asdict(self), "reached": str(folder / "reached"), "go": str(folder / "go")}
        path = os.pathsep.join(filter(None, (str(HOOK), os.environ.get("PYTHONPATH"))))
        return {"FAULTS_AT": json.dumps(at), "PYTHONPATH": path}


TRAINER = "stages.train --dataset scenes --variant alignformer"
IMPORT = Moment("imports", "models.alignformer:", TRAINER)
STEP = Moment("step 3 of epoch 2", "stages.train.loss_meter:LossMeter.add", TRAINER, call=10)
VALIDATION = Moment("validation of epoch 2", "stages.scoring.score:score", TRAINER, call=2)
HALF = Moment("checkpoint of epoch 2 half written", "stages.train.checkpoints:_Hashing.write", TRAINER, call=8700)
UNNAMED = Moment(
    "checkpoint of epoch 2 not yet named", "stages.train.checkpoints:_write_through", TRAINER, 2, after=True
)
MODEL = Moment("model half written", "models.alignformer:AlignFormer.save_pretrained", TRAINER, after=True)
HISTORY = Moment("model written, history not", "pandas:DataFrame.to_csv", TRAINER)
WRITTEN = Moment("outputs written, trainer at its last lines", "stages.tracking.live:TrainingRun.log_folder", TRAINER)

REPRO = "train@scenes-alignformer-0"  # of `dvc repro`, plain or as the flow starts it
ENDED = Moment("trainer ended, outputs not yet hashed", "dvc.stage:Stage.save", REPRO, mentions="train@")
COMMIT = Moment(
    "one output in the cache, the other not", "dvc.output:Output.commit", REPRO, call=2, mentions="results/"
)
CACHED = Moment(
    "run-cache written, dvc.lock not", "dvc.stage.cache:StageCache.save", REPRO, after=True, mentions="train@"
)
LOCK = Moment("dvc.lock open and empty", "dvc.utils.serialize._yaml:_dump", REPRO, mentions="dvc.lock")
LOCK_PART = Moment("dvc.lock partly written", "dvc.utils.serialize._yaml:_dump", REPRO, after=True, mentions="dvc.lock")
RWLOCK = Moment(".dvc/tmp/rwlock open and empty", "json:dump", REPRO, call=4, mentions="rwlock")

SET = "pipelines.experiment --set"
CHANGE = Moment("params.yaml written, not in place", "pathlib:Path.replace", SET, mentions="params.yaml")
CHANGED = Moment("params.yaml in place", "pathlib:Path.replace", SET, after=True, mentions="params.yaml")
LINKED = Moment("params.yaml of the new experiment in place, links not", "pathlib:Path.symlink_to", SET)

PREPARED = Moment("tables half written", "pandas:DataFrame.to_parquet", "stages.prepare --dataset", after=True)
SCORED = Moment(
    "scores half written",
    "pandas:DataFrame.to_parquet",
    "stages.evaluate --dataset scenes --variant alignformer",
    1,
    True,
)
DIAGNOSED = Moment(
    "tables half written", "pandas:DataFrame.to_csv", "stages.diagnose --dataset scenes --variant alignformer", 1, True
)
COMPARED = Moment("first of three tables written", "pandas:DataFrame.to_csv", "stages.ablate", call=2)
REPORTED = Moment("page and tables half written", "pathlib:Path.write_bytes", "stages.report", call=6)
