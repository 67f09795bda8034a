"""The content of an MLflow store without ids and times, so that stores with the same content compare as equal."""

import hashlib
import re
from collections import Counter
from pathlib import Path

from stages.tracking import store

IMAGE_ID = re.compile(r"(?<=\+timestamp)\+\d+\+[0-9a-f-]{36}")  # in the name of a logged image
UNKNOWN = ("git.", "mlflow.source.git.", "process.", "rebuilt")  # prefixes of tags that a later sync cannot know


def contents() -> dict[str, dict]:
    """Runs by name and registered models of the store that the current folder and the environment select."""
    with store.opened() as opened:
        runs = store.search(opened, "")
        often = Counter(run.info.run_name for run in runs)
        names = {
            run.info.run_id: run.info.run_name + (f" {run.data.tags['key']}" if often[run.info.run_name] > 1 else "")
            for run in runs
        }
        assert len(set(names.values())) == len(names), "two runs have one name and one key"
        models = _models(opened, runs)
        return {
            "runs": {names[run.info.run_id]: _run(opened, run, names, models) for run in runs},
            "registered": _registered_models(opened, models),
        }


def registered() -> dict[str, dict]:
    """Registered models by name alone, which takes less time."""
    with store.opened() as opened:
        return _registered_models(opened, _models(opened, store.search(opened, "")))


def ids() -> set:
    """Ids, times and states, which change if anything is written again."""
    with store.opened() as opened:
        runs = store.search(opened, "")
        models = [model for run in runs for model in store.models_of(opened, run)]
        versions = opened.client.search_model_versions("")
        return {
            *((run.info.run_id, run.info.status, run.info.end_time, len(run.data.tags)) for run in runs),
            *((model.model_id, model.last_updated_timestamp) for model in models),
            *((version.name, version.version, version.last_updated_timestamp) for version in versions),
        }


def _models(opened, runs) -> dict:
    return {model.model_id: model for run in runs for model in store.models_of(opened, run)}


def _registered_models(opened, models) -> dict[str, dict]:
    return {model.name: _registered(opened, model, models) for model in opened.client.search_registered_models()}


def _run(opened, run, names, models) -> dict:
    tags = {
        name: re.sub(rf"(\d+/runs/)?{run.info.run_id}", "RUN_ID", value)
        for name, value in run.data.tags.items()
        if not name.startswith(UNKNOWN)
    }
    if "mlflow.parentRunId" in tags:
        tags["mlflow.parentRunId"] = names[tags["mlflow.parentRunId"]]
    outputs = [models[output.model_id].name for output in (run.outputs.model_outputs if run.outputs else [])]
    return {
        "status": run.info.status,
        "tags": tags,
        "params": run.data.params,
        "metrics": {
            name: [(point.step, repr(point.value)) for point in opened.client.get_metric_history(run.info.run_id, name)]
            for name in run.data.metrics
            if not name.startswith("system/")
        },
        "files": _files(opened.client.download_artifacts(run.info.run_id, ""))
        if store.files_of_run(opened, run.info.run_id)
        else {},
        "outputs": outputs,
        "inputs": sorted((given.dataset.name, given.dataset.digest) for given in run.inputs.dataset_inputs),
        "models": [_model(model) for model in models.values() if model.source_run_id == run.info.run_id],
    }


def _model(model) -> dict:
    return {
        "name": model.name,
        "type": model.model_type,
        "status": str(model.status),
        "tags": {name: value for name, value in model.tags.items() if not name.startswith("mlflow.")},
        "metrics": sorted((metric.key, metric.value) for metric in model.metrics or []),
        "files": _files(store.downloaded(f"models:/{model.model_id}")),
    }


def _registered(opened, model, models) -> dict:
    found = opened.client.get_registered_model(model.name)
    versions = opened.client.search_model_versions(f"name = '{model.name}'")
    return {
        "aliases": {alias: int(version) for alias, version in found.aliases.items()},
        "versions": {
            int(version.version): (
                getattr(models.get(version.source.removeprefix("models:/")), "name", None),
                version.description,
                version.tags,
            )
            for version in versions
        },
    }


def _files(folder: str | Path) -> dict[str, str]:
    return {
        IMAGE_ID.sub("", path.relative_to(folder).as_posix()): hashlib.sha256(_content(path)).hexdigest()
        for path in Path(folder).rglob("*")
        if path.is_file()
    }


def _content(path: Path) -> bytes:
    """The content of a file; of an `MLmodel`, without the lines that differ each time it is written."""
    lines = path.read_bytes().splitlines(keepends=True)
    changing = (b"model_id:", b"model_size_bytes:", b"model_uuid:", b"run_id:", b"utc_time_created:")
    return b"".join(line for line in lines if path.name != "MLmodel" or not line.startswith(changing))
