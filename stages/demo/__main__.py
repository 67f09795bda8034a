"""A page on which trained models are tried."""

import argparse
import logging
import sys
from collections.abc import Sequence
from importlib.util import find_spec

from stages.runtime import experiments, layout, params
from stages.runtime.ports import HOST, exit_if_taken
from stages.runtime.startup import start


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve the page until Ctrl-C."""
    options = parser().parse_args(arguments)
    if find_spec("dash") is None:
        sys.exit("error: the page needs dash: `make install`, or pip install 'alignformer[demo]'")
    from stages.serving import source

    models = source.runs()
    if unknown := [model for model in options.models if model not in models]:
        sys.exit(f"error: no model {', '.join(unknown)}; there are: {', '.join(models) or 'none'}")
    if not models:
        sys.exit(f"error: no experiment has a model in {layout.RESULTS / 'models'}: `make repro` trains some")
    exit_if_taken(options.port, "make demo")
    from stages.demo import answers
    from stages.demo.page import app

    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    first, *others = options.models or _to_begin_with(source.runs_here()) or models
    page = app(models, (first, (others or [first])[-1]), answers.datasets())
    print(f"AlignFormer: http://{HOST}:{options.port} (Ctrl-C ends it)", flush=True)
    page.run(host=HOST, port=options.port)


def _to_begin_with(trained: list[str]) -> list[str]:
    """The reference and the highlighted variant of the current experiment; all of its models where one has no model.

    Args:
        trained: DATASET/VARIANT/SEED of each model of the experiment.
    """
    experiment = params.read_or_exit().experiment
    pairs = (
        [f"{dataset}/{variant}/{seed}" for variant in (experiment.reference, experiment.highlight)]
        for dataset in experiment.datasets
        for seed in experiment.seeds
    )
    return next((pair for pair in pairs if {*pair} <= {*trained}), trained)


def parser() -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(
        prog="python -m stages.demo",
        description="A page on which two trained models of this project are tried side by side: their masks, the "
        "similarity of pixels and center, and the vision-language bidirectional attention (VLBA) word by word. It is "
        "served on 127.0.0.1, for this machine alone.",
    )
    experiments.add_option(command)
    command.add_argument(
        "models",
        nargs="*",
        metavar="DATASET/VARIANT/SEED",
        help="the two models to begin with, EXPERIMENT/... of another experiment (default: the reference and the "
        "highlighted variant of the experiment)",
    )
    command.add_argument("--port", type=int, default=8050, help="(default: %(default)s)")
    return command


if __name__ == "__main__":
    start()
    main()
