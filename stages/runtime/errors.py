"""Errors that a user can mend."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """Something that the user can mend; the message says what is wrong, where, and what to do."""


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Print the message of a `UserError`, or of a missing file, instead of a traceback, and exit with code 1."""
    try:
        yield
    except (UserError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
