"""ncscan.toml and flags: what is accepted, what is refused, and in which words."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ncscan.config import (
    CONFIG_NAME,
    RunConfig,
    SourceSpec,
    nearest_config,
    parse_normalisation,
    read_config,
    with_flags,
)
from ncscan.errors import UsageError
from ncscan.sources import DATA_SOURCES, MODEL_SOURCES

FULL = """
[model]
source = "mlp"
activation = "relu"
linear_head = 3
[data]
source = "npz:../digits.npz"
normalize = "0.5,0.25"
[train]
loss = "mse"
lr = 0.1
weight_decay = 1
[run]
group = "decay"
"""


def write(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ncscan.toml").write_text(text, encoding="utf-8")
    return folder


def test_read_config_when_everything_is_said(tmp_path: Path) -> None:
    config = read_config(write(tmp_path, FULL))
    expected = RunConfig(
        folder=tmp_path,
        model=SourceSpec("mlp", MODEL_SOURCES[0], tmp_path, trusted=False),
        activation="relu",
        linear_head=3,
        data=SourceSpec("npz:../digits.npz", DATA_SOURCES[0], tmp_path, trusted=False),
        normalize=((0.5,), (0.25,)),
        train={"loss": "mse", "lr": 0.1, "weight_decay": 1},
        group="decay",
    )
    assert expected == config


def test_read_config_keeps_the_gates_of_each_command(tmp_path: Path) -> None:
    text = "[report]\nfail_if = ['error > 0', 'any(cdnv) > 1']\n[diff]\nfail_if = []\n"
    assert {"report": ("error > 0", "any(cdnv) > 1")} == read_config(write(tmp_path, text)).fail_if


def test_read_config_when_there_is_none(tmp_path: Path) -> None:
    assert RunConfig(tmp_path) == read_config(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[model\n", "not valid TOML"),
        ("[modle]\nsource = 'mlp'\n", r"unknown section \[modle\]; there are model, data, train, run, report and diff"),
        ("model = 'mlp'\n", r"unknown section \[model\]"),
        (
            "[model]\nsorce = 'mlp'\n",
            r"unknown key sorce in \[model\]; there are source, activation, linear_head, state, weights, prefix, rena",
        ),
        ("[model]\nlinear_head = '3'\n", r"linear_head in \[model\] must be of type int, not '3'"),
        ("[model]\nlinear_head = true\n", r"linear_head in \[model\] must be of type int, not True"),
        ("[model]\nlinear_head = 0\n", "must be 1 or more, not 0"),
        (f"[train]\nlr = {10**30}\n", r"lr in \[train\] must be a finite number"),
        ("[model]\nsource = 'resnet'\n", r"\[model\] source: the model must be mlp or module:function, not 'resnet'"),
        ("[data]\nsource = 'digits.npz'\n", r"\[data\] source: the data must be npz:FILE, .*, not 'digits.npz'"),
        ("[data]\nsource = 'npz:'\n", r"the data must be npz:FILE"),
        ("[data]\nnormalize = '1'\n", "normalize must read MEAN,STD"),
        ("[report]\nfail_if = 'error > 0'\n", r"fail_if in \[report\] must be of type list, not 'error > 0'"),
        ("[diff]\nfail_if = ['error > 0', 1]\n", r"fail_if in \[diff\] must be a list of texts, and has 1"),
        ("[diff]\nfail = []\n", r"unknown key fail in \[diff\]; there are fail_if"),
    ],
)
def test_read_config_names_the_mistake(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_config(write(tmp_path, text))


def test_nearest_config_looks_upwards(tmp_path: Path) -> None:
    run = write(tmp_path / "run", FULL)
    (run / "deep" / "er").mkdir(parents=True)
    checkpoint = run / "deep" / "er" / "a.pt"
    checkpoint.touch()
    assert run == nearest_config(checkpoint)
    assert run == nearest_config(run)


def test_code_named_by_a_file_needs_trust(tmp_path: Path) -> None:
    config = read_config(write(tmp_path, "[model]\nsource = 'evil:boom'\n"))
    with pytest.raises(UsageError, match=r"names code to run, evil:boom; pass --trust-code"):
        with_flags(config)
    assert config == with_flags(config, trust_code=True)


def test_code_named_by_the_user_is_theirs(tmp_path: Path) -> None:
    config = with_flags(read_config(write(tmp_path, "[model]\nsource = 'evil:boom'\n")), model="mine:make")
    assert SourceSpec("mine:make", MODEL_SOURCES[-1], Path.cwd(), trusted=True) == config.model


@pytest.mark.parametrize("text", ["", "1", "1,2,3", "a,b", "0.5,0", "0.5/0.5,1", "0.5,-1", "nan,1", "1,inf"])
def test_parse_normalisation_refuses(text: str) -> None:
    with pytest.raises(UsageError, match="normalize must read MEAN,STD"):
        parse_normalisation(text, "--normalize")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a=" + "[" * 5000 + "]" * 5000, "not valid TOML: nested too deep"),
        ("a=" + "{a=" * 5000, "not valid TOML: nested too deep"),
        ("a" + ".a" * 8000 + "=1", "unknown section"),
        ("[model]\nlinear_head=" + "9" * 5000, "not valid TOML: Exceeds the limit"),
        ("[model]\nlinear_head=0x" + "f" * 5000, "must be a finite number, not an integer beyond 64 bits"),
        ("[train]\nlr=nan", "lr in .train. must be a finite number, not nan"),
        ("[train]\nlr=1e999", "lr in .train. must be a finite number, not inf"),
        ("[train]\nlr={a={a=1}}", "must be of type .*, not a table"),
        ("[run]\ngroup='" + "x" * 2000 + "'", "has 2,000 characters; at most 1,000"),
        ("#" * 20_000, "at most 16,384 are read"),
        (b"\xff\xfe[run]", "not valid TOML: 'utf-8' codec can't decode"),
        (b"[run]\0", "not valid TOML"),
    ],
    ids=range(12),
)
def test_a_config_made_to_harm_is_one_short_line(tmp_path: Path, text: str | bytes, problem: str) -> None:
    (tmp_path / CONFIG_NAME).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError, match=problem) as caught:
        read_config(tmp_path)
    assert len(str(caught.value)) < 400 + len(str(tmp_path))


def test_what_lies_in_the_place_of_a_config_is_said(tmp_path: Path) -> None:
    path = tmp_path / CONFIG_NAME
    makers: list[tuple[Callable[[], None], str]] = [
        (path.mkdir, "not a regular file"),
        (lambda: os.mkfifo(path), "not a regular file"),
        (lambda: path.symlink_to("/dev/zero"), "not a regular file"),
        (lambda: path.symlink_to(tmp_path / "absent"), "there is no such file"),
    ]
    for make, problem in makers:
        make()
        assert nearest_config(tmp_path / "a.pt") == tmp_path
        with pytest.raises(UsageError, match=problem):
            read_config(tmp_path)
        path.rmdir() if path.is_dir() else path.unlink()
