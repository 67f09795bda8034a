"""Where a report comes from, as `reports/provenance.json`: the same results give the same bytes, on any day.

So it identifies stages by the hash of their entry in `dvc.lock`, datasets by their fingerprint, and runs in MLflow by
their key. It contains no run id, no commit and no date.
"""

import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from stages.runtime import keys, layout
from stages.runtime.params import Params
from stages.runtime.run import Run

COMMAND = "dvc repro report"  # makes the report again, in the folder of its experiment
FILE = Path("provenance.json")  # in reports/
PACKAGES = ("torch", "transformers", "numpy", "pandas", "matplotlib")
NO_ENTRY = "no entry"
PER_RUN = ("train", "evaluate", "diagnose")  # not card, on which no report waits


def collect(params: Params, fingerprints: Mapping[str, str]) -> dict:
    """The content of the file.

    Args:
        params: the experiment's parameters.
        fingerprints: dataset -> hash of what it was prepared from.

    Returns:
        command; protocol; recipe; versions of Python and of the packages that numbers and figures depend on;
        fingerprints; stages: stage -> hash of its entry in `dvc.lock`, or `NO_ENTRY`; mlflow: dataset -> key of the
        ablation's run, and for each variant and seed the key of the training's run.
    """
    entries = keys.locked_entries()
    return {
        "command": COMMAND,
        "protocol": params.evaluation.protocol,
        "recipe": params.experiment.recipe,
        "versions": {
            "python": ".".join(platform.python_version_tuple()[:2]),
            **{package: version(package) for package in PACKAGES},
        },
        "fingerprints": dict(fingerprints),
        "stages": stage_hashes(params, entries),
        "mlflow": {name: _runs(name, params, entries) for name in params.experiment.datasets},
    }


def write(content: dict) -> bytes:
    """The content as bytes of the file."""
    return json.dumps(content, indent=2, ensure_ascii=False).encode() + b"\n"


def recorded() -> dict | None:
    """The provenance of the report in the working tree; None where there is no such file."""
    path = layout.REPORTS / FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def stage_hashes(params: Params, entries: dict[str, dict]) -> dict[str, str]:
    """Every listed stage that a report is made from -> hash of its entry in `dvc.lock`, or `NO_ENTRY`.

    Entries of stages that are no longer listed do not matter; DVC leaves them in `dvc.lock`.
    """
    return {stage: keys.entry_hash(entries[stage]) if stage in entries else NO_ENTRY for stage in _stages(params)}


def _stages(params: Params) -> list[str]:
    experiment = params.experiment
    stages = [f"fingerprint@{name}" for name in experiment.datasets]
    stages += [f"{kind}_on@{name}" for kind in ("fingerprint", "prepare") for name in experiment.evaluate_on]
    for name in experiment.datasets:
        stages.append(f"prepare@{name}")
        runs = [Run(name, variant, seed) for variant in experiment.variants for seed in experiment.seeds]
        stages += [run.stage(kind) for kind in PER_RUN for run in runs]
        stages += [run.evaluation(on) for on in experiment.evaluate_on for run in runs]
        stages += [f"score@{name}"] if experiment.predictions(name) else []
        stages.append(f"ablate@{name}")
    return stages


def _runs(name: str, params: Params, entries: dict[str, dict]) -> dict:
    """Keys under which `stages.tracking` puts the runs of a dataset: tag `key` in MLflow."""
    experiment = params.experiment
    runs = [Run(name, variant, seed) for variant in experiment.variants for seed in experiment.seeds]

    def inputs(run: Run) -> dict | None:
        entry = entries.get(run.stage("train"))
        return None if entry is None else keys.inputs_of(entry)

    return {
        "ablation": keys.shared_key(f"ablation@{name}-{experiment.recipe}", inputs(runs[0])),
        "runs": {f"{run.variant}, seed {run.seed}": keys.key(run.stage("train"), inputs(run)) for run in runs},
    }
