"""Find the Chromium that the tests of the pages use: python tests/browser/finding.py says which, or why there is none.

The environment variable NCSCAN_BROWSER is the path of a browser, `none` (leave the tests of the pages out), or
`required` (a missing browser is an error). Unset, it means `required` where CI is set, and elsewhere "if there is one".
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from playwright.sync_api import sync_playwright

NAMES = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "microsoft-edge",
    "microsoft-edge-stable",
    "brave-browser",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
)
"""Programs on PATH, and where macOS keeps them, in the order in which they are tried."""
REMEDY = "apt install chromium, or .venv/bin/playwright install chromium, or NCSCAN_BROWSER=PATH"
STARTS = 120
"""Seconds within which a browser prints its version, also on a busy machine."""


class NoBrowserError(Exception):
    """Say in one line why there is no browser; `wanted` when the tests of the pages must not be left out."""

    def __init__(self, why: str, *, wanted: bool) -> None:
        super().__init__(why)
        self.wanted = wanted


def find() -> str:
    """Return the path of the first browser that starts.

    Raises: NoBrowserError when none does, when NCSCAN_BROWSER is a path and that one does not, or when it is `none`.
    """
    asked = os.environ.get("NCSCAN_BROWSER", "")
    wanted = asked == "required" or (not asked and os.environ.get("CI", "").lower() not in ("", "0", "false"))
    if asked == "none":
        raise NoBrowserError("NCSCAN_BROWSER=none: the tests of the pages are left out", wanted=False)
    if asked not in ("", "required"):
        program = shutil.which(asked) or asked
        if trouble := trouble_with(program):
            raise NoBrowserError(f"NCSCAN_BROWSER: {program} {trouble}", wanted=True)
        return program
    broken = ""
    for program in candidates():
        trouble = trouble_with(program)
        if not trouble:
            return program
        broken = broken or f" ({program} {trouble})"
    then = "the tests of the pages need one" if wanted else "the tests of the pages are left out; to run them"
    raise NoBrowserError(f"no Chromium found{broken}: {then}: {REMEDY}", wanted=wanted)


def candidates() -> Iterator[str]:
    """Yield the browsers of the system, then the one that Playwright has installed, if it has."""
    for name in NAMES:
        if found := shutil.which(name):
            yield found
    if found := shutil.which(own_browser()):
        yield found


def own_browser() -> str:
    """Return where Playwright installs its browser; asked in a thread, since one that drives a browser cannot ask."""

    def ask() -> str:
        with sync_playwright() as playwright:
            return playwright.chromium.executable_path

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(ask).result()


def trouble_with(program: str) -> str:
    """Return why a program does not start, else "": a name on PATH may be a stub, or lack its libraries."""
    try:
        done = subprocess.run([program, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=STARTS)
    except OSError as error:
        return f"does not start: {error.strerror}"
    except subprocess.TimeoutExpired:
        return "does not start: it printed no version"
    if not done.returncode:
        return ""
    said = done.stderr.decode(errors="replace").strip().splitlines()
    return f"does not start: {said[-1] if said else f'exit code {done.returncode}'}"


def main() -> int:
    try:
        print(f"tests of the pages: with {find()}")
    except NoBrowserError as missing:
        print(f"tests of the pages: {missing}", file=sys.stderr)
        return int(missing.wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
