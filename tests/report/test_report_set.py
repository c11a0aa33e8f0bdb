"""The files of a report as a set: what belongs to it, and what says so."""

import hashlib
import io
import json
import os
import re
import xml.etree.ElementTree as ET
from pathlib import Path, PurePosixPath

import pytest
from PIL import Image
from report_samples import RUNS, checkpoints, entries, metrics_frame
from workspaces import make_workspace, ncscan, one_line

from ncscan.report import output
from ncscan.report.figures.rendering import as_file
from ncscan.report.own_files import owns
from ncscan.report.stamp import stamped

SPEC = {"data": {"values": [{"a": 1}]}, "mark": "point", "encoding": {"x": {"field": "a", "type": "quantitative"}}}


@pytest.fixture(scope="module")
def dumped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("set")
    make_workspace(folder, 5)
    assert 0 == ncscan("extract", "ckpts", "--quiet", cwd=folder).returncode
    return folder


def files(steps: tuple[int, ...]) -> output.Files:
    known = checkpoints(RUNS[:1], steps)
    return output.files_of({"metrics": metrics_frame(entries(known))}, checkpoints=known, skipped=[], warnings=[])


def test_an_id_is_that_of_its_inputs_and_names_the_tables() -> None:
    one, again, other = files((0, 50)), files((0, 50)), files((0, 60))
    assert one == again
    assert one.id != other.id
    document = json.loads(one.contents["report.json"])
    assert one.id == document["id"]
    assert f'<meta name="ncscan-report" content="{one.id}">' in one.contents["report.html"].decode()
    tables = {name: content for name, content in one.contents.items() if name.endswith(".csv")}
    assert {name: hashlib.sha256(content).hexdigest() for name, content in tables.items()} == document["files"]


@pytest.mark.parametrize("form", ["svg", "png", "pdf", "gif"])
def test_pictures_have_the_id_where_readers_look_for_it(form: str) -> None:
    if form == "gif":
        file = io.BytesIO()
        Image.new("P", (4, 4)).save(file, "GIF", save_all=True, append_images=[Image.new("P", (4, 4), 1)])
        plain = file.getvalue()
    else:
        plain = as_file(SPEC, form, "a point")
    picture = stamped(f"x.{form}", plain, "0123456789abcdef")
    assert b"ncscan report 0123456789abcdef" in picture
    if form == "svg":
        root = ET.fromstring(picture)  # noqa: S314 - our own
        assert ["title", "metadata"] == [child.tag.rpartition("}")[2] for child in root][:2]
    elif form in ("png", "gif"):
        with Image.open(io.BytesIO(picture)) as image, Image.open(io.BytesIO(plain)) as before:
            assert image.convert("RGB").tobytes() == before.convert("RGB").tobytes()
            image.seek(getattr(image, "n_frames", 1) - 1)
        if form == "png":
            assert "ncscan report 0123456789abcdef" == Image.open(io.BytesIO(picture)).info["Comment"]
    else:
        table = int(picture[picture.rindex(b"startxref") :].split()[1])
        assert picture[table:].startswith(b"xref")
        assert picture[picture.rindex(b"trailer") :].count(b"<<") == 1


SVG = b"<svg><title>x</title></svg>"


def test_what_belongs_to_a_report(tmp_path: Path) -> None:
    figures = tmp_path / "figures"
    (figures / "charts" / "run").mkdir(parents=True)
    for name, content in {"etf.gif": b"GIF89a;", "jacot-1.svg": SVG, "charts/run/x.svg": SVG}.items():
        (figures / name).write_bytes(stamped(name, content, "0123456789abcdef"))
    for name in ("mine.gif", "mine.svg", "jacot-1.pdf", "charts/mine.svg", "charts/run/mine.png"):
        (figures / name).write_bytes(SVG)
    (figures / "link.svg").symlink_to(figures / "charts" / "run" / "x.svg")
    os.mkfifo(figures / "pipe.gif")
    ours = ["metrics.csv", "summary.parquet", "convention-zhu.csv", "report.json", "report.html", "figures/etf.gif"]
    ours += ["figures/jacot-1.svg", "figures/charts/run/x.svg"]
    theirs = ["notes.csv", "metrics.csv.bak", "convention-zhu.txt", "convention-mine.csv", "figures/link.svg"]
    theirs += ["figures/mine.gif", "figures/pipe.gif", "figures/mine.svg", "figures/jacot-1.pdf", "old/metrics.csv"]
    theirs += ["figures/charts/mine.svg", "figures/charts/run/mine.png", "metrics.csv/x"]
    assert [True] * len(ours) == [owns(tmp_path, PurePosixPath(name)) for name in ours]
    assert [False] * len(theirs) == [owns(tmp_path, PurePosixPath(name)) for name in theirs]


def test_a_full_disk_is_one_line_and_leaves_the_old_report(dumped: Path) -> None:
    assert 0 == ncscan("report", "-q", cwd=dumped).returncode
    folder = dumped / "ncscan-out" / "report"
    (folder / "report.html").write_text("the old page", encoding="utf-8")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    small = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))"
    done = ncscan("report", "--convention", "zhu", cwd=dumped, before=small)
    assert 2 == done.returncode
    assert re.search("cannot write there: File too large", one_line(done.stderr))
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert ["dumps", "report"] == sorted(path.name for path in folder.parent.iterdir())


def test_a_second_report_into_a_folder_is_refused(dumped: Path) -> None:
    from ncscan.files.sets import claimed

    with claimed(dumped / "ncscan-out" / "report"):
        done = ncscan("report", cwd=dumped)
    assert (2, "") == (done.returncode, done.stdout)
    assert "another ncscan writes there" in one_line(done.stderr)


@pytest.mark.parametrize("subcommand", [("report",), ("diff", "ncscan-out/dumps", "ncscan-out/dumps")])
def test_unfinished_dumps_are_named_and_fail_gates(dumped: Path, subcommand: tuple[str, ...]) -> None:
    gate = "any(nc1_pinv[layer=head]) > 1e9"
    half = dumped / "ncscan-out" / "dumps" / "ckpts" / "step_7.pt.h5.partial"
    half.write_bytes(b"half")
    try:
        gated = ncscan(*subcommand, "--fail-if", gate, "-q", cwd=dumped)
        allowed = ncscan(*subcommand, "--fail-if", gate, "--allow-unfinished", "-q", cwd=dumped)
    finally:
        half.unlink()
    assert [3, 0] == [done.returncode for done in (gated, allowed)]
    for done in (gated, allowed):
        assert "unfinished and not measured: ckpts/step_7.pt.h5.partial" in done.stderr
    assert "gate failed: every dump is finished: ckpts/step_7.pt.h5.partial: no value, unfinished" in gated.stderr


def test_only_unfinished_dumps_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.h5.partial").write_bytes(b"half")
    done = ncscan("report", ".", cwd=tmp_path)
    assert (1, "") == (done.returncode, done.stdout)
    assert "1 dump is unfinished and not measured: a.h5.partial" in one_line(done.stderr)
