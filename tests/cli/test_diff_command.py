"""`ncscan diff` and `--fail-if` on the real command line: sides of every kind, outputs, troubles, exit codes."""

import csv
import hashlib
import json
import shutil
from pathlib import Path

import pytest
from workspaces import (
    hashing_anew,
    make_workspace,
    ncscan,
    one_line,
    rows,
)

from ncscan.compare.align import DIFF_COLUMNS


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with checkpoints, their dumps and their report; nobody writes to it but into an --out of their own."""
    folder = tmp_path_factory.mktemp("reported")
    make_workspace(folder, 0, 5, 10)
    assert 0 == ncscan("extract", "ckpts", "--quiet", cwd=folder).returncode
    assert 0 == ncscan("report", "--quiet", cwd=folder).returncode
    return folder


def diffed(folder: Path) -> list[dict[str, str]]:
    with (folder / "diff" / "diff.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("side", ["ncscan-out/report/report.json", "ncscan-out/dumps"])
def test_report_and_dumps_against_themselves_are_equal(reported: Path, tmp_path: Path, side: str) -> None:
    done = ncscan("diff", "ncscan-out/report", side, "--out", tmp_path, cwd=reported)
    assert (0, "") == (done.returncode, done.stderr)
    found = diffed(tmp_path)
    assert [name for name, _ in DIFF_COLUMNS] == list(found[0])
    assert {"0", "5", "10"} == {row["step_a"] for row in found}
    assert {"", "0.0"} == {row["difference"] for row in found}
    assert "true" not in {row["beyond_noise"] for row in found}
    assert "beyond noise" not in done.stdout
    assert ["diff.csv", "diff.html"] == sorted(path.name for path in (tmp_path / "diff").iterdir())


def test_two_checkpoints_are_extracted_and_compared(reported: Path, tmp_path: Path) -> None:
    arguments = ("diff", "ckpts/step_5.pt", "ckpts/step_10.pt", "--out", tmp_path)
    done = ncscan(*arguments, "--fail-if", "error[of=b] > 0.5", cwd=reported)
    assert (0, "") == (done.returncode, done.stderr)
    assert "1 gate passed" in done.stdout
    assert all(len(line) <= 100 for line in done.stdout.splitlines() if "page:" not in line and "numbers:" not in line)
    found = diffed(tmp_path)
    assert {("5", "10")} == {(row["step_a"], row["step_b"]) for row in found}
    reports = {
        (row["step"], row["layer"], row["metric"], row["quantity"], row["weighting"], row["classifier"]): row["value"]
        for row in rows(reported)
    }
    for row in found:
        if row["table"] == "metrics":
            key = (row["layer"], row["metric"], row["quantity"], row["weighting"], row["classifier"])
            assert (reports["5", *key], reports["10", *key]) == (row["a"], row["b"])
    # Nobody must take the dumps of a diff for dumps of theirs.
    assert ["diff.csv", "diff.html"] == sorted(path.name for path in (tmp_path / "diff").iterdir())

    again = ncscan("diff", "ckpts/step_5.pt", "ckpts/step_0.pt", "--out", tmp_path, "--layers", "head", cwd=reported)
    assert 0 == again.returncode, again.stderr
    assert {"0"} == {row["step_b"] for row in diffed(tmp_path)}


def test_same_inputs_give_the_same_bytes(reported: Path, tmp_path: Path) -> None:
    digests = []
    for name, run in (("one", ncscan), ("two", hashing_anew)):
        arguments = ("ncscan-out/dumps/ckpts/step_5.pt.h5", "ncscan-out/report", "--out", tmp_path / name)
        done = run("diff", "--bootstrap", "30", *arguments, cwd=reported)
        assert 4 == done.returncode, done.stderr
        assert "warning: left out: run ckpts: only in B: 2 steps 0, 10" in done.stderr
        digests.append(
            [hashlib.sha256((tmp_path / name / "diff" / f).read_bytes()).hexdigest() for f in ("diff.csv", "diff.html")]
        )
    assert digests[0] == digests[1]
    text = (tmp_path / "one" / "diff" / "diff.html").read_text(encoding="utf-8")
    assert str(tmp_path) not in text


def test_what_is_missing_on_one_side_fails_a_gate_on_the_last_step_and_is_told_when_quiet(
    reported: Path, tmp_path: Path
) -> None:
    plain = json.loads((reported / "ncscan-out" / "report" / "report.json").read_text(encoding="utf-8"))
    for name in ("metrics", "weights", "theory"):
        at = plain[name]["columns"].index("step")
        plain[name]["rows"] = [row for row in plain[name]["rows"] if row[at] != 10]
    (tmp_path / "report.json").write_text(json.dumps(plain), encoding="utf-8")
    sides = ("diff", "ncscan-out/report", tmp_path, "--out", tmp_path, "--quiet")
    gate = "any(nc1_pinv[layer=head, step=last, of=ratio]) > 1000"
    done = ncscan(*sides, "--fail-if", gate, cwd=reported)
    assert 3 == done.returncode
    assert "no value, the last step of A, 10, is not on the other side" in done.stderr
    assert "left out: run ckpts: only in A: step 10" in done.stderr
    assert 4 == ncscan(*sides, "--fail-if", gate.replace("last", "5"), cwd=reported).returncode


def test_a_layer_or_a_value_that_is_gone_is_named(reported: Path, tmp_path: Path) -> None:
    plain = json.loads((reported / "ncscan-out" / "report" / "report.json").read_text(encoding="utf-8"))
    columns = plain["metrics"]["columns"]
    layer, metric, value, reason = (columns.index(name) for name in ("layer", "metric", "value", "reason"))
    read = next(row[layer] for row in plain["metrics"]["rows"] if row[metric] == "nc3_distance")
    rows = [row for row in plain["metrics"]["rows"] if row[layer] != "input"]
    for row in rows:
        if row[metric] == "cdnv" and row[layer] == read:
            row[value], row[reason] = None, "lost on the way"
    plain["metrics"]["rows"] = rows
    (tmp_path / "report.json").write_text(json.dumps(plain), encoding="utf-8")
    done = ncscan("diff", "ncscan-out/report", tmp_path, "--out", tmp_path, cwd=reported)
    page = (tmp_path / "diff" / "diff.html").read_text(encoding="utf-8")
    for text in (done.stdout, page):
        assert "only in A: layer input" in text
        assert "lost on the way" in text


def test_dumps_in_hidden_folders_are_nobody_s(reported: Path, tmp_path: Path) -> None:
    hidden = tmp_path / "dumps" / ".dumps-x"
    hidden.mkdir(parents=True)
    whole = reported / "ncscan-out" / "dumps" / "ckpts" / "step_5.pt.h5"
    (hidden / "a.h5").write_bytes(whole.read_bytes())
    assert "no dump in it" in ncscan("report", tmp_path / "dumps", "--out", tmp_path, cwd=reported).stderr
    # A diff into the folder that it reads from leaves what is there as it was.
    (tmp_path / "dumps" / "step_5.pt.h5").write_bytes(whole.read_bytes())
    done = ncscan("diff", "ckpts/step_10.pt", tmp_path / "dumps", "--out", tmp_path / "dumps", cwd=reported)
    assert 0 == done.returncode, done.stderr
    assert {("10", "5")} == {(row["step_a"], row["step_b"]) for row in diffed(tmp_path / "dumps")}


def test_bootstrap_gives_a_noise_floor(reported: Path, tmp_path: Path) -> None:
    dumps = [f"ncscan-out/dumps/ckpts/step_{step}.pt.h5" for step in (0, 10)]
    done = ncscan("diff", *dumps, "--bootstrap", "30", "--out", tmp_path, cwd=reported)
    assert 0 == done.returncode, done.stderr
    sources = {row["noise_source"] for row in diffed(tmp_path)}
    assert "bootstrap" in sources
    moved = [row for row in diffed(tmp_path) if row["beyond_noise"] == "true"]
    assert all(abs(float(row["difference"])) > float(row["noise"]) for row in moved)
    assert f"{len(moved):,} beyond noise" in done.stdout


def test_layers_on_one_side_are_rows_of_their_own(reported: Path, tmp_path: Path) -> None:
    fewer = ("extract", "ckpts", "--layers", "head", "--layers", "input", "--out", tmp_path, "--quiet")
    assert 0 == ncscan(*fewer, cwd=reported).returncode
    done = ncscan("diff", "ncscan-out/report", tmp_path / "dumps", "--out", tmp_path, cwd=reported)
    assert 0 == done.returncode, done.stderr
    alone = {row["layer"] for row in diffed(tmp_path) if row["reason"] == "only in A" and row["table"] == "metrics"}
    assert {"0", "0_relu"} <= alone
    assert "input" not in alone


def test_runs_without_a_name_in_common_are_one_line(reported: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        shutil.copytree(reported / "ckpts", tmp_path / "left" / name)
        shutil.copytree(reported / "ckpts", tmp_path / "right" / f"{name}s")
    shutil.copy(reported / "data.npz", tmp_path / "left")
    shutil.copy(reported / "data.npz", tmp_path / "right")
    done = ncscan("diff", "left", "right", cwd=tmp_path)
    assert 2 == done.returncode
    assert "nothing to compare: no run has one name on both sides; A has one, two, B has ones, twos" in one_line(
        done.stderr
    )


@pytest.mark.parametrize(
    ("gates", "code", "told", "passed"),
    [
        (["any(error) > 0.9", "nc1_pinv[layer=head, step=last] > 1e9"], 0, [], "2 gates passed"),
        (
            ["any(error) > 0.9", "any(nc1_pinv) > 1e-9", "nc1_pinv[layer=head, step=last] > 1e-9"],
            3,
            [
                "gate failed: any(nc1_pinv) > 1e-09: and 16 more rows",
                "gate failed: nc1_pinv[layer=head, step=last] > 1e-09: ckpts/step_10.pt (iteration 10), layer 4,",
            ],
            "1 of 3 gates passed",
        ),
        (
            ["nc1_pinv[layer=head] > 1", "nope > 1", "any(error) >= 0"],
            2,
            ["matches 3 rows (3 steps): say step=last", "no metric nope", "gate failed: any(error) >= 0"],
            "0 of 3 gates passed",
        ),
    ],
    ids=["passed", "failed", "unclear"],
)
def test_gates_of_a_report(
    reported: Path, tmp_path: Path, gates: list[str], code: int, told: list[str], passed: str
) -> None:
    flags = [part for gate in gates for part in ("--fail-if", gate)]
    done = ncscan("report", "ncscan-out/dumps", "--out", tmp_path, *flags, cwd=reported)
    assert code == done.returncode, done.stderr
    assert all(text in done.stderr for text in told), done.stderr
    assert passed in done.stdout
    assert (tmp_path / "report" / "report.json").exists()


def test_gate_that_is_none_is_found_before_anything_is_measured(reported: Path, tmp_path: Path) -> None:
    done = ncscan("diff", "ncscan-out", "ncscan-out", "--out", tmp_path, "--fail-if", "cdnv[layer=a > 1", cwd=reported)
    assert (2, []) == (done.returncode, list(tmp_path.iterdir()))
    assert 'at its end: expected "," or "]"' in one_line(done.stderr)
    done = ncscan("report", "--out", tmp_path, "--fail-if", "nc1_pinv[of=ratio] > 2", cwd=reported)
    assert (2, []) == (done.returncode, list(tmp_path.iterdir()))
    assert "only a diff has sides" in one_line(done.stderr)


def test_gates_of_a_diff(reported: Path, tmp_path: Path) -> None:
    dumps = [f"ncscan-out/dumps/ckpts/step_{step}.pt.h5" for step in (5, 10)]
    gates = ["nc1_pinv[layer=head, of=b] < 0", "nc1_pinv[layer=head] != 0", "nc1_pinv[layer=head, of=ratio] > 0"]
    flags = [part for gate in gates for part in ("--fail-if", gate)]
    done = ncscan("diff", *dumps, "--out", tmp_path, "--quiet", *flags, cwd=reported)
    assert (3, "") == (done.returncode, done.stdout)
    first, second = done.stderr.splitlines()
    place = "ckpts/step_5.pt → ckpts/step_10.pt (iteration 5 → 10), layer 4, nc1_pinv, weighting class: "
    assert first.startswith(f"gate failed: nc1_pinv[layer=head] != 0: {place}")
    assert second.startswith(f"gate failed: nc1_pinv[layer=head, of=ratio] > 0: {place}")


def test_gates_of_the_working_directory_count_and_those_of_a_strangers_folder_do_not(workspace: Path) -> None:
    with (workspace / "ckpts" / "ncscan.toml").open("a", encoding="utf-8") as file:
        file.write('[report]\nfail_if = ["any(error) >= 0"]\n')
    ncscan("extract", "ckpts", "--quiet", cwd=workspace)
    config = workspace / "ncscan.toml"
    config.write_text(
        '[report]\nfail_if = ["any(nc1_pinv) < 0"]\n[diff]\nfail_if = ["any(nope) > 1"]\n', encoding="utf-8"
    )
    done = ncscan("report", "--fail-if", "all(error) > 2", cwd=workspace)
    assert (0, True) == (done.returncode, "2 gates passed" in done.stdout)
    config.write_text('[report]\nfail_if = ["any(nc1_pinv) > 0"]\n', encoding="utf-8")
    assert 3 == ncscan("report", cwd=workspace).returncode
    assert 0 == ncscan("diff", "ncscan-out", "ncscan-out", cwd=workspace).returncode
    config.write_text('[report]\nfail_if = ["any(nc1_pinv] > 0"]\n', encoding="utf-8")
    done = ncscan("report", cwd=workspace)
    assert 2 == done.returncode
    assert one_line(done.stderr).startswith("error: ncscan.toml [report] fail_if 'any(nc1_pinv] > 0': at character 13")


def test_failed_gate_wins_over_a_skipped_input(workspace: Path) -> None:
    ncscan("extract", "ckpts", "--quiet", cwd=workspace)
    path = workspace / "ncscan-out" / "dumps" / "ckpts" / "step_5.pt.h5"
    path.write_bytes(path.read_bytes()[:1000])
    done = ncscan("report", "--fail-if", "any(error) >= 0", "--json", cwd=workspace)
    assert (3, 3) == (done.returncode, json.loads(done.stdout)["exit_code"])
    assert "gate failed: any(error) >= 0" in done.stderr
    assert 4 == ncscan("diff", "ncscan-out/dumps", "ncscan-out/report", cwd=workspace).returncode
    for path in (workspace / "ncscan-out" / "dumps" / "ckpts").iterdir():
        path.write_bytes(b"no dump")
    done = ncscan("diff", "ncscan-out/dumps", "ncscan-out/report", cwd=workspace)
    assert 1 == done.returncode
    assert "nothing of it could be measured" in done.stderr


def test_violated_certificate_in_a_report_wins_over_a_failed_gate(reported: Path, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    plain = json.loads((reported / "ncscan-out" / "report" / "report.json").read_text(encoding="utf-8"))
    columns = plain["theory"]["columns"]
    claim = next(row for row in plain["theory"]["rows"] if row[columns.index("claim")] == "nc1_upper")
    claim[columns.index("holds")] = False
    path.write_text(json.dumps(plain), encoding="utf-8")
    done = ncscan("diff", "ncscan-out", path, "--out", tmp_path, "--fail-if", "any(error) == 0", cwd=reported)
    assert 1 == done.returncode
    assert "a certificate is violated: B: ckpts/step_0.pt: nc1_upper" in done.stderr
    assert "gate failed" in done.stderr
    assert "judged otherwise: nc1_upper" in done.stdout


@pytest.mark.parametrize(
    ("content", "said"),
    [('{"schema": "ncscan.report", "schema_version": 1}', "schema version 1")],
)
def test_report_that_cannot_be_read_is_one_line(reported: Path, tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "report.json").write_text(content, encoding="utf-8")
    done = ncscan("diff", "ncscan-out", tmp_path, "--out", tmp_path / "out", cwd=reported)
    assert 1 == done.returncode
    assert said in one_line(done.stderr)
    assert not (tmp_path / "out" / "diff" / "diff.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["diff", "ncscan-out"], 2, "Missing argument"),
        (["diff", "ncscan-out", "nowhere"], 1, "nowhere: there is no such file or folder"),
        (
            ["diff", "ncscan-out", "data.npz"],
            1,
            "data.npz: a diff takes a report (report.json), a dump (*.h5) or a check",
        ),
        (["diff", "ncscan-out", "empty"], 1, "empty: there is neither a report nor a dump nor a checkpoint in it"),
        (["diff", "ncscan-out", "ncscan-out", "--bootstrap", "50"], 2, "nothing is measured here"),
        (["diff", "ncscan-out", "ckpts", "--layers", "rellu"], 2, "rellu"),
        (["diff", "ncscan-out", "ncscan-out", "--out", "data.npz"], 2, "data.npz"),
    ],
)
def test_troubles_are_told(reported: Path, arguments: list[str], code: int, said: str) -> None:
    (reported / "empty").mkdir(exist_ok=True)
    done = ncscan(*arguments, cwd=reported)
    assert code == done.returncode, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_hostile_run_names_are_inert_in_every_output(reported: Path, tmp_path: Path) -> None:
    name = "=[bold]<script>x\u202e"
    text = (reported / "ncscan-out" / "report" / "report.json").read_text(encoding="utf-8")
    (tmp_path / "report.json").write_text(text.replace('"ckpts"', json.dumps(name)), encoding="utf-8")
    done = ncscan("diff", tmp_path, tmp_path, "--out", tmp_path, "--fail-if", "any(nc1_pinv[of=b]) > 0", cwd=reported)
    assert 3 == done.returncode
    assert "\u202e" not in done.stdout + done.stderr
    assert "=[bold]<script>x" in done.stderr
    page = (tmp_path / "diff" / "diff.html").read_text(encoding="utf-8")
    assert (1, 0) == (page.count("<script>"), page.count("\u202e"))
    assert "'=[bold]<script>x\\u202e" == diffed(tmp_path)[0]["run_a"]
