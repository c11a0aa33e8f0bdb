"""Archives of TorchScript and torch.export: the weights by the names of the module, and nothing of the program."""

import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ncscan.checkpoints import load
from ncscan.errors import CheckpointError

pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.scale = nn.Parameter(torch.randn(3))
        self.register_buffer("table", torch.arange(3.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x) * self.scale + self.table  # type: ignore[no-any-return]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), Inner(), nn.Sequential(nn.Linear(3, 2))).eval()


def same(path: Path) -> None:
    expected, found = network().state_dict(), load(path).tensors
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], tensor) for name, tensor in found.items())
    assert all(expected[name].dtype == tensor.dtype for name, tensor in found.items())


def traced(model: nn.Module) -> torch.jit.ScriptModule:
    return torch.jit.trace(model, torch.zeros(2, 4))  # type: ignore[no-any-return, no-untyped-call]


def exported(path: Path) -> Path:
    torch.export.save(torch.export.export(network(), (torch.zeros(2, 4),)), path)
    return path


def rewritten(path: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """The same archive with other members; None leaves one out."""
    with zipfile.ZipFile(path) as archive:
        members = {name: change(name, archive.read(name)) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            if content is not None:
                archive.writestr(name, content)
    return path


@pytest.mark.parametrize("compiled", [torch.jit.script, traced])
def test_weights_of_torchscript_are_those_of_the_module(
    compiled: Callable[[nn.Module], torch.jit.ScriptModule], tmp_path: Path
) -> None:
    torch.jit.save(compiled(network()), tmp_path / "x.pt")
    same(tmp_path / "x.pt")


def test_weights_of_an_export_are_those_of_the_module(tmp_path: Path) -> None:
    same(exported(tmp_path / "x.pt2"))


def test_weights_of_the_first_exports_are_read(tmp_path: Path) -> None:
    """torch 2.2 to 2.6 put a torch.save file into an archive."""
    buffer = io.BytesIO()
    torch.save(network().state_dict(), buffer)
    with zipfile.ZipFile(tmp_path / "x.pt2", "w") as archive:
        archive.writestr("serialized_exported_program.json", "{}")
        archive.writestr("serialized_state_dict.pt", buffer.getvalue())
        archive.writestr("serialized_constants.pt", b"")
        archive.writestr("version", "8.1")
    same(tmp_path / "x.pt2")


def test_weights_of_an_export_that_lie_in_one_file_are_read(tmp_path: Path) -> None:
    """torch 2.7 and 2.8 put them all into one torch.save file."""
    buffer = io.BytesIO()
    torch.save(network().state_dict(), buffer)
    with zipfile.ZipFile(tmp_path / "x.pt2", "w") as archive:
        for name, content in (("archive_format", b"pt2"), ("byteorder", b"little"), ("models/model.json", b"{}")):
            archive.writestr(f"x/{name}", content)
        archive.writestr("x/data/weights/model.pt", buffer.getvalue())
    same(tmp_path / "x.pt2")


def of_table(change: Callable[[dict[str, dict[str, Any]]], object]) -> Callable[[str, bytes], bytes]:
    def changed(name: str, content: bytes) -> bytes:
        if not name.endswith("weights_config.json"):
            return content
        table = json.loads(content)
        change(table["config"])
        return json.dumps(table).encode()

    return changed


def sizes(*numbers: object) -> list[dict[str, object]]:
    return [{"as_int": number} for number in numbers]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            of_table(lambda rows: rows["0.bias"]["tensor_meta"].update(sizes=sizes(10**6))),
            "reaches beyond the 12 bytes",
        ),
        (
            of_table(lambda rows: rows["0.bias"]["tensor_meta"].update(sizes=sizes(10**9), strides=sizes(0))),
            "shows 4,000,000,000 bytes",
        ),
        (
            of_table(lambda rows: rows["0.bias"]["tensor_meta"].update(sizes=sizes(-1))),
            "damaged table of weights (at '0.bias')",
        ),
        (
            of_table(lambda rows: rows["0.bias"]["tensor_meta"].update(strides=[])),
            "damaged table of weights (at '0.bias')",
        ),
        (
            of_table(lambda rows: rows["0.bias"]["tensor_meta"].update(dtype=99)),
            "damaged table of weights (at '0.bias')",
        ),
        (
            of_table(lambda rows: rows["0.bias"].update(path_name="../../version")),
            "damaged table of weights (at '0.bias')",
        ),
        (of_table(lambda rows: rows["0.bias"].update(path_name=None)), "damaged table of weights (at '0.bias')"),
        (of_table(lambda rows: rows["0.bias"].update(use_pickle=True)), "does not begin like a zip archive"),
        (of_table(lambda rows: rows.clear()), "holds no tensors of a model (it has: an empty table of weights)"),
        (lambda name, content: None if "/weights/" in name else content, "a compiled program and no weights"),
        (lambda name, content: b"[]" if "weights_config" in name else content, "has a damaged table of weights"),
        (lambda name, content: b"middle" if name.endswith("byteorder") else content, "has bytes in an unknown order"),
    ],
)
def test_a_table_of_weights_that_does_not_fit_is_refused(
    change: Callable[[str, bytes], bytes | None], problem: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=re.escape(problem)):
        load(rewritten(exported(tmp_path / "x.pt2"), change))


def test_a_program_of_functions_alone_holds_no_weights(tmp_path: Path) -> None:
    def change(name: str, content: bytes) -> bytes:
        return b"\x80\x02}." if name.endswith("data.pkl") else content

    torch.jit.save(torch.jit.script(network()), tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="a TorchScript program that is no module"):
        load(rewritten(tmp_path / "x.pt", change))
