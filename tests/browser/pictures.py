"""Pictures of the page for docs/: python tests/browser/pictures.py ncscan-out/report/report.html docs/figures

Two of them, light and dark: the verdict, and what answers to the bar on top; taken by hand when the page has changed.
"""

import io
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1]))
from browser.finding import find

VIEWS = (("page-light", "light", "#verdict"), ("page-dark", "dark", "#choose"))
"""Name, colours, and what the picture begins with."""


def take(browser: Browser, page_file: Path, scheme: str, begins: str) -> Image.Image:
    page = browser.new_page(viewport={"width": 1200, "height": 1500}, color_scheme=scheme)  # type: ignore[arg-type] # one of two
    page.goto(page_file.resolve().as_uri())
    page.wait_for_selector("html[data-drawn]", state="attached")
    page.locator(begins).evaluate("element => window.scrollTo(0, element.getBoundingClientRect().top + scrollY - 16)")
    page.wait_for_timeout(800)
    return Image.open(io.BytesIO(page.screenshot()))


def main() -> None:
    page_file, folder = Path(sys.argv[1]), Path(sys.argv[2])
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find(), args=["--no-sandbox"])
        for name, scheme, begins in VIEWS:
            picture = take(browser, page_file, scheme, begins)
            picture.convert("RGB").quantize(96).save(folder / f"{name}.png", optimize=True)
        browser.close()


if __name__ == "__main__":
    main()
