"""Every shape of docs/formats.md, made by the library itself: found, loaded whole, with its step and in its order."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from formats.runs import Row, batch, measured, network


def loader(size: int = 24) -> torch.utils.data.DataLoader[Any]:
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*batch()), batch_size=size)


def test_lightning(tmp_path: Path) -> None:
    """240 samples in batches of 24: ten steps an epoch."""
    import lightning
    from lightning.pytorch.callbacks import ModelCheckpoint

    class Classifier(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self, lr: float = 0.1) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.model = network()
            self.criterion = nn.CrossEntropyLoss(weight=torch.ones(3))

        def training_step(self, batch: Any, _: int) -> torch.Tensor:
            return self.criterion(self.model(batch[0]), batch[1])  # type: ignore[no-any-return]

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=self.hparams["lr"])

    trainer = lightning.Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=lightning.pytorch.loggers.CSVLogger(tmp_path / "ckpts" / "logs"),
        callbacks=[ModelCheckpoint(tmp_path / "ckpts", save_top_k=-1, every_n_epochs=1)],
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Classifier(), loader())
    assert measured(tmp_path, said="not used: ckpts: ") == [
        Row("epoch=0-step=10.ckpt", 10, 0),
        Row("epoch=1-step=20.ckpt", 20, 1),
        Row("epoch=2-step=30.ckpt", 30, 2),
    ]


HUGGING_FACE = """import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(12, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
    def forward(self, inputs):
        return self.net(inputs)
def make():
    return Net()
"""


def hugging_face_model() -> Any:
    from transformers import PretrainedConfig, PreTrainedModel
    from transformers.modeling_outputs import SequenceClassifierOutput

    class Net(PreTrainedModel):  # type: ignore[no-untyped-call]
        config_class = PretrainedConfig
        all_tied_weights_keys: dict[str, str] = {}  # noqa: RUF012

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.net = network()
            self.post_init()  # type: ignore[no-untyped-call]

        def forward(self, inputs: torch.Tensor, labels: torch.Tensor | None = None) -> Any:
            logits = self.net(inputs)
            loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
            return SequenceClassifierOutput(loss=loss, logits=logits)

    return Net(PretrainedConfig())


def test_transformers_trainer(tmp_path: Path) -> None:
    from transformers import Trainer, TrainingArguments

    inputs, labels = batch()
    data = [{"inputs": x, "labels": y} for x, y in zip(inputs, labels, strict=True)]
    arguments = TrainingArguments(
        output_dir=str(tmp_path / "ckpts"),
        max_steps=120,
        save_steps=20,
        per_device_train_batch_size=24,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    Trainer(hugging_face_model(), arguments, train_dataset=data).train()
    steps = range(20, 121, 20)
    found = measured(tmp_path, code=HUGGING_FACE, said="states of a trainer")
    assert [(f"checkpoint-{n}/model.safetensors", n) for n in steps] == [(row.name, row.step) for row in found]


def test_hugging_face_shards(tmp_path: Path) -> None:
    model = hugging_face_model()
    model.save_pretrained(tmp_path / "ckpts", max_shard_size="1KB")
    assert len(list((tmp_path / "ckpts").glob("model-*.safetensors"))) > 1
    (row,) = measured(tmp_path, code=HUGGING_FACE, said="1 settings (config.json)")
    assert "model.safetensors.index.json" == row.name


@pytest.mark.parametrize("safe", [True, False])
def test_accelerate(safe: bool, tmp_path: Path) -> None:
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    model, optimizer, data, schedule = accelerator.prepare(model, optimizer, loader(), schedule)
    for step, (inputs, labels) in enumerate(data, 1):
        accelerator.backward(nn.functional.cross_entropy(model(inputs), labels))
        optimizer.step()
        if step % 5 == 0:
            accelerator.save_state(str(tmp_path / "ckpts" / f"step_{step}"), safe_serialization=safe)
    name = "model.safetensors" if safe else "pytorch_model.bin"
    found = measured(tmp_path, said="states of a trainer")
    assert [Row(f"step_5/{name}", 5, None), Row(f"step_10/{name}", 10, None)] == found


def test_timm(tmp_path: Path) -> None:
    import argparse

    from timm.utils import CheckpointSaver, ModelEmaV3

    (tmp_path / "ckpts").mkdir()
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    args = argparse.Namespace(model="mlp", lr=0.1, output=tmp_path)
    ema = ModelEmaV3(model, decay=0.9)
    saver = CheckpointSaver(
        model,
        optimizer,
        args=args,
        model_ema=ema,
        checkpoint_dir=str(tmp_path / "ckpts"),
        recovery_dir=str(tmp_path / "ckpts"),
        max_history=20,
    )
    for epoch in range(12):
        with torch.no_grad():
            next(model.parameters()).mul_(1.1)
        ema.update(model)
        saver.save_checkpoint(epoch, metric=float(epoch % 5))
    found = measured(tmp_path)
    series = [row for row in found if row.name.startswith("checkpoint-")]
    assert [(f"checkpoint-{epoch}.pth.tar", epoch) for epoch in range(12)] == [(r.name, r.epoch) for r in series]
    averaged = tmp_path / "averaged"
    averaged.mkdir()
    (tmp_path / "ckpts").rename(averaged / "ckpts")
    assert len(found) == len(measured(averaged, "--weights", "ema"))


TWO_PROCESSES = """
import os, sys
import torch, torch.distributed as dist, torch.distributed.checkpoint as dcp, torch.multiprocessing as mp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.checkpoint.state_dict import get_state_dict

def work(rank, out, port):
    sys.path[:0] = {path!r}
    from formats.runs import batch, network
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{{port}}", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    model = network()
    for layer in (model[0], model[3]):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    inputs, labels = batch()
    for step in range(1, 13):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
        if step % 4 == 0:
            states, optim = get_state_dict(model, optimizer)
            dcp.save({{"model": states, "optim": optim, "step": step}}, checkpoint_id=f"{{out}}/step-{{step}}")
    whole = {{name: t.full_tensor() if hasattr(t, "full_tensor") else t for name, t in states.items()}}
    if rank == 0:
        torch.save(whole, f"{{out}}/../whole.pt")
    dist.barrier()
    os._exit(0)  # the threads of gloo do not always end in peace

if __name__ == "__main__":
    mp.spawn(work, (sys.argv[1], int(sys.argv[2])), nprocs=2)
"""


def free_port() -> int:
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def test_torch_distributed_checkpoint_of_two_processes(tmp_path: Path) -> None:
    from ncscan.checkpoints import load

    (tmp_path / "train.py").write_text(TWO_PROCESSES.format(path=[p for p in sys.path if p]))
    command = [sys.executable, str(tmp_path / "train.py"), str(tmp_path / "ckpts"), str(free_port())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert 2 == len(list((tmp_path / "ckpts" / "step-12").glob("*.distcp")))
    assert measured(tmp_path) == [Row(f"step-{step}", step, None) for step in (4, 8, 12)]
    expected, found = load(tmp_path / "whole.pt").tensors, load(tmp_path / "ckpts" / "step-12").tensors
    assert expected.keys() == found.keys()
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())


def test_torch_distributed_checkpoint_of_one_process(tmp_path: Path) -> None:
    import torch.distributed.checkpoint.state_dict_saver as dcp

    for step in (9, 10):
        dcp.save({"model": network(step).state_dict(), "step": step}, checkpoint_id=tmp_path / "ckpts" / f"s{step}")
    assert measured(tmp_path) == [Row("s9", 9, None), Row("s10", 10, None)]


def test_torch_export(tmp_path: Path) -> None:
    (tmp_path / "ckpts").mkdir()
    for epoch in (1, 2):
        program = torch.export.export(network(epoch).eval(), (torch.zeros(2, 12),))
        torch.export.save(program, tmp_path / "ckpts" / f"epoch{epoch}.pt2")
    assert measured(tmp_path) == [Row("epoch1.pt2", None, 1), Row("epoch2.pt2", None, 2)]


@pytest.mark.parametrize("way", ["script", "trace"])
def test_torchscript(way: str, tmp_path: Path) -> None:
    (tmp_path / "ckpts").mkdir()
    for epoch in (1, 2):
        model = network(epoch).eval()
        program: Any = torch.jit.script(model) if way == "script" else torch.jit.trace(model, torch.zeros(2, 12))  # type: ignore[no-untyped-call]
        torch.jit.save(program, tmp_path / "ckpts" / f"epoch{epoch}.pt")
    assert measured(tmp_path) == [Row("epoch1.pt", None, 1), Row("epoch2.pt", None, 2)]


def test_deepspeed(tmp_path: Path) -> None:
    """By hand, in its layout: DeepSpeed itself needs a compiler and a GPU."""
    for step in (500, 1000):
        folder = tmp_path / "ckpts" / f"global_step{step}"
        folder.mkdir(parents=True)
        content: dict[str, Any] = {
            "module": network(step).state_dict(),
            "buffer_names": ["1.running_mean"],
            "optimizer": None,
            "param_shapes": [{"0.weight": torch.Size((16, 12))}],
            "frozen_param_shapes": None,
            "lr_scheduler": None,
            "data_sampler": None,
            "random_ltd": None,
            "sparse_tensor_module_names": set(),
            "skipped_steps": 0,
            "global_steps": step,
            "global_samples": step * 8,
            "dp_world_size": 1,
            "mp_world_size": 1,
            "ds_config": {"train_batch_size": 8, "zero_optimization": {"stage": 2}},
            "ds_version": "0.18.0",
        }
        torch.save(content, folder / "mp_rank_00_model_states.pt")
        shard = {"optimizer_state_dict": {"zero_stage": 2, "single_partition_of_fp32_groups": [torch.zeros(300)]}}
        torch.save(shard, folder / "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt")
    (tmp_path / "ckpts" / "latest").write_text("global_step1000")
    (tmp_path / "ckpts" / "zero_to_fp32.py").write_text("raise SystemExit('run')")
    found = measured(tmp_path, said="2 states of a trainer")
    assert [(f"global_step{n}/mp_rank_00_model_states.pt", n) for n in (500, 1000)] == [(r.name, r.step) for r in found]


def test_fairseq(tmp_path: Path) -> None:
    """By hand, in its layout: a Namespace, nested settings, history of the optimizer."""
    import argparse

    (tmp_path / "ckpts").mkdir()
    for epoch, step in ((1, 250), (2, 500)):
        history = [{"criterion_name": "CrossEntropy", "optimizer_name": "FairseqAdam", "num_updates": step}]
        content = {
            "args": argparse.Namespace(arch="mlp", lr=[0.1], save_dir=tmp_path),
            "cfg": {"model": argparse.Namespace(_name="mlp"), "common": {"seed": 1}},
            "model": network(epoch).state_dict(),
            "criterion": {},
            "optimizer_history": history,
            "task_state": {},
            "extra_state": {"train_iterator": {"epoch": epoch}, "val_loss": 0.5},
            "last_optimizer_state": {"state": {}, "param_groups": []},
        }
        torch.save(content, tmp_path / "ckpts" / f"checkpoint_{epoch}_{step}.pt")
    found = measured(tmp_path)
    assert [f"checkpoint_{e}_{s}.pt" for e, s in ((1, 250), (2, 500))] == [row.name for row in found]


LORA: dict[str, dict[str, Any]] = {
    "plain": {"r": 4, "lora_alpha": 8},
    "rank-stabilised": {"r": 4, "lora_alpha": 8, "use_rslora": True},
    "patterns": {"r": 4, "lora_alpha": 8, "rank_pattern": {"3": 2}, "alpha_pattern": {"^0": 5}},
    "head": {"r": 4, "target_modules": ["0"], "modules_to_save": ["3"]},
    "bias": {"r": 4, "bias": "all"},
    "own-bias": {"r": 4, "lora_bias": True},
}


def same(theirs: torch.Tensor, ours: torch.Tensor) -> bool:
    """Whether two tensors are one to 1e-6 of the largest number: peft adds in float32."""
    return bool((theirs - ours).abs().max() <= 1e-6 * theirs.abs().max())


@pytest.mark.parametrize("kind", LORA)
def test_peft_lora(kind: str, tmp_path: Path) -> None:
    """Merged as peft merges them, to 1e-6."""
    import copy

    from peft import LoraConfig, get_peft_model
    from safetensors.torch import save_file

    from ncscan.checkpoints import load

    base = network()
    save_file(base.state_dict(), tmp_path / "base.safetensors")
    wholes = []
    for step in (1, 2):
        model = get_peft_model(copy.deepcopy(base), LoraConfig(**({"target_modules": ["0", "3"]} | LORA[kind])))
        torch.manual_seed(step)
        for name, parameter in model.named_parameters():
            if "lora_" in name or "modules_to_save" in name or (kind == "bias" and "bias" in name):
                parameter.data.normal_()
        model.save_pretrained(tmp_path / "ckpts" / f"step_{step}")
        wholes.append({name.replace(".base_layer", ""): t for name, t in model.merge_and_unload().state_dict().items()})
    found = measured(tmp_path, "--base", "base.safetensors")
    assert [Row(f"step_{step}/adapter_model.safetensors", step, None) for step in (1, 2)] == found
    for step, whole in enumerate(wholes, 1):
        path = tmp_path / "ckpts" / f"step_{step}" / "adapter_model.safetensors"
        ours = load(path, base=tmp_path / "base.safetensors").tensors
        assert whole.keys() == ours.keys()
        assert all(same(tensor, ours[name]) for name, tensor in whole.items())
        assert not torch.equal(ours["0.weight"], base.state_dict()["0.weight"])


def test_peft_lora_of_layers_that_are_no_linear_ones(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers.pytorch_utils import Conv1D

    from ncscan.checkpoints import load

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(20, 12)
            self.square = nn.Conv2d(3, 8, 3)
            self.point = nn.Conv1d(3, 8, 1)
            self.turned = Conv1D(12, 12)  # type: ignore[no-untyped-call]

    model = Net()
    torch.save({"model": {f"net.{name}": t for name, t in model.state_dict().items()}}, tmp_path / "base.pt")
    for name, targets in {"maps": ["embedding", "square", "point"], "turned": ["turned"]}.items():
        adapted = get_peft_model(model, LoraConfig(r=2, target_modules=targets, fan_in_fan_out=name == "turned"))
        for parameter in (p for n, p in adapted.named_parameters() if "lora_" in n):
            parameter.data.normal_()
        adapted.save_pretrained(tmp_path / name)
        adapted.merge_adapter()
        ours = load(tmp_path / name / "adapter_model.safetensors", base=tmp_path / "base.pt").tensors
        for target in targets:
            layer = getattr(adapted.base_model.model, target)
            assert same(layer.get_base_layer().weight, ours[f"net.{target}.weight"])
        adapted.unload()


@pytest.mark.parametrize(
    "kind", [{"use_dora": True}, {"init_lora_weights": "pissa"}, {"trainable_token_indices": {"0": [1]}}]
)
def test_peft_lora_that_is_not_plain_is_refused(kind: dict[str, Any], tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    from ncscan.checkpoints import load
    from ncscan.errors import CheckpointError

    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 4))
    torch.save(model.state_dict(), tmp_path / "base.pt")
    get_peft_model(model, LoraConfig(r=2, target_modules=["1"], **kind)).save_pretrained(tmp_path / "x")
    with pytest.raises(CheckpointError, match=f"a LoRA adapter with {next(iter(kind))}"):
        load(tmp_path / "x" / "adapter_model.safetensors", base=tmp_path / "base.pt")
