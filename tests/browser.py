"""A browser for tests of pages."""

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest


@contextmanager
def chromium(*arguments: str) -> Iterator:
    """Playwright's browser of the machine's own Chromium; skips the test where one of the two is missing."""
    playwright = pytest.importorskip("playwright.sync_api")
    program = shutil.which("chromium") or pytest.skip("no chromium")
    with (
        playwright.sync_playwright() as player,
        closing(player.chromium.launch(executable_path=program, args=["--no-sandbox", *arguments])) as browser,
    ):
        yield browser
