"""Check `params.yaml` and write its schema."""

import argparse

from stages.runtime import layout
from stages.runtime.atomic_write import atomic_write
from stages.runtime.params import SCHEMA, check_or_exit, has_schema, read_or_exit, schema
from stages.runtime.startup import start


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m stages.params", description="Check params.yaml and write its schema."
    )
    parser.add_argument("--check", action="store_true", help=f"write nothing; fail if {SCHEMA} is stale")
    options = parser.parse_args(arguments)

    settings = check_or_exit() if options.check else read_or_exit()
    if not (current := has_schema()):
        with atomic_write(SCHEMA) as partial:
            partial.write_text(schema(), encoding="utf-8")
    experiment = settings.experiment
    runs = len(experiment.datasets) * len(experiment.variants) * len(experiment.seeds)
    state = "up to date" if current else "new"
    print(f"{layout.PARAMS} is right: {runs} runs of recipe {experiment.recipe}; {SCHEMA} is {state}")


if __name__ == "__main__":
    start()
    main()
