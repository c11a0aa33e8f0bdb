"""The page and the files of a report: whole, self-contained, the same every time, and deaf to what strangers write."""

import base64
import hashlib
import importlib.resources
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from large_audit import large_audit
from pages import HOSTILE, Page
from report_samples import (
    LAYERS,
    RUNS,
    STEPS,
    Row,
    checkpoints,
    entries,
    metrics_frame,
    weight_entries,
    weights_frame,
    write_report,
)

from ncscan.compare.gates import GateResult, Judged
from ncscan.metrics.evaluate import METRICS, NETWORK
from ncscan.metrics.gradient_table import GRADIENT_DEFINITIONS
from ncscan.metrics.held_out import HELD_OUT
from ncscan.metrics.weights.table import WEIGHT_METRICS
from ncscan.report import output
from ncscan.report.html.page import FAMILIES, definitions
from ncscan.report.html.series import MOST_RUNS
from ncscan.tables.frames import complete


def page_of(known: list[dict[str, Any]], **notices: Any) -> str:
    metrics, weights = metrics_frame(entries(known)), weights_frame(weight_entries(known))
    tables = complete({"metrics": metrics, "weights": weights})
    return output.page_text(tables, known, notices.get("skipped", []), notices.get("warnings", []))


@pytest.fixture(scope="module")
def two_runs() -> str:
    """The page of two runs."""
    return page_of(checkpoints(RUNS[1:]))


def test_page_needs_nothing_but_itself(two_runs: str) -> None:
    page = Page(two_runs)
    assert not {name for name, _ in page.elements} & {"link", "img", "iframe", "object", "base"}
    attributes = {key for _, attrs in page.elements for key in attrs}
    assert not {key for key in attributes if key.startswith("on") or key in ("src", "srcset", "style")}
    assert all((attrs.get("href") or "#").startswith("#") for _, attrs in page.elements)
    assert "url(" not in two_runs[: two_runs.index("<script")]
    assert "@import" not in two_runs[: two_runs.index("<script")]


def test_policy_lets_run_exactly_the_scripts_of_the_page(two_runs: str) -> None:
    page = Page(two_runs)
    (policy,) = [
        a["content"] for n, a in page.elements if n == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    ]
    running = [text for attributes, text in page.scripts if attributes.get("type") != "application/json"]
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in running]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src {allowed}"
    assert two_runs.index("Content-Security-Policy") < two_runs.index("<style")


def test_links_and_labels_of_the_page_lead_somewhere(two_runs: str) -> None:
    page = Page(two_runs)
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {(attrs["href"] or "")[1:] for name, attrs in page.elements if name == "a"} <= set(ids)
    assert {attrs["for"] for _, attrs in page.elements if attrs.get("for")} <= set(ids)


def test_page_has_every_number_with_its_definition(two_runs: str) -> None:
    page = Page(two_runs)
    ids = {attrs.get("id") for _, attrs in page.elements}
    metrics = {number["metric"] for number in page.data["numbers"]}
    assert {"nc1_pinv", "nc2_etf", "ncc_error", "feature_condition", "negativity", "weight_condition"} <= metrics
    assert {f"def-{metric}" for metric in metrics} <= ids
    assert len([name for name, _ in page.elements if name == "option"]) >= len(page.data["numbers"])
    assert "Total noise over total signal." in page.text
    assert "tr(Σ<sub>W</sub> Σ<sub>B</sub>⁺)/K" in two_runs
    assert "W<sub>ℓ</sub>W<sub>ℓ</sub>ᵀ" in two_runs


def test_verdict_tells_every_run_in_plain_words(two_runs: str) -> None:
    page = Page(two_runs)
    assert "9 checkpoints, iteration 0 to iteration 9,000, on 1,500 samples of 10 classes." in two_runs
    assert "The training error ends at 0 %." in two_runs
    assert "At the last checkpoint, iteration 9,000: all of NC1 to NC4 have collapsed." in two_runs
    assert "Judged at layer <code>head.0</code>, which the classifier reads." in two_runs
    assert re.search(r"<i>3</i> → <b>0\.0234</b>", two_runs)
    assert {"Each judgement", "What is doubtful"} <= set(page.texts)
    assert [text for text in page.texts if text in ("collapsed", "not collapsed", "partly collapsed", "balanced")]


def test_many_runs_are_told_in_a_line_each() -> None:
    known = checkpoints(tuple(f"run{i}" for i in range(MOST_RUNS + 2)), (0, 50))
    facts = {"layer": "fc", "depth": 0, "kind": "linear", "reduction": "none"}
    metrics = metrics_frame((at | {"group": ""}, facts, Row("nc1_pinv", "", 1.0)) for at in known)
    text = output.page_text(complete({"metrics": metrics}), known, [], [])
    assert text.count('<article class="run">') == MOST_RUNS
    assert "<b>run9</b>" in text


def test_gates_say_what_failed_and_where() -> None:
    row = Judged("<b>run</b>/c.pt, layer 9, nc1_pinv", 0.2, "")
    gates = [GateResult("nc1_pinv > 0.1", passed=False, rows=(row,)), GateResult("error > 0.5", passed=True)]
    known = checkpoints(RUNS[:1], (0,))
    tables = complete({"metrics": metrics_frame(entries(known))})
    page = Page(output.page_text(tables, known, [], [], gates=gates))
    assert {"failed", "passed", "nc1_pinv > 0.1", "<b>run</b>/c.pt, layer 9, nc1_pinv: 0.2"} <= set(page.texts)


def test_warnings_beyond_a_few_are_folded() -> None:
    text = page_of(checkpoints(RUNS[:1], (0,)), warnings=[f"doubt {i}" for i in range(9)])
    assert text.index("doubt 3") < text.index("<summary>5 more</summary>") < text.index("doubt 4")


def test_page_carries_every_layer_of_every_checkpoint(two_runs: str) -> None:
    runs = Page(two_runs).data["runs"]
    assert [run["name"] for run in runs] == list(RUNS[1:])
    for run in runs:
        assert run["steps"] == list(STEPS)
        assert [place["name"] for place in run["places"] if not place["map"]] == list(LAYERS)


def test_provenance_parts_what_is_shared_from_what_differs(two_runs: str) -> None:
    assert "module. → (none)" in two_runs
    assert two_runs.count("ab" * 32) == 2  # the data set's fingerprint, once per run
    assert two_runs.count(checkpoints(RUNS[1:2])[3]["provenance"]["checkpoint_sha256"]) == 1


def test_notices_come_first() -> None:
    text = page_of(checkpoints(RUNS[:1], (0,)), skipped=[("bad.pt", "truncated")], warnings=["near chance"])
    assert text.index("truncated") < text.index("near chance") < text.index("<h2>Verdict")
    assert "One checkpoint, iteration 0" in text


def test_strangers_text_stays_text_everywhere(two_runs: str) -> None:
    known = checkpoints((RUNS[0],), (0, 50))
    for i, at in enumerate(known):
        at |= {"run": HOSTILE[0], "checkpoint": f"{HOSTILE[1]}{i}", "step_unit": HOSTILE[2], "class_names": HOSTILE}
        at["provenance"] = {name: {name: [name]} for name in HOSTILE}
    facts = [{"layer": name, "depth": i, "kind": name, "reduction": name} for i, name in enumerate(HOSTILE)]
    metrics = metrics_frame(
        (at, fact, Row("nc1_pinv", name, 1.0 + i if i != 3 else None, name, classifier=name))
        for at in known
        for i, (fact, name) in enumerate(zip(facts, HOSTILE, strict=True))
    )
    weights = weights_frame(entry for entry in weight_entries(known) if entry[1].metric == "balancedness")
    weights["map"] = HOSTILE[1]
    text = output.page_text(
        complete({"metrics": metrics, "weights": weights}), known, [(name, name) for name in HOSTILE], HOSTILE
    )
    page = Page(text)
    benign = {name for name, _ in Page(two_runs).elements}
    assert {name for name, _ in page.elements} - benign <= {"ul", "li", "b"}
    assert not [key for _, attrs in page.elements for key in attrs if key.startswith("on")]
    assert len(page.scripts) == len(Page(two_runs).scripts)
    assert str(7777 * 7777) not in text
    assert not re.search("[\x00-\x08\x0e-\x1f\u202e]", text)


@pytest.mark.parametrize(("steps", "layers", "most"), [(12, 40, 2e6), (100, 200, 6e6)])
def test_page_of_a_large_audit_stays_small(steps: int, layers: int, most: float) -> None:
    tables, known = large_audit(steps, layers)
    text = output.page_text(tables, known, [], [])
    assert len(text.encode()) < most


def test_runs_beyond_the_most_are_said() -> None:
    known = checkpoints(tuple(f"run{i}" for i in range(MOST_RUNS + 2)), (0, 50))
    facts = {"layer": "fc", "depth": 0, "kind": "linear", "reduction": "none"}
    metrics = metrics_frame((at | {"group": ""}, facts, Row("nc1_pinv", "", 1.0)) for at in known)
    page = Page(output.page_text(complete({"metrics": metrics}), known, [], []))
    assert len(page.data["runs"]) == MOST_RUNS
    assert "the first 8 of 10 runs" in page.text


def test_page_of_nothing_still_says_what_was_skipped() -> None:
    text = output.page_text(complete({}), [], [("x.pt", "not a checkpoint")], [])
    assert "not a checkpoint" in Page(text).text


def test_every_metric_has_a_family_of_the_page() -> None:
    families = {family for family, _ in definitions().values()}
    assert families <= {key for key, _ in FAMILIES} - {"other"}
    tables = (*NETWORK, *METRICS, *HELD_OUT, *GRADIENT_DEFINITIONS, *WEIGHT_METRICS)
    assert list(definitions()) == [d.name for d in tables]


def test_write_gives_every_file_and_the_same_bytes_again(tmp_path: Path) -> None:
    known = checkpoints(RUNS[:1], (0, 50))
    few = [entry for entry in entries(known) if entry[2].metric in ("nc1_pinv", "nc3_cosine")]
    tables = {"metrics": metrics_frame(few)}
    runs = [
        write_report(tmp_path / name / "deep", tables, checkpoints=known, skipped=[], warnings=[])
        for name in ("a", "b")
    ]
    assert [path.name for path in runs[0]] == [
        "metrics.csv",
        "weights.csv",
        "theory.csv",
        "trajectory.csv",
        "classes.csv",
        "geometry.csv",
        "summary.csv",
        "report.json",
        "report.html",
    ]
    assert [path.read_bytes() for path in runs[0]] == [path.read_bytes() for path in runs[1]]
    assert sorted(path.name for path in (tmp_path / "a" / "deep").iterdir()) == sorted(path.name for path in runs[0])


def test_write_when_it_fails_leaves_no_half_file(tmp_path: Path) -> None:
    known = checkpoints(RUNS[:1], (0,))
    known[0]["provenance"] = {"odd": object()}
    tables = {"metrics": metrics_frame(entries(known))}
    (tmp_path / "report.json").write_text("old")
    with pytest.raises(TypeError, match="object"):
        write_report(tmp_path, tables, checkpoints=known, skipped=[], warnings=[])
    assert (tmp_path / "report.json").read_text() == "old"
    assert not list(tmp_path.glob("*.partial"))


def test_write_when_columns_are_not_the_contract_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="contract"):
        write_report(tmp_path, {"metrics": pd.DataFrame({"a": []})}, checkpoints=[], skipped=[], warnings=[])


def test_templates_travel_with_the_package() -> None:
    templates = importlib.resources.files("ncscan.report.html") / "templates"
    assert {"page.html", "page.css", "page.js"} <= {entry.name for entry in templates.iterdir()}


def test_report_imports_neither_torch_nor_h5py() -> None:
    code = "import sys, ncscan.report; print([name for name in ('torch', 'h5py') if name in sys.modules])"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env).stdout
    assert out == "[]\n"
