"""Check `params.yaml`, say what an experiment has of its own, make a new one."""

import argparse
import json
from collections.abc import Iterator
from typing import Any

from stages.runtime import experiments, layout, params, predictions
from stages.runtime.atomic_write import atomic_write
from stages.runtime.experiments import ExperimentError
from stages.runtime.params import SCHEMA, Experiment, Params, ParamsError, exit_with
from stages.runtime.predictions import PredictionsError
from stages.runtime.startup import start

BY_RUN = ("scores", "controls", "metrics", "protocols")  # in results/, with a folder for each run


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m stages.params",
        description="Check params.yaml and write its schema. For another experiment than the default one, also show "
        "what differs from the default's.",
    )
    experiments.add_option(parser)
    parser.add_argument("--check", action="store_true", help=f"write nothing; fail if {SCHEMA} is stale")
    parser.add_argument(
        "--resolve",
        action="store_true",
        help=f"write {layout.ALL_PARAMS}, {layout.LINKS} and {layout.PREDICTIONS}, as the first stage of an experiment "
        "does",
    )
    parser.add_argument("--new", metavar="NAME", help=f"make an experiment in {layout.EXPERIMENTS}/, or mend it")
    parser.add_argument("--from", dest="model", metavar="NAME", help="with --new: begin as that experiment is")
    options = parser.parse_args(arguments)
    try:
        if options.new is not None:
            _make(options.new, options.model)
        elif options.resolve:
            _resolve()
        else:
            _check(writes=not options.check)
    except ParamsError as error:
        exit_with(error)
    except ExperimentError as error:
        parser.error(str(error))


def _check(writes: bool) -> None:
    settings = params.read(layout.PARAMS)
    if experiments.current() == experiments.DEFAULT:
        others = [experiments.folder(name) / layout.PARAMS for name in experiments.names()[1:]]
        for file in others:
            params.read(file)
        print(f"{layout.PARAMS} is right: {_size(settings)}; {SCHEMA} is {_schema(writes)}")
        if others:
            print(f"also right: {', '.join(map(str, others))}")
        return
    print(f"{layout.from_root(layout.PARAMS)} is right: {_size(settings)}")
    _tell_own()


def _schema(writes: bool) -> str:
    if params.has_schema():
        return "up to date"
    if not writes:
        params.require_schema()
    with atomic_write(SCHEMA) as partial:
        partial.write_text(params.schema(), encoding="utf-8")
    return "new"


def _resolve() -> None:
    """The stage `params`: DVC compares what it writes with what the other stages have been made from."""
    experiment = params.read(layout.PARAMS).experiment
    if not experiments.is_in_step():
        name = experiments.current()
        raise ParamsError(f"dvc.yaml of experiment {name} is not the project's: `make experiment NAME={name}` mends it")
    predicted = {name: _predictions_of_others(experiment, name) for name in experiment.datasets}
    for path, content in (
        (layout.ALL_PARAMS, _json(params.whole(params.content()))),
        (layout.LINKS, experiments.links()),
        (layout.PREDICTIONS, _json(predicted)),
    ):
        with atomic_write(path) as partial:
            partial.write_text(content, encoding="utf-8")
    _remove_outputs_of_earlier_versions()


def _remove_outputs_of_earlier_versions() -> None:
    """Remove files that stand where each run has a folder now: stages depend on all that is in the folders around."""
    for path in sorted(path for kind in BY_RUN for path in (layout.RESULTS / kind).glob("*/*/*.*")):
        if path.is_file():
            path.unlink()
            print(f"removed {path}, which an earlier version of the project wrote: each run has a folder there now")


def _predictions_of_others(experiment: Experiment, dataset: str) -> dict[str, dict]:
    """What `score` is made from: the predictions of others on a dataset, and whether some may be missing."""
    try:
        found = predictions.hashes(experiment.predictions(dataset))
    except PredictionsError as error:
        raise ParamsError(f"experiment.others: {error}") from None
    others = experiment.others
    return {name: {"sha256": sha256, "allow_missing": others[name].allow_missing} for name, sha256 in found.items()}


def _json(content: object) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _make(name: str, model: str | None) -> None:
    experiments.enter(experiments.DEFAULT)
    experiments.check_new(name)
    if name in experiments.names():
        if model:
            raise ExperimentError(f"experiment {name!r} exists already: --from is for a new one")
        experiments.bring_into_step(name)
    else:
        text = experiments.text_from(model or experiments.DEFAULT, name)
        params.read(experiments.folder(model or experiments.DEFAULT) / layout.PARAMS)
        experiments.make(name, text)
    experiments.enter(name)
    _check(writes=False)
    print(f"Edit {experiments.folder(name) / layout.PARAMS}, then: python -m pipelines.experiment --experiment {name}")


def _size(settings: Params) -> str:
    experiment = settings.experiment
    runs = len(experiment.datasets) * len(experiment.variants) * len(experiment.seeds)
    return f"{runs} runs of recipe {experiment.recipe}"


def _tell_own() -> None:
    """One line for each key that is not as in the default experiment."""
    project, own = params.content(layout.root() / layout.PARAMS), params.content()
    for key, value, before in _differences(own, project):
        print(f"  {key}: {'' if before is None else f'{json.dumps(before)} -> '}{json.dumps(value)}")


def _differences(own: Any, project: Any, section: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Dotted key, value, and the project's value, None where it has none."""
    for key, value in own.items():
        before = project.get(key)
        if isinstance(value, dict) and isinstance(before, dict):
            yield from _differences(value, before, f"{section}{key}.")
        elif value != before:
            yield f"{section}{key}", value, before


if __name__ == "__main__":
    start()
    main()
