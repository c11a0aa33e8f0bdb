"""Checkpoints of several safetensors or torch files, by the index that names them: whole, or refused by name."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from ncscan.checkpoints import load
from ncscan.errors import CheckpointError

STATE = {name: torch.randn(3, 4) for name in ("a.weight", "b.weight", "c.weight", "d.weight")}
SHARDS = (
    {name: STATE[name] for name in ("a.weight", "c.weight")},
    {name: STATE[name] for name in ("b.weight", "d.weight")},
)


def write_safetensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    safetensors.torch.save_file(dict(tensors), path)


def write(
    folder: Path,
    index: Mapping[str, object] | None = None,
    *,
    stem: str = "model",
    ending: str = ".safetensors",
    index_name: str = "model.safetensors.index.json",
    save: Callable[[Mapping[str, Tensor], Path], object] = write_safetensors,
) -> Path:
    names = [f"{stem}-0000{i}-of-00002{ending}" for i in (1, 2)]
    for name, tensors in zip(names, SHARDS, strict=True):
        save(tensors, folder / name)
    where = {tensor: name for name, tensors in zip(names, SHARDS, strict=True) for tensor in tensors}
    content = {"metadata": {"total_size": 192}, "weight_map": where if index is None else index}
    (folder / index_name).write_text(json.dumps(content))
    return folder / index_name


@pytest.mark.parametrize(
    ("stem", "ending", "index_name", "save"),
    [
        ("model", ".safetensors", "model.safetensors.index.json", write_safetensors),
        ("model.fp16", ".safetensors", "model.safetensors.index.fp16.json", write_safetensors),
        ("pytorch_model", ".bin", "pytorch_model.bin.index.json", torch.save),
    ],
)
def test_all_shards_are_read(
    stem: str, ending: str, index_name: str, save: Callable[[Mapping[str, Tensor], Path], object], tmp_path: Path
) -> None:
    path = write(tmp_path, stem=stem, ending=ending, index_name=index_name, save=save)
    checkpoint = load(path)
    assert "shards" == checkpoint.format
    assert ["a.weight", "c.weight", "b.weight", "d.weight"] == list(checkpoint.tensors)
    assert all(torch.equal(STATE[name], tensor) for name, tensor in checkpoint.tensors.items())
    shards = [(tmp_path / f"{stem}-0000{i}-of-00002{ending}").read_bytes() for i in (1, 2)]
    assert len(path.read_bytes()) + sum(map(len, shards)) == checkpoint.n_bytes
    digest = hashlib.sha256(b"".join(hashlib.sha256(shard).digest() for shard in shards)).digest()
    expected = hashlib.sha256(hashlib.sha256(path.read_bytes()).digest() + digest).hexdigest()
    assert expected == checkpoint.sha256
    torch.save(STATE, tmp_path / "whole.pt")
    assert load(tmp_path / "whole.pt").tensors_sha256 == checkpoint.tensors_sha256


FIRST, SECOND = (f"model-0000{i}-of-00002.safetensors" for i in (1, 2))


@pytest.mark.parametrize(
    ("index", "problem"),
    [
        (
            {"a.weight": FIRST, "c.weight": FIRST, "b.weight": "absent.safetensors"},
            "'absent.safetensors', which is not there",
        ),
        ({"a.weight": "../a.safetensors"}, "it names '../a.safetensors', which is no file beside it"),
        ({"a.weight": "/etc/passwd"}, "it names '/etc/passwd', which is no file beside it"),
        ({"a.weight": "x\\a.safetensors"}, "which is no file beside it"),
        ({"a.weight": ".."}, "which is no file beside it"),
        ({"a.weight": ""}, "which is no file beside it"),
        ({"a.weight": "x" * 300}, "which is no file beside it"),
        ({"a.weight": "link.safetensors"}, "'link.safetensors', a link out of its folder"),
        (
            {"a.weight": FIRST, "c.weight": FIRST, "b.weight": SECOND},
            f"{SECOND} holds d.weight, which the index does not name",
        ),
        ({"a.weight": FIRST, "c.weight": FIRST, "b.weight": SECOND, "d.weight": FIRST}, f"{FIRST} lacks d.weight"),
        (
            {"a.weight": FIRST, "b.weight": SECOND, "c.weight": SECOND, "d.weight": SECOND},
            f"{FIRST} holds c.weight too, while the index names them in '{SECOND}': two of one name",
        ),
        (
            {"a.weight": FIRST, "c.weight": FIRST, "e.weight": "twice.safetensors"},
            "twice.safetensors holds a.weight too",
        ),
        ({}, "its weight_map is no table"),
        ({"a.weight": 3}, "its weight_map is no table"),
    ],
)
def test_an_index_that_does_not_fit_its_shards_is_refused_by_name(
    index: Mapping[str, object], problem: str, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    write_safetensors({"a.weight": STATE["a.weight"]}, tmp_path / "a.safetensors")
    (folder / "link.safetensors").symlink_to(tmp_path / "a.safetensors")
    write_safetensors({"e.weight": STATE["b.weight"], "a.weight": STATE["a.weight"]}, folder / "twice.safetensors")
    with pytest.raises(CheckpointError) as caught:
        load(write(folder, index))
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"{}", "is JSON, not a checkpoint"),
        (b'{"weight_map": {"a": "b", "a": "c"}}', "comes twice"),
        (b'{"weight_map": ' + b"[" * 100_000, "nested too deep"),
        (b'{"weight_map": {"a": "b"', "an index of shards that cannot be used"),
        (b'{"weight_map": {"a": "\xff"}}', "not UTF-8"),
    ],
)
def test_json_that_is_no_index_is_refused(content: bytes, problem: str, tmp_path: Path) -> None:
    (tmp_path / "x.index.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=problem):
        load(tmp_path / "x.index.json")


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    path = write(tmp_path)
    (tmp_path / SECOND).write_bytes((tmp_path / SECOND).read_bytes()[:-4])
    with pytest.raises(CheckpointError, match=f"{SECOND}: a damaged or hostile safetensors file"):
        load(path)
    (tmp_path / SECOND).write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(CheckpointError, match=f"{SECOND}: is a Git LFS pointer"):
        load(path)


def test_shards_that_together_exceed_the_memory_are_not_read(tmp_path: Path) -> None:
    path = write(tmp_path)
    for name in (FIRST, SECOND):
        with (tmp_path / name).open("r+b") as file:
            file.truncate(2**41)
    with pytest.raises(CheckpointError, match=r"4,398,046,511,104 bytes do not fit into memory"):
        load(path)


def test_one_shard_of_one_is_a_whole(tmp_path: Path) -> None:
    write_safetensors(STATE, tmp_path / "model-00001-of-00001.safetensors")
    assert len(STATE) == len(load(tmp_path / "model-00001-of-00001.safetensors").tensors)
