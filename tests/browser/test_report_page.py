"""The page in a real browser: drawn in pixels, answering, sorting, quiet, and deaf to what strangers write."""

import csv
import datetime
import io
import math
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from large_audit import large_audit
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from report_samples import LAYERS, RUNS, STEPS, Row, checkpoints, entries, metrics_frame, weight_entries, weights_frame

from browser.conftest import PATIENCE, Open, serious
from ncscan.report import output
from ncscan.tables.frames import complete

CHARTS = ("panel0", "panel5", "trajectory", "profile", "map", "balance", "condition")
OF_CLASSES = ("cosines", "duality", "simplex")
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "=cmd|' /C calc'!A0",
    "'+alert(1)+'",
    "datum.y",
)


def sample(path: Path, runs: tuple[str, ...] = RUNS) -> Path:
    known = checkpoints(runs)
    tables = {"metrics": metrics_frame(entries(known)), "weights": weights_frame(weight_entries(known))}
    path.write_text(
        output.page_text(complete(tables), known, [("bad.pt", "truncated")], ["near chance"]), encoding="utf-8"
    )
    return path


@pytest.fixture(scope="module")
def three_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample(tmp_path_factory.mktemp("page") / "report.html")


@pytest.fixture(scope="module")
def with_classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    tables, known = large_audit(8, 6)
    path.write_text(output.page_text(tables, known, [], []), encoding="utf-8")
    return path


def colours(page: Page, selector: str) -> set[tuple[int, ...]]:
    """The colours that are really on the screen there, without the many shades of antialiasing."""
    image = Image.open(io.BytesIO(page.locator(selector).screenshot())).convert("RGB")
    counts = image.getcolors(maxcolors=2**24) or []
    return {colour for n, colour in counts if n >= 12 and isinstance(colour, tuple)}


def choose(page: Page, name: str, label: str) -> None:
    page.select_option(f"#{name}", label=label)


def to_step(page: Page, step: int) -> None:
    page.locator("#step").fill(str(step))


def until(page: Page, holds: Callable[[], bool]) -> None:
    """Wait for a page to get there: under its policy Playwright cannot poll from inside."""
    deadline = time.monotonic() + PATIENCE / 1000
    while not holds():
        assert time.monotonic() < deadline, "it never came"
        page.wait_for_timeout(50)


def open_all(page: Page) -> None:
    """Open everything that can be unfolded, and wait until what is inside is made."""
    page.evaluate("""() => Promise.all([...document.querySelectorAll("details:not([open])")].map((each) =>
        new Promise((made) => { each.addEventListener("toggle", made, { once: true }); each.open = true; })))""")


def paths(page: Page, selector: str) -> list[str]:
    found = page.locator(f"{selector} svg path").evaluate_all("all => all.map((each) => each.getAttribute('d'))")
    return [str(d) for d in found if d]


def places(page: Page) -> list[tuple[float, ...]]:
    """Where the discs of the class means are: the last marks of the picture."""
    turned = page.locator("#simplex svg g.layer_4_marks path").evaluate_all(
        "a => a.map((e) => e.getAttribute('transform'))"
    )
    return [tuple(map(float, re.findall(r"-?[\d.]+", text))) for text in turned]


def test_every_chart_is_drawn_in_pixels(opened: Open, three_runs: Path, with_classes: Path) -> None:
    page = opened(three_runs)
    for chart in CHARTS:
        assert len(colours(page, f"#{chart}")) >= 3, chart
    page = opened(with_classes)
    for chart in OF_CLASSES:
        assert len(colours(page, f"#{chart}")) >= 3, chart


def test_choosing_a_number_changes_charts_definition_and_table(opened: Open, three_runs: Path) -> None:
    page = opened(three_runs)
    before = paths(page, "#trajectory")
    choose(page, "number", "cdnv")
    expect(page.locator("#trajectory")).to_have_attribute("aria-label", re.compile("^cdnv"))
    until(page, lambda: paths(page, "#trajectory") not in ([], before))
    assert "cdnv" in page.inner_text("#definition")
    assert "cdnv over steps" in page.inner_text("#trajectory-caption")


def test_choosing_a_run_and_a_group(opened: Open, three_runs: Path) -> None:
    page = opened(three_runs)
    options = page.locator("#run option").all_inner_texts()
    assert options == ["square, mean of 2 seeds", *RUNS]
    choose(page, "run", "square, mean of 2 seeds")
    expect(page.locator("#trajectory")).to_have_attribute("aria-label", re.compile("mean of 2 seeds"))
    choose(page, "run", RUNS[2])
    expect(page.locator("#profile")).to_have_attribute("aria-label", re.compile(RUNS[2]))


def test_the_step_slider_moves_profile_and_tables(opened: Open, three_runs: Path) -> None:
    page = opened(three_runs)
    assert page.inner_text("#step-name") == "iteration 9,000"
    to_step(page, 0)
    expect(page.locator("#profile")).to_have_attribute("aria-label", re.compile("iteration 0,"))
    assert page.inner_text("#step-name") == "iteration 0"
    assert "iteration 0" in page.inner_text("#number-table caption")
    dash = page.locator("#number-table td[title]").first
    assert (dash.inner_text(), dash.get_attribute("title")) == ("–", "the features have rank 0")


def test_the_step_slider_and_play_work_by_keyboard(opened: Open, three_runs: Path) -> None:
    page = opened(three_runs)
    page.focus("#step")
    page.keyboard.press("Home")
    assert page.inner_text("#step-name") == "iteration 0"
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#step-name") == f"iteration {STEPS[1]}"
    page.clock.install()  # from here on the page's time passes when the test says so
    page.clock.pause_at(datetime.datetime.now() + datetime.timedelta(hours=1))
    page.focus("#play")
    page.keyboard.press("Enter")
    page.clock.run_for(1700)
    assert page.inner_text("#step-name") == "iteration 300"
    page.keyboard.press("Enter")
    assert page.get_attribute("#play", "aria-label") == "Play the steps"


def test_layers_can_be_chosen(opened: Open, three_runs: Path) -> None:
    page = opened(three_runs)
    page.click("#layers-summary")
    page.click("#layers-none")
    expect(page.locator("#trajectory svg")).to_have_count(0)
    page.get_by_label("head.0", exact=True).check()
    page.wait_for_selector("#trajectory svg")
    assert page.inner_text("#layers-summary") == "1 of 15"
    assert len([d for d in paths(page, "#trajectory") if d.count("L") == len(STEPS) - 1]) == 1


def test_hovering_tells_where_a_number_comes_from(opened: Open, three_runs: Path) -> None:
    page = opened(three_runs)
    page.locator("#profile .mark-symbol path").last.hover()
    tooltip = page.locator("#vg-tooltip-element")
    tooltip.wait_for(state="visible")
    told = tooltip.inner_text()
    for part in ("nc1_pinv", "head.1", "iteration 9,000", "classes weighted by class, centred", RUNS[0]):
        assert part in told


def test_every_table_sorts_both_ways(opened: Open, three_runs: Path) -> None:
    page = opened(three_runs)
    open_all(page)
    tables = page.locator("table:visible")
    assert tables.count() == page.locator("table:visible:has(thead button)").count()
    for table in tables.all():
        for heading in table.locator("thead button").all():
            for order in ("ascending", "descending"):
                heading.click()
                assert heading.evaluate("b => b.parentElement.ariaSort") == order
                column = heading.evaluate("b => b.parentElement.cellIndex")
                cells = table.locator(f"tbody tr > :nth-child({column + 1})")
                values = [float(v) for v in cells.evaluate_all("all => all.map((each) => each.dataset.value)") if v]
                assert values == sorted(values, reverse=order == "descending")
    for names in (sorted(LAYERS), sorted(LAYERS, reverse=True)):
        page.locator("#number-table thead button").first.click()
        assert page.locator("#number-table tbody th").all_inner_texts() == names
    # A text with a number in it sorts by the number, thousands and all.
    steps = page.locator("[data-table=map] thead button").all_inner_texts().index("step")
    page.locator("[data-table=map] thead button").nth(steps).click()
    told = page.locator(f"[data-table=map] tbody tr > :nth-child({steps + 1})").all_inner_texts()
    assert list(dict.fromkeys(told)) == [f"iteration {step:,}" for step in sorted(STEPS)]


def test_a_definition_is_one_click_away(opened: Open, three_runs: Path) -> None:
    page = opened(three_runs)
    assert not page.locator("#def-nc1_pinv").is_visible()
    page.locator("#profile-caption a").click()
    page.locator("#def-nc1_pinv").wait_for(state="visible")
    expect(page.locator("#def-nc1_pinv")).to_be_in_viewport()


def test_the_table_behind_a_chart_has_its_numbers(opened: Open, three_runs: Path) -> None:
    page = opened(three_runs)
    page.locator("[data-table=map] summary").click()
    cells = page.locator("[data-table=map] td[data-value]")
    until(page, lambda: cells.count() == 15 * len(STEPS))


def test_the_csv_of_a_section_reads_back(opened: Open, three_runs: Path) -> None:
    page = opened(three_runs)
    with page.expect_download() as download:
        page.click("[data-csv=depth]")
    assert download.value.suggested_filename == "ncscan-depth.csv"
    rows = list(csv.DictReader(io.StringIO(download.value.path().read_text(encoding="utf-8"))))
    known = checkpoints(RUNS[:1])
    truth = {
        (f["layer"], f"iteration {at['step']:,}"): row.value
        for at, f, row in entries(known)
        if row.metric == "nc1_pinv"
    }
    assert len(rows) == len(truth)
    for row in rows:
        assert float(row["value"]) == pytest.approx(truth[row["layer"], row["step"]], rel=1e-6)


def test_the_picture_puts_exact_means_on_the_simplex_and_follows_the_step(opened: Open, with_classes: Path) -> None:
    page = opened(with_classes)
    means = places(page)
    centre = [sum(p[i] for p in means) / 3 for i in (0, 1)]
    radii = [math.dist(p, centre) for p in means]
    sides = [math.dist(means[i], means[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert max(radii) / min(radii) == pytest.approx(1, abs=0.01)
    assert max(sides) / min(sides) == pytest.approx(1, abs=0.01)
    assert sides[0] / radii[0] == pytest.approx(math.sqrt(3), abs=0.02)
    caption = page.inner_text("#simplex-caption")
    to_step(page, 0)
    expect(page.locator("#simplex-caption")).not_to_have_text(caption)


def test_four_classes_are_a_space_that_turns(opened: Open, with_classes: Path) -> None:
    page = opened(with_classes)
    assert not page.is_visible("#turn")
    page.locator("#picture-classes select").nth(3).select_option(label="5")
    page.wait_for_selector("#turn")
    until(page, lambda: len(places(page)) == 4)
    before = places(page)
    page.locator("#turn").fill("120")
    until(page, lambda: places(page) not in ([], before))
    assert "0, 1, 2, 5" in page.inner_text("#simplex-caption")


def test_strangers_text_is_inert(opened: Open, tmp_path: Path) -> None:
    known = checkpoints((RUNS[0],), (0, 50))
    for at in known:
        at |= {"run": HOSTILE[0], "group": HOSTILE[1], "step_unit": HOSTILE[3]}
    facts = [{"layer": name, "depth": i, "kind": name, "reduction": name} for i, name in enumerate(HOSTILE)]
    metrics = metrics_frame(
        (at, fact, Row("nc1_pinv", HOSTILE[0], 1.0 + i if i != 3 else None, HOSTILE[i]))
        for at in known
        for i, fact in enumerate(facts)
    )
    path = tmp_path / "hostile.html"
    path.write_text(output.page_text(complete({"metrics": metrics}), known, [], []), encoding="utf-8")
    page = opened(path)
    page.on("dialog", lambda dialog: pytest.fail("a stranger's script ran"))
    assert page.locator("img").count() == 0
    assert page.locator("#number-table tbody th").first.inner_text() == HOSTILE[0]
    page.locator("#profile .mark-symbol path").first.hover()
    page.locator("#vg-tooltip-element").wait_for(state="visible")
    assert page.locator("#vg-tooltip-element img, #vg-tooltip-element script").count() == 0
    with page.expect_download() as download:
        page.click("[data-csv=depth]")
    text = download.value.path().read_text(encoding="utf-8")
    assert "'=cmd|" in text
    assert not re.search(r"(^|,)=cmd", text, re.MULTILINE)


def test_nothing_but_its_own_scripts_can_run(browser: Browser, three_runs: Path) -> None:
    page = browser.new_page()
    blocked: list[str] = []
    page.on("console", lambda message: blocked.append(message.text))
    page.goto(three_runs.as_uri())
    page.evaluate("""() => {
        const script = document.createElement("script");
        script.textContent = "document.title = 'ran'";
        document.body.append(script);
        fetch("http://127.0.0.1:9/").catch(() => {});
    }""")
    until(
        page, lambda: any("script" in text for text in blocked) and any("connect" in text.lower() for text in blocked)
    )
    assert page.title() == "Neural collapse, layer by layer"
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(opened: Open, three_runs: Path, with_classes: Path, scheme: str) -> None:
    for path in (three_runs, with_classes):
        page = opened(path, color_scheme=scheme, bypass_csp=True)
        open_all(page)
        assert [] == serious(page)


def test_dark_and_light_are_other_colours(opened: Open, three_runs: Path) -> None:
    light, dark = (colours(opened(three_runs, color_scheme=scheme), "#trajectory") for scheme in ("light", "dark"))
    assert (250, 249, 246) in light
    assert (21, 23, 26) in dark


def test_a_phone_shows_no_sideways_scrolling(opened: Open, three_runs: Path) -> None:
    page = opened(three_runs, viewport={"width": 390, "height": 844}, is_mobile=True, device_scale_factor=2)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_it_prints_what_is_chosen(browser: Browser, opened: Open, three_runs: Path, tmp_path: Path) -> None:
    page = opened(three_runs, color_scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--ink')").strip() == "#222426"
    assert not page.is_visible("nav")
    assert not page.is_visible("#play")
    page.pdf(path=tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").stat().st_size > 20_000


def test_without_script_the_page_says_where_the_numbers_are(browser: Browser, three_runs: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(three_runs.as_uri())
    assert "CSV files beside it" in page.inner_text("noscript")
    assert "truncated" in page.inner_text("#notices")
    context.close()


def test_a_large_audit_is_drawn(opened: Open, tmp_path: Path) -> None:
    tables, known = large_audit(60, 90)
    path = tmp_path / "large.html"
    path.write_text(output.page_text(tables, known, [], []), encoding="utf-8")
    page = opened(path)
    assert len(colours(page, "#map")) >= 10
    assert "40 of them drawn" in page.inner_text("#layers-summary")


def test_little_is_shown_without_a_complaint(opened: Open, tmp_path: Path) -> None:
    one = checkpoints(RUNS[:1], (0,))
    (tmp_path / "one.html").write_text(
        output.page_text(complete({"metrics": metrics_frame(entries(one))}), one, [], []), encoding="utf-8"
    )
    page = opened(tmp_path / "one.html")
    assert page.is_disabled("#step")
    assert len(colours(page, "#profile")) >= 3
    (tmp_path / "none.html").write_text(output.page_text(complete({}), [], [("x.pt", "odd")], []), encoding="utf-8")
    assert "odd" in opened(tmp_path / "none.html").inner_text("#notices")


def without_steps(path: Path, unit: str, *names: str) -> Path:
    """The page of a run whose checkpoints of these names have no step."""
    known = checkpoints(RUNS[:1])
    metrics, weights = metrics_frame(entries(known)), weights_frame(weight_entries(known))
    for frame in (metrics, weights):
        here = frame["checkpoint"].isin(names)
        frame["step"] = frame["step"].mask(here)
        frame["step_unit"] = frame["step_unit"].mask(here, unit)
    told = [each | {"step": None, "step_unit": unit} if each["checkpoint"] in names else each for each in known]
    path.write_text(
        output.page_text(complete({"metrics": metrics, "weights": weights}), told, [], []), encoding="utf-8"
    )
    return path


def test_a_run_in_no_known_order_has_no_charts_over_steps(opened: Open, tmp_path: Path) -> None:
    names = [f"step_{step:06d}.pt" for step in STEPS]
    page = opened(without_steps(tmp_path / "report.html", "order", *names))
    for chart in ("trajectory", "balance", "condition"):
        expect(page.locator(f"#{chart}")).to_contain_text("The order of its checkpoints is not known")
    assert page.locator("#panel0 svg").count() == 0
    assert page.inner_text("#step-name") == names[-1]
    assert page.is_disabled("#play")
    assert len(colours(page, "#profile")) >= 3
    assert "their order is not known" in page.inner_text("#map")
    to_step(page, 0)
    assert names[0] in page.inner_text("#number-table caption")


def test_what_stands_beside_a_run_is_no_step_of_its_charts(opened: Open, tmp_path: Path) -> None:
    beside = f"step_{STEPS[-1]:06d}.pt"
    page = opened(without_steps(tmp_path / "report.html", "beside", beside))
    assert page.inner_text("#step-name") == f"iteration {STEPS[-2]:,}"
    page.locator("[data-table=trajectory] summary").click()
    until(page, lambda: page.locator("[data-table=trajectory] tbody tr").count() > 0)
    assert beside not in page.inner_text("[data-table=trajectory]")
    to_step(page, len(STEPS) - 1)
    assert page.inner_text("#step-name") == beside
    assert beside in page.inner_text("#number-table caption")
    page.click("#play")
    expect(page.locator("#step-name")).to_have_text("iteration 0")


def test_what_is_not_there_is_not_said_to_be_shown(
    opened: Open, three_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = opened(three_runs)
    page.click("#layers-summary")
    page.click("#layers-none")
    expect(page.locator("#trajectory")).to_have_text("No layer is chosen.")
    page.locator("[data-table=panels] summary").click()
    until(page, lambda: page.locator("[data-table=panels] tbody tr").count() > 100)
    page.locator("#panel0 .mark-symbol path").last.hover()
    page.locator("#vg-tooltip-element").wait_for(state="visible")
    assert "undefined" not in page.inner_text("#vg-tooltip-element")

    # Of four checkpoints two are kept class by class: what is shown says which.
    monkeypatch.setattr("ncscan.report.html.classes.MOST_IN_MATRICES", 400)
    monkeypatch.setattr("ncscan.report.html.classes.MOST_OF_CLASSES", 150)
    tables, known = large_audit(4, 1)
    path = tmp_path / "few.html"
    path.write_text(output.page_text(tables, known, [], []), encoding="utf-8")
    page = opened(path)
    assert "checkpoints of each run" in page.inner_text("main")
    to_step(page, 2)
    kept = page.inner_text("#class-table caption")
    assert "iteration 0," in kept
    expect(page.locator("#cosines-caption")).to_contain_text("at iteration 0,")


def test_names_alike_stay_apart(opened: Open, tmp_path: Path) -> None:
    known = checkpoints(("run\u200bA", "run\u200eA"), (0, 50))
    tables = complete({"metrics": metrics_frame((at | {"group": ""}, f, row) for at, f, row in entries(known))})
    path = tmp_path / "alike.html"
    path.write_text(output.page_text(tables, [at | {"group": ""} for at in known], [], []), encoding="utf-8")
    page = opened(path)
    options = page.locator("#run option").all_inner_texts()
    assert len(set(options)) == 2
    large, known = large_audit(2, 3)
    large["classes"] = large["classes"].replace({"class_name": {"1": "0"}})
    path.write_text(output.page_text(large, known, [], []), encoding="utf-8")
    page = opened(path)
    labels = page.locator("#cosines svg text").all_text_contents()
    assert {"0 #0", "0 #1"} <= set(labels)
