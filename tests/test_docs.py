"""Pages say what is there: links lead somewhere, commands exist."""

import re
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest

from ncscan.cli import app
from ncscan.compare.align import DIFF_COLUMNS
from ncscan.compare.gate_parser import KEYS, OF, parse
from ncscan.compare.landmarks import LAYER_WORDS, STEP_WORDS
from ncscan.compare.noise_floor import SOURCES
from ncscan.report.html.diff_page import MOST_ROWS
from ncscan.report.json_report import SUMMARY, SUMMARY_VERSION
from ncscan.report.verdict.caveats import DoubtKind
from ncscan.report.verdict.evaluate import RunVerdict
from ncscan.report.verdict.rules import CLEARLY_OF_FEW, RULES, threshold_of
from ncscan.tables.columns import REPORT, REPORT_VERSION, TABLES
from ncscan.tables.conventions import CONVENTIONS
from ncscan.theory.statements import CLAIMS
from ncscan.theory.weight_decay import DECAY_CLAIMS
from ncscan.trajectory.evaluate import FINDINGS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("sample_data/*.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if not (page.parent / link).exists()]
    assert [] == missing


def test_commands_that_are_named_exist() -> None:
    commands = {command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands}
    said = {
        (path.relative_to(ROOT).as_posix(), name)
        for path in [*PAGES, *ROOT.glob("ncscan/**/*.py"), ROOT / "Makefile"]
        for name in re.findall(r"`ncscan ([a-z]+)", path.read_text(encoding="utf-8"))
    }
    assert {name for _, name in said} >= {"extract", "report"}
    assert set() == {(path, name) for path, name in said if name not in commands}


def test_findings_claims_and_conventions_are_told() -> None:
    reports, theory = ((DOCS / name).read_text(encoding="utf-8") for name in ("reports.md", "theory.md"))
    assert all(f"| `{finding.name}` |" in reports for finding in FINDINGS)
    assert all(f"`{convention.name}`" in reports for convention in CONVENTIONS)
    assert all(
        f"`{name}`" in theory for name in (*(claim.name for claim in CLAIMS), *(name for name, *_ in DECAY_CLAIMS))
    )


def test_gates_and_diffs_are_told() -> None:
    text = (DOCS / "comparing.md").read_text(encoding="utf-8")
    assert f"`{', '.join(name for name, _ in DIFF_COLUMNS)}`" in " ".join(text.split())
    for name in (*KEYS, *OF, *STEP_WORDS, *LAYER_WORDS, *SOURCES):
        assert re.search(rf"`{name}`", text), name
    examples = re.findall(r"--fail-if '([^']+)'", text) + re.findall(r'fail_if = \["(.+?)"\]', text)
    more = re.findall(r"`((?:any|all)\([^`]*?\) [<>=!]+ [0-9.]+)`", text)
    assert 10 <= len(examples + more)
    assert all(str(parse(example)) for example in examples + more)
    assert f"the {MOST_ROWS:,} rows that moved most" in text


def test_columns_are_told() -> None:
    reports = " ".join((DOCS / "reports.md").read_text(encoding="utf-8").split())
    for table, columns in TABLES.items():
        assert f"`{table}.csv`: `{', '.join(name for name, _ in columns)}`" in reports


def test_rules_of_the_verdict_are_told() -> None:
    reports = (DOCS / "reports.md").read_text(encoding="utf-8")
    for rule in RULES:
        metric = f"`{rule.metric}`, `{rule.quantity}`" if rule.quantity else f"`{rule.metric}`"
        assert f"| {rule.aspect} | {metric} | {threshold_of(rule):g} | {rule.partly:g} | 0 |" in reports
    assert all(
        f"with {K} classes {'it is ' if K == 4 else ''}{share:g}" in reports for K, share in CLEARLY_OF_FEW.items()
    )
    assert all(f"`{kind}`" in reports for kind in get_args(DoubtKind))
    assert all(f"`{field.name}`" in reports for field in fields(RunVerdict))


def test_versions_of_the_documents_are_told() -> None:
    reports = (DOCS / "reports.md").read_text(encoding="utf-8")
    for name, version in ((REPORT, REPORT_VERSION), (SUMMARY, SUMMARY_VERSION)):
        assert f'{{"schema": "{name}", "schema_version": {version}' in reports
