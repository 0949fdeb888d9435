"""A real browser for tests of pages: the system's Chromium, driven by Playwright.

Nothing is downloaded: Playwright's own browsers are not used. ``KVSIM_CHROMIUM`` names another
executable. Where there is none, tests are skipped, or fail under ``KVSIM_REQUIRE_BROWSER=1``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Dialog, Page, Route

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ("--no-sandbox", "--disable-dev-shm-usage", "--force-color-profile=srgb")
"""CI runs as root, where Chromium has no sandbox, and in containers with little shared memory."""
WIDTHS = {375: 812, 1440: 900}
"""A phone and a desk: width to height, CSS pixels."""


def executable() -> str | None:
    """The system's Chromium or Chrome; None where there is none."""
    given = os.environ.get("KVSIM_CHROMIUM")
    return given or next((path for name in NAMES if (path := shutil.which(name))), None)


def absent(reason: str) -> NoReturn:
    """Skip, or fail where a browser is required."""
    if os.environ.get("KVSIM_REQUIRE_BROWSER") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def browser() -> Iterator[Browser]:
    """A headless browser that is closed again."""
    path = executable()
    if path is None:
        absent(f"no browser: none of {', '.join(NAMES)} is installed (KVSIM_CHROMIUM names one)")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        absent("playwright is not installed: pip install '.[test]'")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        try:
            yield chromium
        finally:
            chromium.close()


@dataclass
class Visit:
    """A page that was opened, and everything that it did beside showing itself."""

    page: Page
    requests: list[str] = field(default_factory=list)
    """Addresses asked for, the file itself and data within it left out; all were refused."""
    messages: list[str] = field(default_factory=list)
    """Console messages, errors of scripts, dialogs."""


@contextmanager
def visit(chromium: Browser, file: Path, *, width: int = 1440, **context: Any) -> Iterator[Visit]:
    """Open a file; ``context`` are Playwright's settings, such as ``color_scheme="dark"``."""
    size = {"width": width, "height": WIDTHS[width]}
    tab = chromium.new_context(viewport=size, **context)
    try:
        page = tab.new_page()
        seen = Visit(page)
        address = file.as_uri()
        page.on("console", lambda message: seen.messages.append(message.text))
        page.on("pageerror", lambda error: seen.messages.append(str(error)))
        page.on("dialog", lambda dialog: _dismiss(dialog, seen))
        page.route("**/*", lambda route: _let(route, address, seen))
        page.goto(address)
        yield seen
    finally:
        tab.close()


def _dismiss(dialog: Dialog, seen: Visit) -> None:
    seen.messages.append(f"dialog: {dialog.message}")
    dialog.dismiss()


def _let(route: Route, address: str, seen: Visit) -> None:
    if route.request.url.partition("#")[0] == address:
        route.continue_()
        return
    seen.requests.append(route.request.url)
    route.abort()


def artefacts() -> Path:
    """Where screenshots are kept: ``test-artefacts/``, or what ``KVSIM_ARTEFACTS`` names."""
    root = Path(__file__).resolve().parents[2]
    folder = Path(os.environ.get("KVSIM_ARTEFACTS", root / "test-artefacts"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
