"""What is found in a folder: told by bytes, whatever the names are, and nothing left out in silence."""

import json
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.distributed.checkpoint.state_dict_saver as dcp
from workspaces import fitted, make_workspace, ncscan, save

from ncscan.checkpoints import find, load, unused_words
from ncscan.errors import CheckpointError

STATE = {"w": torch.ones(2, 2)}


def found(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in find(folder).files]


def left_out(folder: Path) -> dict[str, list[str]]:
    kinds: dict[str, list[str]] = {}
    for kind, path in find(folder).unused:
        kinds.setdefault(kind, []).append(path.relative_to(folder).as_posix())
    return {kind: sorted(names) for kind, names in kinds.items()}


@pytest.mark.parametrize(
    "name", ["a.pth.tar", "a.th", "a.t7", "a.model", "a.weights", "a.pkl", "a", "a.2024-01-01", "a.txt", "last.ckpt"]
)
@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_is_found_whatever_its_ending(name: str, zipped: bool, tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / name, _use_new_zipfile_serialization=zipped)
    assert [name] == found(tmp_path)


def test_safetensors_and_archives_of_torch_are_found_by_their_bytes(tmp_path: Path) -> None:
    safetensors.torch.save_file(STATE, tmp_path / "a.blob")
    program = torch.export.export(torch.nn.Linear(2, 2), (torch.zeros(1, 2),))
    torch.export.save(program, tmp_path / "b.pt2")
    (tmp_path / "b.pt2").rename(tmp_path / "b")
    with (tmp_path / "c").open("wb") as file:
        pickle.dump({"w": np.ones((2, 2))}, file)
    assert ["a.blob", "b", "c"] == found(tmp_path)


def test_what_is_no_checkpoint_is_told_by_kind(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "model.pt")
    np.save(tmp_path / "x.npy", np.ones(3))
    np.savez(tmp_path / "x.npz", a=np.ones(3))
    with zipfile.ZipFile(tmp_path / "code.zip", "w") as archive:
        archive.writestr("train.py", "print(1)")
    contents = {
        "dump.h5": b"\x89HDF\r\n\x1a\n",
        "plot.png": b"\x89PNG\r\n",
        "plot.svg": b"<?xml version='1.0'?>\n<svg>",
        "train.log": b"loss 0.1",
        "events.out.tfevents.1": b"\x18\0\0\0\0\0\0\0\xa3",
        "metrics.csv": b"a,b\n",
        "config.json": b"{}",
        "train.py": b"import torch",
        "vocab.bin": b"\x01\x02\x03\x00",
        "README": b"hello",
        "nothing": b"",
        "labels.pkl": pickle.dumps(["cat", "dog"]),
        "model.onnx": b"\x08\x07",
        "half.tmp": b"\xff",
        "ncscan.toml": b"",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    assert ["model.pt"] == [path.name for path in find(tmp_path, ("ncscan.toml",)).files]
    assert left_out(tmp_path) == {
        "HDF5 files": ["dump.h5"],
        "NumPy arrays": ["x.npy", "x.npz"],
        "empty files": ["nothing"],
        "files of no known kind": ["vocab.bin"],
        "images": ["plot.png", "plot.svg"],
        "models of other libraries": ["model.onnx"],
        "packed files": ["code.zip"],
        "pickles without tensors": ["labels.pkl"],
        "scripts": ["train.py"],
        "settings": ["config.json", "ncscan.toml"],
        "tables": ["metrics.csv"],
        "texts": ["README"],
        "training logs": ["events.out.tfevents.1", "train.log"],
        "unfinished files": ["half.tmp"],
    }


@pytest.mark.parametrize(
    "name",
    [
        *("optimizer.pt", "optimizer.bin", "scheduler.pt", "scaler.pt", "rng_state.pth", "rng_state_3.pth"),
        *("random_states_0.pkl", "training_args.bin", "sampler.bin", "sampler_1.bin", "custom_checkpoint_0.pkl"),
        *("zero_pp_rank_0_mp_rank_00_optim_states.pt", "bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt"),
    ],
)
def test_what_trainers_leave_is_known(name: str, tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / name)
    torch.save(STATE, tmp_path / "model.pt")
    assert ["model.pt"] == found(tmp_path)
    assert {"states of a trainer": [name]} == left_out(tmp_path)
    assert [tmp_path / name] == find(tmp_path / name).files


@pytest.mark.parametrize(
    "content", [b"", b"version https://git-lfs.github.com/spec/v1\n", b"<!DOCTYPE html>", b"\x89HDF\r\n", b"junk"]
)
@pytest.mark.parametrize("name", ["a.pt", "a.safetensors", "a.pth.tar", "pytorch_model.bin", "a.ckpt"])
def test_a_file_that_says_it_is_a_checkpoint_is_never_passed_over(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert [name] == found(tmp_path)


@pytest.mark.parametrize("length", [0x280, 0x380, 0x480, 0x580])
def test_a_header_whose_length_begins_like_a_pickle_is_one_of_safetensors(length: int, tmp_path: Path) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode().ljust(length)
    (tmp_path / "a").write_bytes(length.to_bytes(8, "little") + header + bytes(4))
    assert ["a"] == found(tmp_path)
    assert "safetensors" == load(tmp_path / "a").format


def test_a_text_is_no_safetensors_file_though_a_brace_stands_there(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"function{}")
    with pytest.raises(CheckpointError, match=r"no checkpoint among the 1 files of this folder: 1 texts \(a\)"):
        find(tmp_path)


def test_shards_are_found_by_their_index(tmp_path: Path) -> None:
    shards = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    for name in shards:
        safetensors.torch.save_file(STATE, tmp_path / name)
    (tmp_path / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": dict(zip("ab", shards, strict=True))})
    )
    (tmp_path / "other.index.json").write_text("{}")
    assert ["model.safetensors.index.json"] == found(tmp_path)
    assert {"settings": ["other.index.json"]} == left_out(tmp_path)
    with pytest.raises(
        CheckpointError, match=r"one shard of several; name their index, .*model\.safetensors\.index\.json"
    ):
        load(tmp_path / shards[1])


def test_shards_without_an_index_are_one_trouble(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "other.pt")
    for i in range(1, 4):
        safetensors.torch.save_file(STATE, tmp_path / f"model-0000{i}-of-00003.safetensors")
    listing = find(tmp_path)
    assert [tmp_path / "other.pt"] == listing.files
    (trouble,) = map(str, listing.unreadable)
    assert "(and 2 more files of the same): one shard of several; no index beside it names it" in trouble


def test_an_index_that_cannot_be_used_is_one_trouble(tmp_path: Path) -> None:
    for i in range(1, 3):
        safetensors.torch.save_file(STATE, tmp_path / f"model-0000{i}-of-00002.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"w": "../secret.safetensors"}}')
    listing = find(tmp_path)
    assert (["model.safetensors.index.json"], []) == (found(tmp_path), listing.unreadable)


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_a_distributed_checkpoint_is_one(tmp_path: Path) -> None:
    for name in ("step_10", "step_9", "step_9/optimizer_0"):
        dcp.save(dict(STATE), checkpoint_id=tmp_path / name)
    (tmp_path / "step_9" / "meta.pt").write_bytes(b"")
    (tmp_path / "lost").mkdir()
    for i in range(2):
        (tmp_path / "lost" / f"__{i}_0.distcp").write_bytes(b"PK")
    listing = find(tmp_path)
    assert ["step_9", "step_10"] == found(tmp_path)
    assert {"states of a trainer": ["step_9/optimizer_0"]} == left_out(tmp_path)
    (trouble,) = map(str, listing.unreadable)
    assert "(and 1 more files of the same): one part of a checkpoint of torch.distributed.checkpoint" in trouble
    assert [tmp_path / "step_9"] == find(tmp_path / "step_9").files == find(tmp_path / "step_9" / ".metadata").files
    with pytest.raises(CheckpointError, match=r"name the folder, .*step_9"):
        load(tmp_path / "step_9" / "__0_0.distcp")


def test_deepspeeds_files_are_told_apart(tmp_path: Path) -> None:
    layouts = {
        "plain/global_step7": ["mp_rank_00_model_states.pt", "zero_pp_rank_0_mp_rank_00_optim_states.pt"],
        "divided/global_step7": ["mp_rank_00_model_states.pt", "mp_rank_01_model_states.pt"],
        "zero3/global_step7": [
            f"zero_pp_rank_{i}_mp_rank_00_{what}_states.pt" for i in (0, 1) for what in ("model", "optim")
        ],
    }
    for folder, names in layouts.items():
        (tmp_path / folder).mkdir(parents=True)
        for name in names:
            torch.save(STATE, tmp_path / folder / name)
    listing = find(tmp_path)
    assert ["plain/global_step7/mp_rank_00_model_states.pt"] == found(tmp_path)
    assert 3 == len(left_out(tmp_path)["states of a trainer"])
    divided, zero = sorted(map(str, listing.unreadable))
    assert "(and 1 more files of the same): one of 2 parts of a model" in divided
    assert "(and 1 more files of the same): of DeepSpeed's ZeRO stage 3, whose weights lie in pieces" in zero
    with pytest.raises(CheckpointError, match="zero_to_fp32"):
        load(tmp_path / "zero3/global_step7/zero_pp_rank_0_mp_rank_00_model_states.pt")


def test_a_snapshot_of_hugging_faces_cache_reaches_its_blobs(tmp_path: Path) -> None:
    blobs = tmp_path / "models--a--b" / "blobs"
    snapshot = tmp_path / "models--a--b" / "snapshots" / "1"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    safetensors.torch.save_file(STATE, blobs / "f00")
    safetensors.torch.save_file(STATE, tmp_path / "secret")
    (snapshot / "model.safetensors").symlink_to("../../blobs/f00")
    (snapshot / "stolen.safetensors").symlink_to("../../../secret")
    (snapshot / "other").symlink_to("../../../secret")
    listing = find(snapshot)
    assert ["model.safetensors"] == found(snapshot)
    assert ["stolen.safetensors: a link out of the folder, not followed; name its target"] == [
        str(error).removeprefix(f"{snapshot}/") for error in listing.unreadable
    ]
    assert {"links out of the folder": ["other"]} == left_out(snapshot)


def test_a_file_that_cannot_be_opened_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(STATE, tmp_path / "a.pt")
    torch.save(STATE, tmp_path / "b.pt")
    torch.save(STATE, tmp_path / "c.txt")
    really = os.open

    def closed(path: Path, flags: int) -> int:
        if Path(path).name in ("b.pt", "c.txt"):
            raise PermissionError(13, "Permission denied")
        return really(path, flags)

    monkeypatch.setattr(os, "open", closed)
    listing = find(tmp_path)
    assert ["a.pt"] == [path.name for path in listing.files]
    assert ["b.pt: cannot be read (Permission denied)"] == [
        str(error).rpartition("/")[2] for error in listing.unreadable
    ]
    assert "1 files that cannot be opened (c.txt)" == unused_words(listing.unused, tmp_path)


def test_what_is_not_used_is_one_line_of_a_command(tmp_path: Path) -> None:
    make_workspace(tmp_path, 1)
    save(tmp_path / "ckpts" / "step_2.t7", fitted(2), step=2)
    (tmp_path / "data.npz").rename(tmp_path / "ckpts" / "data.npz")
    (tmp_path / "ckpts" / "other.npz").write_bytes((tmp_path / "ckpts" / "data.npz").read_bytes())
    toml = tmp_path / "ckpts" / "ncscan.toml"
    toml.write_text(toml.read_text().replace("../data.npz", "data.npz"))
    done = ncscan("extract", "ckpts", cwd=tmp_path)
    assert (0, "not used: ckpts: 1 NumPy arrays (other.npz)\n") == (done.returncode, done.stderr)
    assert "2 of 2 dumps" in done.stdout
    quiet = ncscan("extract", "ckpts", "--quiet", cwd=tmp_path)
    assert (0, "") == (quiet.returncode, quiet.stderr)
