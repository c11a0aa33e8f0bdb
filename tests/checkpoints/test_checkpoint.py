"""Checkpoints as people have them: what is found, under which wrapper, with which notes."""

import hashlib
import json
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from ncscan.checkpoints import Checkpoint, find, load, unused_words
from ncscan.errors import CheckpointError
from ncscan.pickles import DTYPES


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))


STATE = network().state_dict()


def saved(path: Path, content: object) -> Checkpoint:
    torch.save(content, path)
    return load(path)


def stepped(optimizer: torch.optim.Optimizer, times: int = 3) -> torch.optim.Optimizer:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    for _ in range(times):
        optimizer.step()
    return optimizer


@pytest.mark.parametrize(
    ("wrapper", "content"),
    [
        ("", STATE),
        ("", dict(STATE)),
        ("", {**STATE, "epoch": 3}),
        ("state_dict", {"state_dict": STATE, "epoch": 3}),
        ("model", {"model": STATE, "optimizer": {"state": {}, "param_groups": []}}),
        ("model_state_dict", {"model_state_dict": STATE, "loss": torch.tensor(0.5)}),
        ("net", {"net": STATE, "best_acc": 93.1, "epoch": 3}),
        ("module", {"module": STATE, "ds_config": {}}),
        ("model", {"model_ema": STATE, "model": STATE, "args": {"lr": 0.1}}),
        ("state_dict", {"state_dict_ema": STATE, "state_dict": STATE}),
        ("state_dict_ema", {"state_dict_ema": STATE, "epoch": 1}),
        ("model.state_dict", {"model": {"state_dict": STATE, "name": "resnet"}}),
        ("encoder", {"encoder": STATE, "optim": {"a": torch.zeros(3)}}),
        ("state_dict", {"state_dict": OrderedDict(STATE), "mean": torch.zeros(3)}),
    ],
)
def test_tensors_are_found_when_wrapped(wrapper: str, content: object, tmp_path: Path) -> None:
    checkpoint = saved(tmp_path / "x.pt", content)
    assert wrapper == checkpoint.wrapper
    assert len(STATE) == len(checkpoint.tensors)
    for expected, (name, tensor) in zip(STATE.values(), checkpoint.tensors.items(), strict=True):
        assert torch.equal(expected, tensor), name


def test_passed_over_states_are_named_when_there_are_several(tmp_path: Path) -> None:
    checkpoint = saved(tmp_path / "x.pt", {"model_ema": STATE, "model": STATE, "state_dict": STATE})
    assert checkpoint.wrapper == "state_dict"
    assert checkpoint.notes == {"other_states": "model_ema, model"}


def test_states_under_unusual_names_are_parts_of_one_network(tmp_path: Path) -> None:
    checkpoint = saved(tmp_path / "x.pt", {"backbone": STATE, "head": {"weight": torch.ones(2, 2)}, "epoch": 3})
    assert "backbone + head" == checkpoint.wrapper
    assert [*(f"backbone.{name}" for name in STATE), "head.weight"] == list(checkpoint.tensors)


def test_an_optimizer_alone_is_refused_as_a_model(tmp_path: Path) -> None:
    optimizer = stepped(torch.optim.Adam(network().parameters()))
    with pytest.raises(
        CheckpointError, match="holds no tensors of a model \\(it has: a dict of 'state', 'param_groups'\\)"
    ):
        saved(tmp_path / "x.pt", optimizer.state_dict())


def test_facts_are_of_the_bytes_when_loaded(tmp_path: Path) -> None:
    path = tmp_path / "resnet18_epoch-007.pth"
    checkpoint = saved(path, STATE)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == checkpoint.sha256
    assert path.stat().st_size == checkpoint.n_bytes
    assert (checkpoint.format, checkpoint.path) == ("torch-zip", path)
    assert (None, 7, 7) == (checkpoint.step, checkpoint.epoch, checkpoint.file_number)


def test_digest_of_tensors_is_one_when_files_differ(tmp_path: Path) -> None:
    plain = saved(tmp_path / "a.pt", STATE)
    wrapped = saved(tmp_path / "b.pt", {"model": dict(reversed(STATE.items())), "epoch": 1})
    safetensors.torch.save_file(STATE, tmp_path / "c.safetensors")
    other = load(tmp_path / "c.safetensors")
    assert plain.tensors_sha256 == wrapped.tensors_sha256 == other.tensors_sha256
    assert len({plain.sha256, wrapped.sha256, other.sha256}) == 3


@pytest.mark.parametrize(
    "changed",
    [
        {**STATE, "0.bias": STATE["0.bias"] + 1e-6},
        {**STATE, "0.bias": STATE["0.bias"].half()},
        {**STATE, "0.weight": STATE["0.weight"].reshape(4, 3)},
        {("0.bios" if name == "0.bias" else name): tensor for name, tensor in STATE.items()},
        {name: tensor for name, tensor in STATE.items() if name != "0.bias"},
    ],
)
def test_digest_of_tensors_differs_when_anything_does(changed: dict[str, torch.Tensor], tmp_path: Path) -> None:
    assert saved(tmp_path / "a.pt", STATE).tensors_sha256 != saved(tmp_path / "b.pt", changed).tensors_sha256


@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.float16, torch.float64, torch.float8_e4m3fn, torch.int8, torch.bool]
)
def test_types_stay_as_stored(dtype: torch.dtype, tmp_path: Path) -> None:
    values = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).to(dtype)
    zipped = saved(tmp_path / "a.pt", {"w": values})
    safetensors.torch.save_file({"w": values}, tmp_path / "b.safetensors")
    other = load(tmp_path / "b.safetensors")
    assert dtype == zipped.tensors["w"].dtype == other.tensors["w"].dtype
    assert zipped.tensors_sha256 == other.tensors_sha256


def same_as_torch(path: Path) -> None:
    """Every tensor is the one that torch makes of the file: type, shape, strides, bits, and what it shares."""
    theirs, ours = torch.load(path, weights_only=False), load(path).tensors
    assert list(theirs) == list(ours)
    for name, expected in theirs.items():
        facts = [
            (t.dtype, t.shape, t.stride(), t.storage_offset(), t.is_conj(), t.is_neg(), bytes(t.untyped_storage()))
            for t in (expected.detach(), ours[name])
        ]
        assert facts[0] == facts[1], name
    ties = [{tensor.untyped_storage().data_ptr() for tensor in tensors.values()} for tensors in (theirs, ours)]
    assert len(ties[0]) == len(ties[1])


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_tensors_are_those_that_torch_loads_when_the_pickle_is_of_any_protocol(protocol: int, tmp_path: Path) -> None:
    base, parameter = torch.randn(6, 8), nn.Parameter(torch.randn(3))
    tagged = torch.randn(2)
    tagged.tag = {"a": 1}  # type: ignore[attr-defined]
    state = {"base": base, "tied": base, "rows": base[1:3], "turned": base.t(), "sparse": base[::2, 1::3]}
    state |= {"learnt": parameter, "fixed": nn.Parameter(torch.ones(2), requires_grad=False), "tagged": tagged}
    state |= {"zero-dimensional": torch.tensor(3.0), "buffer": nn.Buffer(torch.ones(2)), "empty": torch.ones(0, 3)}
    torch.save(state, tmp_path / "a.pt", pickle_protocol=protocol)
    same_as_torch(tmp_path / "a.pt")


@pytest.mark.parametrize("name", DTYPES)
def test_tensors_are_those_that_torch_loads_when_they_are_of_any_type(name: str, tmp_path: Path) -> None:
    bits = torch.randint(0, 2 if name == "bool" else 255, (16 * 6,), dtype=torch.uint8)
    values = bits.view(getattr(torch, name))
    torch.save({"all": values, "part": values[3:]}, tmp_path / "a.pt")
    same_as_torch(tmp_path / "a.pt")


def test_lazy_conjugates_are_kept(tmp_path: Path) -> None:
    torch.save({"conjugate": torch.randn(3, dtype=torch.complex64).conj()}, tmp_path / "a.pt")
    torch.save({"negative": torch.randn(3, dtype=torch.complex64).conj().imag}, tmp_path / "b.pt")
    for name in ("a.pt", "b.pt"):
        same_as_torch(tmp_path / name)


@pytest.mark.parametrize("order", [b"little", b"big"])
def test_bytes_of_another_order_are_turned(order: bytes, tmp_path: Path) -> None:
    state = {"w": torch.randn(5), "h": torch.ones(3).half(), "z": torch.randn(2, dtype=torch.complex64)}
    torch.save({**state, "b": torch.tensor([True]), "i": torch.arange(3)}, tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as old, zipfile.ZipFile(tmp_path / "b.pt", "w") as new:
        for name in old.namelist():
            new.writestr(name, order if name.endswith("/byteorder") else old.read(name))
    same_as_torch(tmp_path / "b.pt")


def test_a_file_without_checksums_is_read(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(compute_crc32=False)
    try:
        torch.save({"w": torch.randn(5)}, tmp_path / "a.pt")
    finally:
        torch.serialization.set_crc32_options(compute_crc32=True)
    same_as_torch(tmp_path / "a.pt")


def test_a_changed_weight_is_noticed(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(50)}, tmp_path / "a.pt")
    data = (tmp_path / "a.pt").read_bytes()
    ones = torch.ones(50).numpy().tobytes()
    (tmp_path / "a.pt").write_bytes(data.replace(ones, ones[:-4] + b"abcd"))
    with pytest.raises(CheckpointError, match="'a/data/0' does not have its checksum"):
        load(tmp_path / "a.pt")


def test_keys_that_are_pairs_of_text_load_however_many(tmp_path: Path) -> None:
    """As the merges of a tokenizer."""
    path = tmp_path / "a.pt"
    torch.save({"merges": {(f"a{n}", "b"): n for n in range(20_000)}, "state_dict": {"w": torch.ones(2)}}, path)
    assert ["w"] == list(load(path).tensors)


@pytest.mark.parametrize(("kind", "n_bytes"), [("F4", 16), ("F6_E2M3", 24), ("F8_E8M0", 32)])
def test_numbers_that_no_tensor_can_hold_are_named(kind: str, n_bytes: int, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    header = json.dumps({"head.w": {"dtype": kind, "shape": [4, 8], "data_offsets": [0, n_bytes]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(n_bytes))
    with pytest.raises(CheckpointError, match=f"a.safetensors: 'head.w' has numbers of the type {kind}, which"):
        load(path)


def test_order_is_the_files_when_safetensors_shuffles(tmp_path: Path) -> None:
    tensors = {f"{i}.weight": torch.zeros(2) for i in range(9)}
    safetensors.torch.save_file(tensors, tmp_path / "a.safetensors", {"epoch": "3", "lr": "1e-3", "who": "nobody"})
    first = load(tmp_path / "a.safetensors")
    assert list(tensors) == list(first.tensors)
    assert {"epoch": 3, "lr": 0.001, "who": "nobody"} == first.notes
    assert first.epoch == 3


def test_parameters_become_plain_tensors(tmp_path: Path) -> None:
    checkpoint = saved(tmp_path / "a.pt", {"state_dict": dict(network().named_parameters())})
    assert all(type(tensor) is torch.Tensor and not tensor.requires_grad for tensor in checkpoint.tensors.values())


def test_notes_are_flat_and_plain(tmp_path: Path) -> None:
    content = {
        "state_dict": STATE,
        "global_step": 120,
        "epoch": 3,
        "best_acc": torch.tensor(0.5),
        "done": True,
        "nothing": None,
        "hyper_parameters": {"lr": 0.1, "widths": [64, 32], "deep": {"er": "x"}, 7: "seven"},
        "history": list(range(100)),
        "huge": 2**100,
        "text": "a" * 5000,
        "bell": "a\a\ud800",
        "vector": torch.zeros(4),
        "model_ema": STATE,
    }
    notes = dict(saved(tmp_path / "x.pt", content).notes)
    text = str(notes.pop("text"))
    assert (len(text), text[-1]) == (1000, "…")
    assert notes == {
        "global_step": 120,
        "epoch": 3,
        "best_acc": 0.5,
        "done": True,
        "hyper_parameters.lr": 0.1,
        "hyper_parameters.widths.0": 64,
        "hyper_parameters.widths.1": 32,
        "hyper_parameters.deep.er": "x",
        "hyper_parameters.7": "seven",
        "bell": "a\ufffd\ufffd",
        "other_states": "model_ema",
    }


def test_notes_are_at_most_a_thousand_with_the_shallow_first(tmp_path: Path) -> None:
    content = {"config": {f"k{i}": i for i in range(5000)}, "model": STATE, "epoch": 3}
    checkpoint = saved(tmp_path / "x.pt", content)
    assert len(checkpoint.notes) == 1000
    assert checkpoint.epoch == 3


def test_optimizer_tells_its_settings_when_groups_agree(tmp_path: Path) -> None:
    model = network()
    optimizer = torch.optim.SGD([{"params": [p]} for p in model.parameters()], lr=0.1, momentum=0.9, weight_decay=5e-4)
    notes = saved(tmp_path / "x.pt", {"model": STATE, "optimizer": stepped(optimizer).state_dict(), "lr": 7.0}).notes
    assert {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "dampening": 0, "nesterov": False} == notes


def test_optimizer_groups_keep_their_own_when_they_differ(tmp_path: Path) -> None:
    model = network()
    groups: list[dict[str, object]] = [
        {"params": model[0].parameters(), "weight_decay": 0.1},
        {"params": model[2].parameters()},
    ]
    optimizer = stepped(torch.optim.AdamW(groups, lr=0.1, weight_decay=0.0), times=5)
    checkpoint = saved(tmp_path / "x.pt", {"state_dict": STATE, "optimizer_states": [optimizer.state_dict()]})
    notes = checkpoint.notes
    assert (0.1, 0.0) == (notes["optimizer.0.weight_decay"], notes["optimizer.1.weight_decay"])
    assert "weight_decay" not in notes
    assert (0.1, 0.9, 0.999) == (notes["lr"], notes["betas.0"], notes["betas.1"])
    assert (5, 5) == (notes["step"], checkpoint.step)


def test_a_noted_step_wins_over_adams_count(tmp_path: Path) -> None:
    optimizer = stepped(torch.optim.Adam(network().parameters()))
    checkpoint = saved(tmp_path / "step_9.pt", {"model": STATE, "iteration": 77, "optimizer": optimizer.state_dict()})
    assert checkpoint.step == 77


@pytest.mark.parametrize(
    ("name", "step", "epoch", "number"),
    [
        ("step_000100.pt", 100, None, 100),
        ("iter-100.pt", 100, None, 100),
        ("epoch_010.pth", None, 10, 10),
        ("resnet_ep10.pth", None, 10, 10),
        ("epoch=3-step=1200.ckpt", 1200, 3, 1200),
        ("global_step7/model.bin", 7, None, 7),
        ("step1000/model2.bin", 1000, None, 2),
        ("checkpoint-500.pt", None, None, 500),
        ("stepanov-3.pt", None, None, None),
        ("deep12.pt", None, None, None),
        ("checkpoint-500/pytorch_model.bin", None, None, 500),
        ("iter_0005000/mp_rank_00/model_optim_rng.pt", 5000, None, 5000),
        ("2024-05-01_12-30_resnet18_fp16_ep3_acc97.pt", None, 3, 3),
        ("last.pt", None, None, None),
        ("step_99999999999999999999.pt", None, None, None),
    ],
)
def test_steps_are_read_from_names_when_there_are_no_notes(
    name: str, step: int | None, epoch: int | None, number: int | None, tmp_path: Path
) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
    checkpoint = saved(tmp_path / name, STATE)
    assert (step, epoch, number) == (checkpoint.step, checkpoint.epoch, checkpoint.file_number)


@pytest.mark.parametrize("note", [True, -1, 2.5, float("nan"), "soon", 2**70])
def test_a_note_that_counts_nothing_is_no_step(note: object, tmp_path: Path) -> None:
    assert saved(tmp_path / "step_4.pt", {"model": STATE, "step": note}).step == 4


def test_a_folder_is_walked_in_numeric_order(tmp_path: Path) -> None:
    names = ["ep2.pt", "ep10.pth", "run/step_9.ckpt", "run/step_10.safetensors", "run/step_100.bin"]
    others = ["notes.txt", ".hidden.pt", ".git/x.pt", "ep3.pt.partial", "run/optimizer.pt", "run/rng_state_0.pth"]
    for name in (*reversed(names), *others):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        torch.save(STATE, tmp_path / name)
    (tmp_path / "notes.txt").write_text("lr 0.1")
    (tmp_path / "last.pt").symlink_to(tmp_path / "ep10.pth")
    found = find(tmp_path)
    assert names == [file.relative_to(tmp_path).as_posix() for file in found.files]
    assert unused_words(found.unused, tmp_path) == "2 states of a trainer (run/optimizer.pt, …), 1 texts (notes.txt)"


def test_a_file_named_directly_may_have_any_ending(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "weights.model")
    assert find(tmp_path / "weights.model").files == [tmp_path / "weights.model"]


def test_links_inside_a_folder_are_followed_when_only_they_have_the_ending(tmp_path: Path) -> None:
    (tmp_path / "blob").touch()
    (tmp_path / "model.bin").symlink_to(tmp_path / "blob")
    assert find(tmp_path).files == [tmp_path / "model.bin"]


@pytest.mark.parametrize(
    ("place", "problem"),
    [
        ("absent", "no such file or folder"),
        ("empty", "is empty"),
        ("other", "among the 2 files of this folder: 2 empty files"),
    ],
)
def test_find_says_what_is_missing(place: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.txt").touch()
    (tmp_path / "other" / "b.h5").touch()
    with pytest.raises(CheckpointError, match=problem):
        find(tmp_path / place)


def test_a_shard_is_not_taken_for_a_model(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="one shard of several"):
        saved(tmp_path / "model-00001-of-00002.safetensors", STATE)


def test_load_says_when_there_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no such file"):
        load(tmp_path / "absent.pt")
