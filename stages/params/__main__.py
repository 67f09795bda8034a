"""Check `params.yaml` and write its schema."""

import argparse

from stages.runtime.params import SCHEMA, ParamsError, exit_with, read_or_exit, schema
from stages.runtime.startup import start


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m stages.params", description="Check params.yaml and write its schema."
    )
    parser.add_argument("--check", action="store_true", help=f"write nothing; fail if {SCHEMA} is stale")
    options = parser.parse_args(arguments)

    read_or_exit()
    if not options.check:
        SCHEMA.write_text(schema(), encoding="utf-8")
    elif not SCHEMA.exists() or SCHEMA.read_text(encoding="utf-8") != schema():
        exit_with(ParamsError(f"{SCHEMA} is stale: run python -m stages.params"))


if __name__ == "__main__":
    start()
    main()
