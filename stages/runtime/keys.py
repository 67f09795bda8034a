"""What a stage is computed from, as `dvc.lock` records it, and short keys made of that.

A stage runs before DVC writes its entry in `dvc.lock`, so the running stage computes its inputs the way DVC will, with
DVC's own code. `tests/stages/tracking/test_tracking.py` checks that both ways agree.
"""

import hashlib
import json
from pathlib import Path

from stages.runtime import dvc_internals
from stages.runtime.dvc_internals import DvcError

INPUTS = ("cmd", "deps", "params")
LOCK = Path("dvc.lock")


def live_inputs(stage: str, folder: Path = Path()) -> dict | None:
    """Command, dependencies and parameters of a stage of the experiment in a folder as they lie in the working tree.

    None where DVC knows no such stage. Reads only; DVC's cache of hashes makes this about 0.3 s.
    """
    try:
        return inputs_of(dvc_internals.lock_entry(stage, folder))
    except DvcError:
        return None


def locked_inputs(stage: str, lock: Path = LOCK) -> dict | None:
    """The same from the stage's entry in `dvc.lock`: what its outputs were made from; None where there is no entry."""
    entry = locked_entries(lock).get(stage)
    return None if entry is None else inputs_of(entry)


def locked_entries(lock: Path = LOCK) -> dict[str, dict]:
    """Stage -> its entry in `dvc.lock`: its inputs and its outputs; empty where there is no such file.

    Raises:
        DvcError: the file is cut off.
    """
    return dvc_internals.read_yaml(lock).get("stages", {}) if lock.exists() else {}


def inputs_of(entry: dict) -> dict:
    """Command, dependencies and parameters of an entry."""
    return {name: entry[name] for name in INPUTS if name in entry}


def entry_hash(entry: dict) -> str:
    """A hash of a stage's whole entry: other inputs or other outputs, another hash."""
    return _digest(entry)


def key(stage: str, inputs: dict | None) -> str:
    """The stage's name and a hash of its inputs; `NAME-undeclared` where DVC does not know them."""
    return f"{stage}-{'undeclared' if inputs is None else _digest(inputs)}"


def shared_key(name: str, inputs: dict | None) -> str:
    """The same for every variant and seed of one ablation: a training's inputs without command and variant."""
    if inputs is None:
        return key(name, None)
    params = {
        file: {knob: value for knob, value in knobs.items() if not knob.startswith("variants.")}
        for file, knobs in inputs.get("params", {}).items()
    }
    return key(name, {"deps": inputs.get("deps", []), "params": params})


def _digest(inputs: dict) -> str:
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]
