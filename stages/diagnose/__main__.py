"""Measure how a trained model aligns pixels with centers, its calibration, its attention, and what it costs."""

from stages.runtime.startup import start


def main() -> None:
    from stages.runtime import command_line
    from stages.runtime.errors import exit_on_error

    run, settings = command_line.read_run("diagnose", __doc__)
    with exit_on_error():
        from stages.diagnose.diagnosis import diagnose

        diagnose(run, settings)


if __name__ == "__main__":
    start()
    main()
