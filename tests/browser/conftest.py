"""A real browser for the pages, that fails on every error and on every request for anything but the page."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from browser.finding import NoBrowserError, find

FLAGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")
DRAWN = "html[data-drawn]"
PATIENCE = 120_000
"""Milliseconds that a page may take for anything: no test asserts how fast it is, and the machine may be busy."""


class Open(Protocol):
    """Opens a page and waits until it is drawn."""

    def __call__(self, path: Path, **context: Any) -> Page: ...


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what takes the browser, for `-m browser` and `-m "not browser"`."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.browser)


@cache
def chromium() -> str | NoBrowserError:
    try:
        return find()
    except NoBrowserError as missing:
        return missing


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave a test out, or fail it, when it needs a browser and there is none; pytest folds these into one line."""
    if item.get_closest_marker("browser") and isinstance(missing := chromium(), NoBrowserError):
        if missing.wanted:
            pytest.fail(str(missing), pytrace=False)
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Start the Chromium of this machine without a window: tests download none."""
    program = chromium()
    assert isinstance(program, str)
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=FLAGS, timeout=PATIENCE)
        yield started
        started.close()


def serious(page: Page) -> list[tuple[str, list[str]]]:
    """Return what axe-core calls serious or critical on a page, each with the first elements it is about."""
    found = Axe().run(page).response["violations"]
    return [
        (each["id"], [node["html"][:120] for node in each["nodes"][:3]])
        for each in found
        if each["impact"] in ("serious", "critical")
    ]


@pytest.fixture
def opened(browser: Browser) -> Iterator[Open]:
    """Pages, each in a context of its own; what they said or asked for is looked at in the end."""
    said: list[str] = []
    asked: list[str] = []
    contexts = []

    def open_page(path: Path, **context: Any) -> Page:
        contexts.append(browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **context}))
        contexts[-1].set_default_timeout(PATIENCE)
        page = contexts[-1].new_page()
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_selector(DRAWN, state="attached")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "blob:"))] == []
