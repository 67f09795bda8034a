"""Errors that the user can fix."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """Something that the user can fix; the message says what is wrong, where, and what to do."""


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Exit with code 1 and the message, instead of a traceback, where a file is not there or a user can fix it."""
    try:
        yield
    except (UserError, FileNotFoundError, PermissionError) as error:
        sys.exit(f"error: {error}")
