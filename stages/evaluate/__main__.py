"""Score every expression of the evaluation splits with a trained model; write scores and metrics by split.

With `--on`, score every expression of a further dataset instead, which is then one more split.
"""

from stages.runtime.startup import start


def main() -> None:
    from stages.runtime import command_line
    from stages.runtime.errors import exit_on_error

    command = command_line.parser("evaluate", __doc__)
    command.add_argument("--on", metavar="NAME", help="a key of datasets in params.yaml that was not trained on")
    options = command.parse_args()
    run, settings = command_line.run_and_params(command, options)
    if options.on:
        command_line.require_known(command, "on", options.on, settings.datasets)
    with exit_on_error():
        from stages.evaluate.evaluation import evaluate

        evaluate(run, settings, options.on)


if __name__ == "__main__":
    start()
    main()
