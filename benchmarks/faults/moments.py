"""The moments at which a fault is injected: places in the code of the project and of DVC."""

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

HOOK = Path(__file__).with_name("hook")


@dataclass(frozen=True)
class Moment:
    """A place that a process comes to.

    Attributes:
        text: for the table.
        place: `MODULE:FUNCTION`; `MODULE:` is the import of the module.
        process: words of the command line of the process that waits there.
        call: at which call of the function, from 1, counting those that mention `mentions`.
        after: when the function has returned, not before it begins.
        mentions: text in the function's arguments, a file by its name.
    """

    text: str
    place: str
    process: str
    call: int = 1
    after: bool = False
    mentions: str = ""

    def environment(self, folder: Path) -> dict[str, str]:
        """Variables that make the process wait, and say in the folder that it does."""
        at = {**self.__dict__, "reached": str(folder / "reached"), "go": str(folder / "go")}
        path = os.pathsep.join(filter(None, (str(HOOK), os.environ.get("PYTHONPATH"))))
        return {"FAULTS_AT": json.dumps(at), "PYTHONPATH": path}

    def of(self, stage: str) -> "Moment":
        """The same in DVC's work on another stage."""
        return replace(self, text=f"{self.text} of {stage.split('@')[0]}", process=stage)


TRAIN = "stages.train --dataset scenes --variant alignformer"
IMPORT = Moment("the trainer's imports", "models.alignformer:", TRAIN)
STEP = Moment("a step of epoch 2", "stages.train.losses:Losses.add", TRAIN, call=5)
VALIDATION = Moment("validation of epoch 2", "stages.evaluate.score:score", TRAIN, call=2)
CHECKPOINT = Moment("the 2nd checkpoint half written", "stages.train.checkpoints:_Hashing.write", TRAIN, call=700)
NAMED = Moment("the 2nd checkpoint written, not yet named", "stages.train.checkpoints:_write_through", TRAIN, 2, True)
MODEL = Moment("the model written, the history not", "models.alignformer:AlignFormer.save_pretrained", TRAIN, after=True)
WRITTEN = Moment("the outputs written, the trainer not yet ended", "stages.train.__main__:write", TRAIN, after=True)
SCORES = Moment("the scores written, the metrics not", "pandas:DataFrame.to_parquet", "stages.evaluate", after=True)
