"""The page of a diff in a real browser: it sorts by mouse and keyboard, filters, prints, and says nothing else."""

from pathlib import Path

import pytest
from comparing import LAYERS, falling, tables
from playwright.sync_api import Page, expect

from browser.conftest import Open, serious
from ncscan.compare.align import compare
from ncscan.report.html.diff_page import diff_page
from ncscan.report.html.page import PRINTED_ROWS
from ncscan.wording import visible

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "=cmd|' /C calc'!A0",
    "a\x00\u202eb",
    "[bold]",
)
ROWS = "#rows tbody tr:visible"
FIELDS = ("layer", "metric", "checkpoint", "A", "B", "B − A", "B / A", "noise", "what")


def larger(run: str, step: int, layer: str) -> float | None:
    return None if layer == "relu" else (1.5 + step) * falling(run, step, layer)


def page_at(path: Path) -> Path:
    trust = {"low": 0.0, "high": 0.1}
    found = compare(tables(trust=trust), tables(value=larger, trust=trust, holds=False, layers=LAYERS[1:]))
    path.write_text(diff_page(found, ("old", "new")), encoding="utf-8")
    return path


@pytest.fixture
def page(opened: Open, tmp_path: Path) -> Page:
    return opened(page_at(tmp_path / "diff.html"))


def column(page: Page, name: str) -> list[str]:
    """The cells that are seen, from top to bottom."""
    nth = FIELDS.index(name) + 1
    return [text.strip() for text in page.locator(f"{ROWS} > :nth-child({nth})").all_text_contents()]


def values(page: Page, name: str) -> list[float | None]:
    nth = FIELDS.index(name) + 1
    cells = page.locator(f"{ROWS} > :nth-child({nth})")
    return [
        None if value is None else float(value)
        for value in cells.evaluate_all("all => all.map(c => c.dataset.value ?? null)")
    ]


def test_page_shows_every_row_and_only_its_own_headings(page: Page) -> None:
    assert list(FIELDS) == page.locator("#rows thead button").all_text_contents()
    assert page.locator("#rows tbody tr").count() == page.locator(ROWS).count() > 2 * PRINTED_ROWS
    expect(page.locator("#theory tbody tr")).to_have_count(3)


@pytest.mark.parametrize("name", FIELDS)
def test_every_column_sorts_both_ways_by_keyboard(page: Page, name: str) -> None:
    heading = page.locator("#rows thead th").nth(FIELDS.index(name))
    heading.locator("button").focus()
    for direction, down in (("ascending", False), ("descending", True)):
        page.keyboard.press("Enter")
        expect(heading).to_have_attribute("aria-sort", direction)
        if name in ("A", "B", "B − A", "B / A", "noise"):
            numbers = values(page, name)
            known = [value for value in numbers if value is not None]
            assert sorted(known, reverse=down) == known
            assert [None] * (len(numbers) - len(known)) == numbers[len(known) :]
        else:
            texts = column(page, name)
            assert len(set(texts)) == sum(a != b for a, b in zip(texts, [None, *texts], strict=False))
    assert 1 == page.locator('#rows th[aria-sort="descending"], #rows th[aria-sort="ascending"]').count()


def test_filters_hide_rows_and_say_how_many_are_left(page: Page) -> None:
    everything = page.locator(ROWS).count()
    page.get_by_label("Metric").fill("NC1_pinv")
    page.get_by_label("Layer").fill("fc")
    assert {"fc1", "fc2"} == set(column(page, "layer"))
    assert {"nc1_pinv"} == {text.split()[0] for text in column(page, "metric")}
    expect(page.locator("output")).to_have_text(f"12 of {everything} rows shown")
    page.get_by_label("only beyond noise").check()
    assert {"beyond noise"} == {text.split(" (")[0] for text in column(page, "what")}
    page.get_by_label("Layer").fill("no such layer")
    assert 0 == page.locator(ROWS).count()
    page.get_by_label("Layer").fill("")
    page.get_by_label("Metric").fill("")
    page.get_by_label("only beyond noise").uncheck()
    assert everything == page.locator(ROWS).count()


def test_theory_table_sorts_on_its_own(page: Page) -> None:
    page.locator("#theory thead button").nth(3).click()
    page.locator("#theory thead button").nth(3).click()
    expect(page.locator("#theory tbody tr").first).to_contain_text("step_2.pt")
    assert 0 == page.locator('#rows th[aria-sort="ascending"]').count()


def test_paper_has_the_first_rows_or_all_that_were_chosen(page: Page) -> None:
    page.emulate_media(media="print")
    expect(page.locator("#rows tbody tr:visible")).to_have_count(PRINTED_ROWS)
    expect(page.locator(".filters")).to_be_hidden()
    page.emulate_media(media="screen")
    page.get_by_label("Metric").fill("n")
    chosen = page.locator(ROWS).count()
    page.emulate_media(media="print")
    expect(page.locator("#rows tbody tr:visible")).to_have_count(chosen)
    assert PRINTED_ROWS < chosen


@pytest.mark.parametrize("width", [320, 390])
def test_phone_scrolls_tables_and_not_the_page(opened: Open, tmp_path: Path, width: int) -> None:
    page = opened(page_at(tmp_path / "diff.html"), viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("name", HOSTILE)
def test_what_strangers_write_stays_text(opened: Open, tmp_path: Path, name: str) -> None:
    own = [tables(steps=(0,)), tables(steps=(0,), value=larger, holds=False)]
    for side in own:
        for table in ("metrics", "weights", "theory"):
            side[table]["run"] = side[table]["checkpoint"] = name
        side["metrics"]["layer"] = side["metrics"]["metric"] = side["metrics"]["reason"] = name
        side["theory"]["claim"] = side["theory"]["layer"] = name
    path = tmp_path / "diff.html"
    path.write_text(diff_page(compare(own[0], own[1]), (name, name)), encoding="utf-8")
    page = opened(path)
    assert 0 == page.locator("img, iframe").count()
    assert 1 == page.locator("script").count()
    page.get_by_label("Layer").fill(visible(name)[:3])
    assert page.locator(ROWS).count() > 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(opened: Open, tmp_path: Path, scheme: str) -> None:
    assert [] == serious(opened(page_at(tmp_path / "diff.html"), color_scheme=scheme, bypass_csp=True))
