"""Train a variant on a prepared dataset with a seed; write the model and its history."""

from collections.abc import Sequence

from stages.runtime.startup import start

SECONDS = 300.0  # between two checkpoints within an epoch


def main(arguments: Sequence[str] | None = None) -> None:
    from stages.runtime import command_line
    from stages.runtime.errors import exit_on_error

    command = command_line.parser("train", __doc__)
    command.add_argument(
        "--checkpoint-seconds",
        type=float,
        default=SECONDS,
        metavar="N",
        help="seconds between two checkpoints within an epoch (default: %(default)g); changes no result",
    )
    options = command.parse_args(arguments)
    run, settings = command_line.run_and_params(command, options)
    with exit_on_error():
        from stages.train.training import train

        train(run, settings, options.checkpoint_seconds)


if __name__ == "__main__":
    start()
    main()
