"""What a page weighs and how long it takes: python tests/benchmarks/bench_page.py [STEPS LAYERS]...

For each size (12 × 40 and 100 × 200 unless told) a report of a synthetic audit is written once: seconds for all files
and for the page alone, bytes of the page beside those of the CSV files, seconds until it is drawn in headless Chromium,
and until it is drawn again when another number is chosen; medians of a few.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1]))
from browser.finding import find
from large_audit import large_audit
from report_samples import write_report

from ncscan.report import output

ROUNDS = 5
SIZES = ((12, 40), (100, 200))


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def drawn(page: Page, path: Path) -> None:
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-drawn]", state="attached")


def chosen(page: Page, turn: int) -> None:
    """Another number, until the chart over steps and the map of it are there."""
    label = page.locator("#number option").nth(turn + 1).inner_text()
    page.select_option("#number", label=label)
    page.wait_for_selector(f'#map[aria-label^="{label}"] svg')


def measure(steps: int, layers: int, browser_path: str, folder: Path) -> None:
    tables, known = large_audit(steps, layers)
    whole = seconds(lambda: write_report(folder, tables, checkpoints=known, skipped=[], warnings=[]))
    alone = statistics.median(seconds(lambda: output.page_text(tables, known, [], [])) for _ in range(3))
    path = folder / "report.html"
    bytes_of_csv = sum(each.stat().st_size for each in folder.glob("*.csv"))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        first = statistics.median(seconds(lambda: drawn(page, path)) for _ in range(ROUNDS))
        again = statistics.median(seconds(partial(chosen, page, turn)) for turn in range(ROUNDS))
        browser.close()
    size = path.stat().st_size
    print(f"{steps} checkpoints × {layers} layers: {sum(map(len, tables.values())):,} rows")
    print(
        f"  page {size / 1e6:.2f} MB; the CSV files, {bytes_of_csv / 1e6:.0f} MB, are {bytes_of_csv / size:.0f} × that"
    )
    print(f"  all files {whole:.1f} s, the page alone {alone:.1f} s")
    print(f"  drawn {first:.2f} s after opening, another number {again:.2f} s after choosing")


def main() -> None:
    numbers = [int(each) for each in sys.argv[1:]]
    browser_path = find()
    for steps, layers in list(zip(numbers[::2], numbers[1::2], strict=True)) or SIZES:
        with tempfile.TemporaryDirectory() as folder:
            measure(steps, layers, browser_path, Path(folder))


if __name__ == "__main__":
    main()
