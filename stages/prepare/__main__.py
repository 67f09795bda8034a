"""Prepare a dataset of params.yaml: read and check its source. Or show one, fingerprint it, or look into a folder."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from stages.runtime import command_line, experiments, params
from stages.runtime.errors import exit_on_error
from stages.runtime.startup import start


def main(arguments: Sequence[str] | None = None) -> None:
    command = _parser()
    options = command.parse_args(arguments)
    (task, name), *_ = [(task, name) for task, name in vars(options).items() if name]
    if task == "detect":
        with exit_on_error():
            from stages.prepare import detection

            print(detection.report(Path(name)))
        return
    datasets = params.read_or_exit().datasets
    command_line.require_known(command, task, name, datasets)
    with exit_on_error():
        from stages.prepare import preparation

        if options.dataset:
            preparation.prepare(name, datasets[name])
        elif options.fingerprint:
            preparation.fingerprint(name, datasets[name])
        else:
            preparation.inspect(name)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m stages.prepare", description=__doc__)
    experiments.add_option(parser)
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--dataset", metavar="NAME", help="read and check its source, write data/NAME")
    task.add_argument("--inspect", metavar="NAME", help="print the numbers of data/NAME, write a page with samples")
    task.add_argument("--fingerprint", metavar="NAME", help="hash its files into sources/NAME.json, for DVC")
    task.add_argument("--detect", metavar="FOLDER", help="say what lies in a folder, and how params.yaml names it")
    return parser


if __name__ == "__main__":
    start()
    main()
