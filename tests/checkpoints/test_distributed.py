"""Folders of torch.distributed.checkpoint: put together of their pieces, without unpickling; or refused."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint.state_dict_saver as dcp
from torch import nn
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)

from ncscan.checkpoints import StateChoice, load
from ncscan.errors import CheckpointError

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))


def same(expected: dict[str, torch.Tensor], path: Path, choice: StateChoice = StateChoice()) -> None:
    found = load(path, choice)
    assert list(expected) == list(found.tensors)
    assert all(torch.equal(expected[name], tensor) for name, tensor in found.tensors.items())


def test_what_torch_saves_is_read(tmp_path: Path) -> None:
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(5, 4)).sum().backward()
    optimizer.step()
    content = {"model": model.state_dict(), "optim": optimizer.state_dict(), "step": 7, "args": {"lr": 0.5, "tag": "x"}}
    dcp.save(content, checkpoint_id=tmp_path / "ckpt_3")
    same(model.state_dict(), tmp_path / "ckpt_3")
    checkpoint = load(tmp_path / "ckpt_3")
    assert ("distributed", "model", 7, 3) == (
        checkpoint.format,
        checkpoint.wrapper,
        checkpoint.step,
        checkpoint.file_number,
    )
    assert (0.5, "x", 0.001) == tuple(
        checkpoint.notes[name] for name in ("args.lr", "args.tag", "optim.param_groups.0.lr")
    )
    assert load(tmp_path / "ckpt_3").sha256 == checkpoint.sha256


@pytest.mark.parametrize("wrapper", [(), ("app", "model"), ("encoder",)])
def test_states_are_found_under_their_keys(wrapper: tuple[str, ...], tmp_path: Path) -> None:
    content: dict[str, Any] = network().state_dict()
    for key in reversed(wrapper):
        content = {key: content}
    dcp.save(content, checkpoint_id=tmp_path / "x")
    assert ".".join(wrapper) == load(tmp_path / "x").wrapper
    same(network().state_dict(), tmp_path / "x")


def test_one_of_two_states_is_taken(tmp_path: Path) -> None:
    other = {name: tensor + 1 for name, tensor in network().state_dict().items()}
    dcp.save({"model": network().state_dict(), "model_ema": other}, checkpoint_id=tmp_path / "x")
    same(network().state_dict(), tmp_path / "x")
    same(other, tmp_path / "x", StateChoice(weights="ema"))
    assert "model_ema" == load(tmp_path / "x").notes["other_states"]


WHOLE = torch.arange(20.0).reshape(4, 5)
BOXES = (((0, 0), (2, 3)), ((0, 3), (2, 2)), ((2, 0), (2, 5)))
"""Places and sizes of three pieces."""


def pieces(folder: Path, change: Callable[[Metadata], Metadata] = lambda metadata: metadata) -> Path:
    """A folder as two processes leave it: a tensor in three pieces, in two files."""
    folder.mkdir(exist_ok=True)
    stored: dict[MetadataIndex, _StorageInfo] = {}
    for number, (place, size) in enumerate(BOXES):
        name = f"__{number % 2}_0.distcp"
        box = tuple(slice(at, at + n) for at, n in zip(place, size, strict=True))
        with (folder / name).open("ab") as file:
            start = file.tell()
            torch.save(WHOLE[box].clone(), file)
            stored[MetadataIndex("w", place)] = _StorageInfo(name, start, file.tell() - start)
    entry = TensorStorageMetadata(
        TensorProperties(torch.float32),
        torch.Size(WHOLE.shape),
        [ChunkStorageMetadata(torch.Size(place), torch.Size(size)) for place, size in BOXES],
    )
    metadata = change(Metadata({"w": entry}, None, stored))
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))
    return folder


def with_info(**changes: object) -> Callable[[Metadata], Metadata]:
    """Change where the second piece lies."""

    def change(metadata: Metadata) -> Metadata:
        stored = dict(metadata.storage_data)
        index = list(stored)[1]
        return replace(metadata, storage_data={**stored, index: replace(stored[index], **changes)})

    return change


def with_entry(
    size: tuple[int, ...], boxes: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]
) -> Callable[[Metadata], Metadata]:
    """Change the shape of the tensor and its pieces."""

    def change(metadata: Metadata) -> Metadata:
        chunks = [ChunkStorageMetadata(torch.Size(place), torch.Size(n)) for place, n in boxes]
        entry = TensorStorageMetadata(TensorProperties(torch.float32), torch.Size(size), chunks)
        return replace(metadata, state_dict_metadata={"w": entry})

    return change


class Harm:
    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.system, ("touch harmed",)


def test_pieces_are_put_together(tmp_path: Path) -> None:
    same({"w": WHOLE}, pieces(tmp_path / "x"))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (with_info(relative_path="__7_0.distcp"), "lacks '__7_0.distcp', which its metadata names"),
        (with_info(relative_path="../secret.distcp"), "names '../secret.distcp', which is no file beside"),
        (with_info(relative_path="/etc/passwd"), "names '/etc/passwd', which is no file beside"),
        (with_info(relative_path="link.distcp"), "names 'link.distcp', a link out of the folder"),
        (with_info(offset=1_000_000), "names bytes beyond the end of '__1_0.distcp'"),
        (with_info(offset=-5), "names bytes beyond the end"),
        (with_info(offset=3, length=500), "does not begin like a zip archive"),
        (with_info(length=10**15), "more than there are; was it cut off?"),
        (with_info(length=15), "is larger than its bytes"),
        (with_info(length="much"), "does not say where a tensor lies"),
        (with_info(transform_descriptors=["zstd"]), "was written by extensions"),
        (with_entry((4, 5), BOXES[:2]), "has 10 of the 20 elements of 'w' (4×5)"),
        (with_entry((4, 5), (*BOXES, BOXES[0])), ""),
        (with_entry((10**9, 10**9), BOXES), "has 20 of the 1,000,000,000,000,000,000 elements"),
        (with_entry((4, 4), BOXES), "lies outside of it"),
        (with_entry((20,), BOXES), "of other dimensions"),
        (with_entry((4, 5), (((0, 0), (2, 3)), ((0, 3), (2, 2)), ((2, 0), (2, 4)))), "has 18 of the 20 elements"),
        (with_entry((402, 5), (((0, 0), (2, 3)), ((0, 3), (2, 2)), ((2, 0), (400, 5)))), "is larger than its bytes"),
        (with_entry((4, 5), (*BOXES[:2], ((1, 0), (2, 5)))), "does not say where 'w' lies"),
        (lambda metadata: replace(metadata, storage_data=None), "does not say where its tensors lie"),
        (lambda metadata: replace(metadata, state_dict_metadata={3: BytesStorageMetadata()}), "has no name"),
        (lambda metadata: replace(metadata, planner_data=Harm()), "made to harm"),
        (lambda _: {"w": 3}, "holds no metadata"),
    ],
)
def test_metadata_that_do_not_fit_are_refused(
    change: Callable[[Metadata], Metadata], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.distcp").write_bytes(b"PK")
    folder = pieces(tmp_path / "x", change)
    (folder / "link.distcp").symlink_to(tmp_path / "secret.distcp")
    if not problem:
        same({"w": WHOLE}, folder)
        return
    with pytest.raises(CheckpointError) as caught:
        load(folder)
    assert str(caught.value).startswith(f"{folder}: ")
    assert problem in str(caught.value)
    assert not (tmp_path / "harmed").exists()


def test_pieces_in_one_place_are_refused(tmp_path: Path) -> None:
    """Together they are as many elements as there should be."""

    def overlap(metadata: Metadata) -> Metadata:
        stored = {**metadata.storage_data}
        last = list(stored)[2]
        stored[MetadataIndex("w", (1, 0))] = stored.pop(last)
        return replace(with_entry((4, 5), (*BOXES[:2], ((1, 0), (2, 5))))(metadata), storage_data=stored)

    with pytest.raises(CheckpointError, match="has two pieces of 'w' in one place"):
        load(pieces(tmp_path / "x", overlap))


def test_a_piece_of_another_type_is_refused(tmp_path: Path) -> None:
    folder = pieces(tmp_path / "x")

    def retyped(metadata: Metadata) -> Metadata:
        entry = metadata.state_dict_metadata["w"]
        assert isinstance(entry, TensorStorageMetadata)
        return replace(metadata, state_dict_metadata={"w": replace(entry, properties=TensorProperties(torch.int32))})

    with pytest.raises(CheckpointError, match="of another shape or type than its metadata says"):
        load(pieces(folder, retyped))


def test_what_belongs_to_the_optimizer_is_not_read(tmp_path: Path) -> None:
    content = {"model": {"w": torch.ones(2)}, "optimizer": {"state": {"w": torch.ones(100_000)}}}
    dcp.save(content, checkpoint_id=tmp_path / "x")
    assert load(tmp_path / "x").n_bytes < 20_000


def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    folder = pieces(tmp_path / "x")
    for name in (".metadata", "__0_0.distcp"):
        whole = (folder / name).read_bytes()
        for length in range(1, len(whole), 97):
            (folder / name).write_bytes(whole[:length])
            with pytest.raises(CheckpointError):
                load(folder)
        (folder / name).write_bytes(whole)
    same({"w": WHOLE}, folder)
