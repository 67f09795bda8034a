"""Score predictions of systems that others made: those that params.yaml lists, or one file."""

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path

from stages.runtime import command_line, experiments, layout, params
from stages.runtime.errors import exit_on_error
from stages.runtime.params import Params
from stages.runtime.startup import start


def main(arguments: Sequence[str] | None = None) -> None:
    command = _parser()
    options = command.parse_args(arguments)
    if (options.predictions is None) != (options.name is None):
        command.error("--predictions and --name belong together")
    settings = params.read_or_exit()
    command_line.require_known(command, "dataset", options.dataset, settings.datasets)
    with exit_on_error():
        from stages.score import scores

        if options.name is None:
            scores.score(options.dataset, settings)
        else:
            _try_out(options, settings)


def _try_out(options: argparse.Namespace, settings: Params) -> None:
    """Score one file, compare it with the reference, and say how it becomes a row of the report."""
    from stages.score import scores

    entry = {"predictions": {options.dataset: options.predictions}}
    if options.allow_missing:
        entry["allow_missing"] = True
    content = params.content()
    content["experiment"].setdefault("others", {})[options.name] = entry
    params.check(content)
    path = scores.try_out(options.dataset, Path(options.predictions), options.name, options.allow_missing, settings)
    print(f"scores and metrics are in {layout.from_root(path.parent)}")
    _compare(options.name, path, options.dataset, settings)
    if options.name not in settings.experiment.others:
        file, lines = layout.from_root(layout.PARAMS), json.dumps({options.name: entry}, ensure_ascii=False)
        print(f"to have it as a row of the report, add under `experiment` in {file}:\n  others: {lines}")


def _compare(name: str, path: Path, dataset: str, settings: Params) -> None:
    """Print the difference to the mean over the reference's seeds, where these have scores."""
    from stages.scoring.protocols import PROTOCOLS
    from stages.statistics import comparison, evidence, scored
    from stages.statistics.scored import ComparisonError

    experiment, protocol = settings.experiment, PROTOCOLS[settings.evaluation.protocol]
    reference = experiment.reference
    try:
        runs = scored.read(dataset, protocol, [reference], experiment.seeds, reference, {name: path})
    except ComparisonError as error:
        print(f"it is not compared: {error}")
        return
    seeds = len(runs.seeds_of(reference))
    for split, found in comparison.estimates(runs).items():
        differences = [
            f"{metric} {100 * of.value:+.1f}"
            + ("" if math.isnan(of.low) else f" [{100 * of.low:.1f}, {100 * of.high:.1f}]")
            for metric in protocol.headline
            for of in [found[metric].difference(name, reference)]
        ]
        print(f"{split}: {', '.join(differences)} points over {reference}, mean of {seeds} seeds")
    print(f"brackets: 95 % intervals; {evidence.ONE_FILE}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m stages.score",
        description=f"{__doc__} Without --predictions and --name, those of `experiment.others`, into results/others/D; "
        "with them, this file alone, into results/tried/D/NAME.",
    )
    parser.add_argument("--dataset", required=True, help="a key of datasets in params.yaml")
    parser.add_argument("--predictions", metavar="FILE", help="a .json, .jsonl or .parquet file, or a folder of PNGs")
    parser.add_argument("--name", metavar="NAME", help="what the system is called; no variant has this name")
    parser.add_argument("--allow-missing", action="store_true", help="score missing predictions as empty masks")
    experiments.add_option(parser)
    return parser


if __name__ == "__main__":
    start()
    main()
