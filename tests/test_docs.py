"""Pages say what is there: links lead somewhere, commands exist."""

import re
from pathlib import Path

import pytest

from ncscan.cli import app

ROOT = Path(__file__).parents[1]
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
