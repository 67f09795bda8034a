"""The comparisons of the listed datasets -> `reports/`: tables, figures and one page."""

import argparse
from collections.abc import Sequence

from stages.report import checked
from stages.runtime import experiments, layout, params
from stages.runtime.errors import exit_on_error
from stages.runtime.startup import start


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    settings = params.read_or_exit()
    with exit_on_error():
        if options.check and (looked := checked.earlier(settings)):
            reports = layout.from_root(layout.REPORTS)
            print(f"{reports} is up to date: nothing has changed since it was last found so ({looked})")
            return
        from stages.report import writing

        if options.check:
            writing.check_or_exit(settings)
        else:
            writing.write(settings)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m stages.report",
        description="Write reports/: tables, figures and one offline page about the datasets listed in params.yaml.",
    )
    experiments.add_option(parser)
    parser.add_argument("--check", action="store_true", help="write nothing, exit with 1 where the report is stale")
    return parser


if __name__ == "__main__":
    start()
    main()
