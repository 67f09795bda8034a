"""Write the model card of a run from its scores, its diagnosis and its model files."""

from stages.runtime.startup import start


def main() -> None:
    from stages.runtime import command_line
    from stages.runtime.errors import exit_on_error

    run, settings = command_line.read_run("card", __doc__)
    with exit_on_error():
        from stages.card.card import write

        write(run, settings)


if __name__ == "__main__":
    start()
    main()
