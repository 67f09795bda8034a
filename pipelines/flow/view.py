"""What a flow run shows where it was started by hand: a live view on a terminal, one line for each event elsewhere."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from pipelines.dvc.reproduce import Outcome
from pipelines.flow.progress import RUNNING, WAITING, Progress, span

REFRESHES = 2  # a second
HEARD = re.compile(r"\b(note|\w*warning):", re.IGNORECASE)  # in the lines of a stage that a terminal shows


class View:
    """Shows nothing: whoever starts a flow on Prefect's page looks there.

    Attributes:
        progress: of the flow run; None before its stages are known.
    """

    progress: Progress | None = None

    def begin(self, progress: Progress) -> None:
        """The stages are known, and none has started."""
        self.progress = progress

    def changed(self, stage: str) -> None:
        """A stage has another state."""

    def said(self, stage: str, line: str) -> None:
        """A stage has printed a line."""

    def note(self, line: str) -> None:
        """Something about the whole run."""

    def end(self) -> None:
        """Nothing is shown any more."""


class Lines(View):
    """One line for each event, with the name of the stage in front."""

    def begin(self, progress: Progress) -> None:
        super().begin(progress)
        self.note(f"{len(progress.items())} stages, {len(progress.stale)} of them to run")

    def changed(self, stage: str) -> None:
        state = self.progress[stage].state
        if state == RUNNING:
            self.note(f"{stage}: starts")
        elif state not in (WAITING, Outcome.UNCHANGED):
            self.note(f"{stage}: {self.progress[stage].described}; {self.progress.summary}")

    def said(self, stage: str, line: str) -> None:
        self.note(f"{stage}: {line}")

    def note(self, line: str) -> None:
        with suppress(OSError):  # nobody reads the pipe any more, or the disk is full: the run goes on
            print(f"{line}\n", end="", flush=True)  # in one piece, as other stages print too


class Screen(View):
    """What runs and how long it will take, at the bottom of a terminal; above it, what has ended."""

    def __init__(self, console: Console):
        self._console = console
        self._live: Live | None = None

    def begin(self, progress: Progress) -> None:
        super().begin(progress)
        self._live = Live(
            console=self._console, get_renderable=self.render, refresh_per_second=REFRESHES, transient=True
        )
        self._live.start()
        sys.stderr.isatty = lambda: False  # of `Live`; libraries that ask draw no bars of their own
        self._console.show_cursor(True)  # else a `kill -9` would leave the terminal without one

    def changed(self, stage: str) -> None:
        if self.progress[stage].state not in (WAITING, RUNNING, Outcome.UNCHANGED, "skipped"):
            failed = self.progress[stage].state == "failed"
            self._print(Text.assemble(f"{stage}  ", (self.progress[stage].described, "bold red" if failed else "dim")))
            for line in self.progress.cause(stage) if failed else []:
                self.note(f"  {line}")

    def said(self, stage: str, line: str) -> None:
        if HEARD.search(line):
            self.note(f"{stage}: {line}")

    def note(self, line: str) -> None:
        self._print(Text(line))

    def end(self) -> None:
        with suppress(OSError):
            if self._live:
                self._live.stop()

    def render(self) -> Group:
        """The running stages, one in each row, and a line about the whole."""
        rows = [self._row(stage) for stage in self.progress.in_state(RUNNING)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        words = self.progress.summary
        if not self.progress.in_state(WAITING, RUNNING):
            words += "; MLflow is being updated"
        return Group(*(Text(line, no_wrap=True, overflow="ellipsis") for line in [*lines, words]))

    def _row(self, stage: str) -> list[str]:
        position, left = self.progress.position(stage), self.progress.left(stage)
        return [
            stage,
            f"{position.what}, step {position.step} of {position.steps}" if position else "",
            span(self.progress.so_far(stage)),
            f"about {span(left)} left" if left and left >= 1 else "",
        ]

    def _print(self, line: Text) -> None:
        with suppress(OSError):  # the terminal was closed: the run goes on
            if self._live:
                self._live.refresh()  # else the rows from before are drawn again below the line
            self._console.print(line)


_shown: ContextVar[View] = ContextVar("shown")


def current() -> View:
    """The view of the flow run that is started in this context."""
    return _shown.get(View())


def made() -> View:
    """The view for standard output."""
    is_terminal = sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")
    return Screen(Console(force_terminal=True, highlight=False)) if is_terminal else Lines()


@contextmanager
def shown(view: View) -> Iterator[None]:
    """While the block runs, a flow that it starts shows its progress in the view."""
    token = _shown.set(view)
    try:
        yield
    finally:
        _shown.reset(token)
        view.end()
