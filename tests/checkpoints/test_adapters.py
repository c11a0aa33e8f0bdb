"""LoRA adapters: merged with their base by arithmetic of our own, or refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from workspaces import fitted, make_workspace, ncscan

from ncscan.checkpoints import load
from ncscan.errors import CheckpointError

BASE = {"a.weight": torch.randn(5, 3), "a.bias": torch.randn(5), "b.weight": torch.randn(2, 5)}
DOWN, UP = torch.randn(2, 3), torch.randn(5, 2)
SETTINGS = {
    "peft_type": "LORA",
    "r": 2,
    "lora_alpha": 8,
    "base_model_name_or_path": "org/net",
    "init_lora_weights": True,
}
CHANGES = {"base_model.model.a.lora_A.weight": DOWN, "base_model.model.a.lora_B.weight": UP}


def write(
    folder: Path, changes: dict[str, torch.Tensor] = CHANGES, base: dict[str, torch.Tensor] = BASE, **settings: object
) -> tuple[Path, Path]:
    folder.mkdir(exist_ok=True)
    safetensors.torch.save_file({name: t.clone() for name, t in changes.items()}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({**SETTINGS, **settings}))
    torch.save(base, folder / "base.pt")
    return folder / "adapter_model.safetensors", folder / "base.pt"


def merged(*arguments: Any, **settings: Any) -> dict[str, torch.Tensor]:
    path, base = write(*arguments, **settings)
    return dict(load(path, base=base).tensors)


@pytest.mark.parametrize(
    ("settings", "scale"),
    [
        ({}, 4.0),
        ({"use_rslora": True}, 8 / 2**0.5),
        ({"r": 3, "rank_pattern": {"a": 2}}, 4.0),
        ({"alpha_pattern": {"b": 1, "a": 3}}, 1.5),
        ({"alpha_pattern": {"^a$": 3}}, 1.5),
        ({"alpha_pattern": {".*": 3}}, 1.5),
        ({"alpha_pattern": {"ba": 3}}, 4.0),
    ],
)
def test_a_matrix_is_changed_by_its_product(settings: dict[str, Any], scale: float, tmp_path: Path) -> None:
    found = merged(tmp_path, **settings)
    expected = (BASE["a.weight"].double() + scale * UP.double() @ DOWN.double()).float()
    assert torch.equal(expected, found["a.weight"])
    assert all(torch.equal(BASE[name], found[name]) for name in ("a.bias", "b.weight"))


def test_provenance_is_of_both(tmp_path: Path) -> None:
    path, base = write(tmp_path)
    checkpoint, alone = load(path, base=base), load(base)
    assert "lora on torch-zip" == checkpoint.format
    assert ("base.pt", alone.sha256) == (checkpoint.notes["lora.base"], checkpoint.notes["lora.base_sha256"])
    digests = {checkpoint.sha256, alone.sha256}
    write(tmp_path, lora_alpha=9)
    digests.add(load(path, base=base).sha256)
    write(tmp_path, base={**BASE, "b.weight": BASE["b.weight"] + 1})
    digests.add(load(path, base=base).sha256)
    assert 4 == len(digests)
    assert alone.tensors_sha256 != checkpoint.tensors_sha256


def test_half_precision_is_not_rounded_again(tmp_path: Path) -> None:
    halves = {name: tensor.bfloat16() for name, tensor in BASE.items()}
    found = merged(tmp_path, CHANGES, halves)
    assert torch.equal((halves["a.weight"].double() + 4 * UP.double() @ DOWN.double()).float(), found["a.weight"])
    assert torch.bfloat16 == found["b.weight"].dtype


@pytest.mark.parametrize(("ours", "theirs"), [("", ""), ("bert.", ""), ("", "bert."), ("x.y.", "")])
def test_names_of_the_base_may_have_another_front(ours: str, theirs: str, tmp_path: Path) -> None:
    changes = {name.replace("model.a", f"model.{theirs}a"): tensor for name, tensor in CHANGES.items()}
    found = merged(tmp_path, changes, {ours + name: tensor for name, tensor in BASE.items()})
    assert [ours + name for name in BASE] == list(found)
    assert not torch.equal(BASE["a.weight"], found[f"{ours}a.weight"])


def test_whole_tensors_take_the_place_of_the_bases(tmp_path: Path) -> None:
    changes = {
        **CHANGES,
        "base_model.model.b.weight": torch.ones(4, 5),
        "base_model.model.a.base_layer.bias": torch.ones(5),
    }
    found = merged(tmp_path, changes)
    assert (4, 5) == found["b.weight"].shape
    assert torch.equal(torch.ones(5), found["a.bias"])


REFUSED: dict[str, tuple[dict[str, torch.Tensor], dict[str, object], str]] = {
    "dora": (
        CHANGES,
        {"use_dora": True},
        "a LoRA adapter with use_dora, which is not merged here; have it merged into org/net",
    ),
    "unknown": (CHANGES, {"some_new_way": 3}, "with some_new_way"),
    "pissa": (CHANGES, {"init_lora_weights": "pissa_niter_4"}, "init_lora_weights = 'pissa_niter_4'"),
    "ia3": ({"base_model.model.a.ia3_l": torch.ones(5, 1)}, {"peft_type": "IA3"}, "an adapter of the kind 'IA3'"),
    "magnitude": (
        {**CHANGES, "base_model.model.a.lora_magnitude_vector": torch.ones(5)},
        {},
        "holds a.lora_magnitude_vector, which is not plain LoRA",
    ),
    "rank": (CHANGES, {"r": 3}, "a has rank 2, and adapter_config.json says 3"),
    "no-alpha": (CHANGES, {"lora_alpha": None}, "r and lora_alpha must be numbers"),
    "pattern": (CHANGES, {"rank_pattern": {"(a+)+$": 2}}, "the pattern '(a+)+$' is not read"),
    "long-pattern": (CHANGES, {"rank_pattern": {".*a.*b.*c.*": 2}}, "is not read"),
    "half": ({"base_model.model.a.lora_A.weight": DOWN}, {}, "lacks lora_B of a"),
    "two": (
        {f"base_model.model.a.lora_{p}.{n}.weight": t for p, t in (("A", DOWN), ("B", UP)) for n in ("one", "two")},
        {},
        "holds two adapters of a",
    ),
    "other-base": (
        {name.replace(".a.", ".c."): tensor for name, tensor in CHANGES.items()},
        {},
        "its names do not fit those of its base",
    ),
    "other-shape": (
        {**CHANGES, "base_model.model.a.lora_A.weight": torch.ones(2, 4)},
        {},
        "does not fit its base at a: (5, 2)·(2, 4) for a weight (5, 3)",
    ),
    "turned": (CHANGES, {"fan_in_fan_out": True}, "does not fit its base at a"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_plain_lora_is_refused(name: str, tmp_path: Path) -> None:
    changes, settings, problem = REFUSED[name]
    with pytest.raises(CheckpointError) as caught:
        merged(tmp_path, changes, **settings)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_adapter_alone_is_named_as_one(tmp_path: Path) -> None:
    path, base = write(tmp_path)
    with pytest.raises(CheckpointError, match=r"a LoRA adapter, a change to org/net and not a model; .* --base"):
        load(path)
    with pytest.raises(CheckpointError, match="--base is an adapter itself"):
        load(path, base=path)
    (tmp_path / "adapter_config.json").write_text("[")
    with pytest.raises(CheckpointError, match="not valid JSON"):
        load(path, base=base)
    (tmp_path / "adapter_config.json").unlink()
    with pytest.raises(CheckpointError, match="a LoRA adapter without its adapter_config"):
        load(path, base=base)
    assert load(base).tensors.keys() == load(base, base=base).tensors.keys() == BASE.keys()


@pytest.mark.parametrize("way", ["option", "toml"])
def test_a_run_of_adapters_is_measured_on_their_base(way: str, tmp_path: Path) -> None:
    make_workspace(tmp_path)
    torch.save(fitted(0), tmp_path / "base.pt")
    for step in (1, 2):
        changes = {
            "base_model.model.0.lora_A.weight": 0.01 * torch.ones(2, 12),
            "base_model.model.0.lora_B.weight": step * torch.ones(16, 2),
        }
        write(tmp_path / "ckpts" / f"step_{step}", changes)
        (tmp_path / "ckpts" / f"step_{step}" / "base.pt").unlink()
    refused = ncscan("extract", "ckpts", cwd=tmp_path)
    assert 1 == refused.returncode
    assert "a LoRA adapter, a change to org/net and not a model" in refused.stderr
    if way == "toml":
        toml = tmp_path / "ckpts" / "ncscan.toml"
        toml.write_text(toml.read_text().replace("[model]", '[model]\nbase = "../base.pt"'))
    done = ncscan("extract", "ckpts", *(("--base", "base.pt") if way == "option" else ()), cwd=tmp_path)
    assert 0 == done.returncode, done.stderr
    assert "2 of 2 dumps" in done.stdout
    lost = ncscan("extract", "ckpts", "--base", "ckpts", "--out", "other", cwd=tmp_path)
    assert "--base must be one checkpoint, and there are 2" in lost.stderr
    gone = ncscan("extract", "ckpts", "--base", "gone.pt", "--out", "other", cwd=tmp_path)
    assert "gone.pt: there is no such file or folder" in gone.stderr
