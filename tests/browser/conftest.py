"""A real browser for the pages, that fails on every error and on every request for anything but the page."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")
DRAWN = "html[data-drawn]"


class Open(Protocol):
    """Opens a page and waits until it is drawn."""

    def __call__(self, path: Path, **context: Any) -> Page: ...


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Headless Chromium, that of the system: tests download none."""
    found = [path for name in NAMES if (path := shutil.which(name))]
    if not found:
        pytest.fail(
            f"no browser: the tests of the pages need one of {', '.join(NAMES)} (on Debian: apt install chromium)"
        )
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found[0], args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser: Browser) -> Iterator[Open]:
    """Pages, each in a context of its own; what they said or asked for is looked at in the end."""
    said: list[str] = []
    asked: list[str] = []
    contexts = []

    def open_page(path: Path, **context: Any) -> Page:
        contexts.append(browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **context}))
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
