"""Score every expression of the evaluation splits with a trained model; write scores and metrics by split."""

from stages.runtime.startup import start


def main() -> None:
    from stages.runtime import command_line
    from stages.runtime.errors import exit_on_error

    run, settings = command_line.read_run("evaluate", __doc__)
    with exit_on_error():
        from stages.evaluate.evaluation import evaluate

        evaluate(run, settings)


if __name__ == "__main__":
    start()
    main()
