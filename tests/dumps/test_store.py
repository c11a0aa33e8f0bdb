"""A dump holds what was computed, whole or not at all, and goes on where it was stopped."""

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import serving
import torch
from dumping import BATCH, PROVENANCE, D, K, N, dump_to, network, samples, traced
from torch import nn
from workspaces import PATIENCE

from ncscan.activations.batches import Batch
from ncscan.activations.tracer import trace
from ncscan.data.dataset import from_arrays
from ncscan.dumps import reader as reading
from ncscan.dumps import row_tables as rows
from ncscan.dumps import size_plan
from ncscan.dumps.reader import plain_json
from ncscan.dumps.writer import Dump, finished, plan
from ncscan.errors import DataError, DumpError, NcscanError, RefusedPlan, TapError, UsageError
from ncscan.files.disk import Disk
from ncscan.layer_graph import TapGraph, select

PARTS = ["checksums", "graph", "labels", "layers", "logits", "maps", "provenance", "sample_ids"]


class StoppedError(Exception):
    """Something that ends a run in the middle."""


def features_of(path: Path) -> dict[str, np.ndarray]:
    with Dump(path) as dump:
        return {layer.tap.name: np.concatenate([rows for _, rows in dump.chunks(layer)]) for layer in dump.layers}


def stop_after(n_batches: int) -> Callable[[Iterable[Batch]], Iterator[Batch]]:
    """For `around`: lets that many batches pass."""

    def around(batches: Iterable[Batch]) -> Iterator[Batch]:
        for number, batch in enumerate(batches):
            if number == n_batches:
                raise StoppedError
            yield batch

    return around


def partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


# What is in it


def test_dump_holds_every_layer_exactly(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    facts = dump_to(path)
    model, dataset = network(), samples()
    value = dataset.batch(0, N)
    assert isinstance(value, torch.Tensor)
    expected = {"input": value}
    with torch.no_grad():
        for name, module in model.named_children():
            # The same batches: a matrix product of 150 rows rounds otherwise than five of 32.
            parts = [module(value[start : start + BATCH]) for start in range(0, N, BATCH)]
            value = expected[name] = torch.cat(parts)
    actual = features_of(path)
    assert list(expected) == list(actual)
    for name, layer in expected.items():
        assert np.array_equal(layer.numpy(), actual[name]), name
    with Dump(path) as dump:
        assert np.array_equal(value.numpy(), dump.logits)
        assert np.array_equal(dataset.labels, dump.labels)
    assert (N, 0, path.stat().st_size) == (facts.n_samples, facts.resumed_at, facts.n_bytes)


def test_dump_holds_weights_graph_and_provenance(tmp_path: Path) -> None:
    dump_to(tmp_path / "a.h5")
    model = network()
    found, _ = traced(model, samples())
    with Dump(tmp_path / "a.h5") as dump:
        assert found.graph == dump.graph
        assert plain_json(asdict(PROVENANCE)) == plain_json(asdict(dump.provenance))
        assert ["0", "2", "4"] == list(dump.weights)
        for name, (weight, bias) in dump.weights.items():
            module = model.get_submodule(name)
            assert isinstance(module, nn.Linear)
            assert bias is not None
            assert np.array_equal(module.weight.detach().numpy(), weight)
            assert np.array_equal(module.bias.detach().numpy(), bias)


def test_dump_without_bias_says_none(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(D, K, bias=False)).eval()
    dump_to(tmp_path / "a.h5", model=model)
    with Dump(tmp_path / "a.h5") as dump:
        assert dump.weights["0"][1] is None


def test_dump_is_the_same_bytes_when_the_inputs_are(tmp_path: Path) -> None:
    dump_to(tmp_path / "a.h5")
    time.sleep(1.1)  # HDF5 counts times in seconds
    dump_to(tmp_path / "b.h5")
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_dump_names_no_folder_of_the_machine(tmp_path: Path) -> None:
    dump_to(tmp_path / "a.h5")
    assert str(tmp_path).encode() not in (tmp_path / "a.h5").read_bytes()


def test_dump_is_plain_hdf5_for_others(tmp_path: Path) -> None:
    dump_to(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5") as file:
        assert PARTS == sorted(file)
        source = file["layers/0001/activations"]
        assert (b"0", b"linear") == (source.parent.attrs["name"], source.parent.attrs["kind"])
        assert ((N, 16), (BATCH, 16)) == (source.shape, source.chunks)
        rows = source[:]
    assert np.array_equal(features_of(tmp_path / "a.h5")["0"], rows)


def test_bfloat16_network_is_kept_exactly(tmp_path: Path) -> None:
    model = network().to(torch.bfloat16)
    every = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    every = every[every.isfinite()]  # a data set refuses the others
    rows = len(every) // D
    dataset = from_arrays(every[: rows * D].reshape(rows, D), torch.arange(rows) % K, class_names=list("abcd"))
    dump_to(tmp_path / "a.h5", model=model, dataset=dataset)
    actual = features_of(tmp_path / "a.h5")["input"]
    assert np.float32 == actual.dtype
    expected = every[: rows * D].reshape(rows, D).to(torch.float32).numpy()
    assert np.array_equal(expected.view(np.uint32), actual.view(np.uint32))
    with Dump(tmp_path / "a.h5") as dump:
        assert "bfloat16" == dump.layers[0].dtype
        assert np.float32 == dump.logits.dtype == dump.weights["0"][0].dtype


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_storage_type_is_the_one_asked_for(tmp_path: Path, dtype: str) -> None:
    dump_to(tmp_path / "exact.h5")
    dump_to(tmp_path / "a.h5", dtype=dtype)
    for name, exact in features_of(tmp_path / "exact.h5").items():
        expected = torch.from_numpy(exact).to(getattr(torch, dtype)).to(torch.float32).numpy()
        assert np.array_equal(expected, features_of(tmp_path / "a.h5")[name]), name


def test_float16_refuses_values_beyond_its_range(tmp_path: Path) -> None:
    model = network()
    with torch.no_grad():
        model[2].weight *= 1e6  # type: ignore[index]  # a Sequential
    with pytest.raises(DumpError, match="beyond float16's 65504"):
        dump_to(tmp_path / "a.h5", model=model, dtype="float16")
    assert not (tmp_path / "a.h5").exists()


def test_values_that_are_not_finite_are_kept(tmp_path: Path) -> None:
    model = network()
    with torch.no_grad():
        model[0].bias[0], model[0].bias[1] = torch.nan, torch.inf  # type: ignore[index]  # a Sequential
    dump_to(tmp_path / "a.h5", model=model)
    actual = features_of(tmp_path / "a.h5")["0"]
    assert np.isnan(actual[:, 0]).all()
    assert np.isposinf(actual[:, 1]).all()


def test_compressed_dump_reads_the_same(tmp_path: Path) -> None:
    dump_to(tmp_path / "a.h5")
    dump_to(tmp_path / "b.h5", compress=True)
    for name, exact in features_of(tmp_path / "a.h5").items():
        assert np.array_equal(exact, features_of(tmp_path / "b.h5")[name]), name


@pytest.mark.parametrize("size", [1, 5, 31, 64, 1000])
def test_batch_size_of_the_replay_does_not_affect_the_rows(tmp_path: Path, size: int) -> None:
    dump_to(tmp_path / "a.h5")
    dump_to(tmp_path / "b.h5", replayed_by=size)  # the chunks stay at 32 rows
    for name, exact in features_of(tmp_path / "a.h5").items():
        rounding = 1e-6  # sums of 16 products in another order
        assert np.allclose(exact, features_of(tmp_path / "b.h5")[name], atol=rounding), name


def test_wide_rows_are_cut_into_smaller_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(size_plan, "MAX_WRITTEN_CHUNK", 16 * 4 * 10)
    dump_to(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5") as file:
        assert (8, 16) == file["layers/0001/activations"].chunks  # at most 10 rows, and a part of 32
    assert np.array_equal(np.asarray(samples().batch(0, N)), features_of(tmp_path / "a.h5")["input"])


# Whole or not at all


def test_nothing_stands_under_the_name_until_all_is_written(tmp_path: Path) -> None:
    path, seen = tmp_path / "a.h5", []

    def around(batches: Iterable[Batch]) -> Iterator[Batch]:
        for batch in batches:
            seen.append(sorted(p.name for p in tmp_path.iterdir()))
            yield batch

    dump_to(path, around=around)
    assert [["a.h5.partial"]] * 5 == seen
    assert ["a.h5"] == [p.name for p in tmp_path.iterdir()]


def test_stopped_dump_goes_on_without_computing_rows_again(tmp_path: Path) -> None:
    dump_to(tmp_path / "calm.h5")
    path, starts = tmp_path / "a.h5", []
    with pytest.raises(StoppedError):
        dump_to(path, around=stop_after(3))
    assert not path.exists()

    def around(batches: Iterable[Batch]) -> Iterator[Batch]:
        for batch in batches:
            starts.append(batch.start)
            yield batch

    facts = dump_to(path, around=around)
    assert (3 * BATCH, [3 * BATCH, 4 * BATCH]) == (facts.resumed_at, starts)
    assert (tmp_path / "calm.h5").read_bytes() == path.read_bytes()


def test_stopped_dump_goes_on_after_its_last_whole_batch(tmp_path: Path) -> None:
    dump_to(tmp_path / "calm.h5", replayed_by=8)
    with pytest.raises(StoppedError):
        dump_to(tmp_path / "a.h5", around=stop_after(7), replayed_by=8)  # 56 rows of 32
    assert BATCH == dump_to(tmp_path / "a.h5", replayed_by=8).resumed_at
    assert (tmp_path / "calm.h5").read_bytes() == (tmp_path / "a.h5").read_bytes()


def test_partial_dump_of_other_settings_is_overwritten(tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        dump_to(tmp_path / "a.h5", around=stop_after(3))
    assert 0 == dump_to(tmp_path / "a.h5", checkpoint_sha256="other").resumed_at
    with Dump(tmp_path / "a.h5") as dump:
        assert "other" == dump.provenance.checkpoint_sha256


@pytest.mark.parametrize("damage", ["cut", "garbage", "flip", "zeros", "count"])
def test_damaged_partial_dump_is_written_anew(tmp_path: Path, damage: str) -> None:
    dump_to(tmp_path / "calm.h5")
    path = partial(tmp_path / "a.h5")
    with pytest.raises(StoppedError):
        dump_to(tmp_path / "a.h5", around=stop_after(3))
    content = bytearray(path.read_bytes())
    with h5py.File(path) as file:
        where = file["layers/0002/activations"].id.get_chunk_info(1).byte_offset
    if damage == "cut":
        del content[len(content) // 2 :]
    elif damage == "garbage":
        content = bytearray(b"not a dump")
    elif damage == "flip":
        content[where + 5] ^= 1
    elif damage == "zeros":  # what a power cut leaves
        content[where : where + BATCH * 16 * 4] = bytes(BATCH * 16 * 4)
    path.write_bytes(content)
    if damage == "count":
        with h5py.File(path, "r+") as file:
            file.attrs.modify("rows_written", 4 * BATCH)
    assert 0 == dump_to(tmp_path / "a.h5").resumed_at
    assert (tmp_path / "calm.h5").read_bytes() == (tmp_path / "a.h5").read_bytes()


def test_killed_writer_leaves_what_the_next_one_finishes(tmp_path: Path) -> None:
    rng = random.Random(3)  # noqa: S311 - moments, not secrets
    path, n = tmp_path / "a.h5", 20_000
    code = serving.program(Path(__file__).parents[1] / "dumping.py")
    for _ in range(2):
        moment = [str(rng.randint(500, 1500)), str(rng.uniform(0, 0.02))]
        killed = serving.run([str(path), str(n), *moment], tmp_path, PATIENCE, code)
        assert -signal.SIGPROF == killed.returncode, killed.stderr
    done = serving.run([str(path), str(n)], tmp_path, PATIENCE, code)
    assert int(done.stdout) > 0, "the rows before the kill were computed again"
    assert 0 == serving.run([str(tmp_path / "calm.h5"), str(n)], tmp_path, PATIENCE, code).returncode
    assert (tmp_path / "calm.h5").read_bytes() == path.read_bytes()


def test_second_writer_is_refused_while_the_first_one_writes(tmp_path: Path) -> None:
    def around(batches: Iterable[Batch]) -> Iterator[Batch]:
        for batch in batches:
            with pytest.raises(DumpError, match="being written by another process"):
                dump_to(tmp_path / "a.h5")
            yield batch

    dump_to(tmp_path / "a.h5", around=around)
    assert ["a.h5"] == [p.name for p in tmp_path.iterdir()]


def test_lock_is_gone_with_the_writer(tmp_path: Path) -> None:
    code = (
        "import fcntl, os, sys; handle = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)\n"
        "fcntl.flock(handle, fcntl.LOCK_EX); print(flush=True); sys.stdin.read()"
    )
    path = tmp_path / "a.h5"
    command = [sys.executable, "-c", code, str(partial(path))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(DumpError, match="another process"):
            dump_to(path)
        holder.kill()
    assert 0 == dump_to(path).resumed_at


def test_batches_that_leave_rows_out_are_refused(tmp_path: Path) -> None:
    def around(batches: Iterable[Batch]) -> Iterator[Batch]:
        return (batch for batch in batches if batch.start != BATCH)

    with pytest.raises(DataError, match="expected the batch from row 32, got that from row 64"):
        dump_to(tmp_path / "a.h5", around=around)


def test_batches_that_end_early_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="150 labels, and the model gave 96 rows"):
        dump_to(tmp_path / "a.h5", around=lambda batches: (b for b in batches if b.start < 3 * BATCH))
    assert not (tmp_path / "a.h5").exists()


def test_features_of_another_width_are_refused(tmp_path: Path) -> None:
    def around(batches: Iterable[Batch]) -> Iterator[Batch]:
        for b in batches:
            yield replace(b, features=tuple(f[:, :1] for f in b.features))

    with pytest.raises(DumpError, match=r"layers/0000/activations takes \(32, 12\), not \(32, 1\)"):
        dump_to(tmp_path / "a.h5", around=around)


def test_failed_write_is_followed_by_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dump_to(tmp_path / "calm.h5")
    write, tables = Disk.write, 7  # the logits and six layers, each a chunk a batch
    calls = iter(range(1000))

    def torn(*args: Any) -> None:
        if next(calls) == tables + 3:  # in the second batch, while the next ones wait
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        write(*args)

    monkeypatch.setattr(rows, "GATHERED", 1)
    monkeypatch.setattr(Disk, "write", torn)
    with pytest.raises(DumpError, match=r"writing failed: .*Input/output error"):
        dump_to(tmp_path / "a.h5")
    monkeypatch.undo()
    assert BATCH == dump_to(tmp_path / "a.h5").resumed_at
    assert (tmp_path / "calm.h5").read_bytes() == (tmp_path / "a.h5").read_bytes()


def test_no_thread_is_left_after_an_error(tmp_path: Path) -> None:
    before = threading.active_count()
    with pytest.raises(StoppedError):
        dump_to(tmp_path / "a.h5", around=stop_after(2))
    with pytest.raises(DataError):
        dump_to(tmp_path / "b.h5", around=lambda batches: (b for b in batches if b.start))
    assert before == threading.active_count()


def test_damage_between_writing_and_reading_back_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dump_to(tmp_path / "calm.h5")
    path, read, calls = tmp_path / "a.h5", Disk.read, iter(range(1000))

    def damaged(disk: Disk, offset: int, into: memoryview) -> None:
        if next(calls) == 20:
            with partial(path).open("r+b") as raw:
                raw.seek(offset)
                raw.write(b"\x7f")
        read(disk, offset, into)

    monkeypatch.setattr(rows, "GATHERED", 1)
    monkeypatch.setattr(Disk, "read", damaged)
    with pytest.raises(DumpError, match="read back is not what was written"):
        dump_to(path)
    assert not path.exists()
    monkeypatch.undo()
    dump_to(path)
    assert (tmp_path / "calm.h5").read_bytes() == path.read_bytes()


def test_full_disk_is_one_clear_error_and_leaves_the_others(tmp_path: Path) -> None:
    """The kernel's limit on file sizes fails a write in the same place as a full disk does."""
    dump_to(tmp_path / "other.h5")
    before = (tmp_path / "other.h5").read_bytes()
    code = (
        "import resource,sys; sys.path.insert(0, sys.argv[2]); resource.setrlimit(resource.RLIMIT_FSIZE, (200000,)*2)\n"
        "from pathlib import Path; from dumping import dump_to, samples; from ncscan.errors import DumpError\n"
        "try: dump_to(Path(sys.argv[1]), dataset=samples(5000))\n"
        "except DumpError as error: print(error)"
    )
    path = tmp_path / "a.h5"
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), str(Path(__file__).parents[1])],
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"{partial(path)}: {os.strerror(errno.EFBIG).lower()}; this partial dump was removed" in done.stdout
    assert "" == done.stderr
    assert ["other.h5"] == [p.name for p in tmp_path.iterdir()]
    assert before == (tmp_path / "other.h5").read_bytes()


# Resume by marker


def graph() -> TapGraph:
    """Of the network that the dumps of this file are made of."""
    return traced(network(), samples())[0].graph


def test_finished_is_false_when_nothing_is_there(tmp_path: Path) -> None:
    assert not finished(tmp_path / "a.h5", PROVENANCE, graph())


def test_finished_is_true_for_the_same_settings_on_another_device(tmp_path: Path) -> None:
    dump_to(tmp_path / "a.h5")
    assert finished(tmp_path / "a.h5", PROVENANCE, graph())
    assert finished(
        tmp_path / "a.h5", replace(PROVENANCE, device="cuda", batch_size=8, versions={"torch": "3"}), graph()
    )


def test_finished_refuses_other_settings_and_names_them(tmp_path: Path) -> None:
    dump_to(tmp_path / "a.h5")
    other = replace(PROVENANCE, reduction="max", checkpoint_sha256="0")
    with pytest.raises(
        RefusedPlan, match=r"other settings \(checkpoint_sha256 .*; reduction \"mean\" and not \"max\"\); .* --force"
    ):
        finished(tmp_path / "a.h5", other, graph())
    assert not finished(tmp_path / "a.h5", other, graph(), force=True)


@pytest.mark.parametrize("content", [b"", b"something else", None])
def test_finished_refuses_what_is_no_complete_dump(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a.h5"
    if content is None:
        with pytest.raises(StoppedError):
            dump_to(path, around=stop_after(2))
        partial(path).rename(path)
    else:
        path.write_bytes(content)
    with pytest.raises(RefusedPlan, match="--force overwrites it"):
        finished(path, PROVENANCE, graph())
    assert not finished(path, PROVENANCE, graph(), force=True)


# Size plan


@pytest.mark.parametrize(("n", "batch", "dtype"), [(N, BATCH, None), (5000, 256, "float16"), (40, 256, None)])
def test_plan_is_what_the_file_takes(tmp_path: Path, n: int, batch: int, dtype: str | None) -> None:
    model, dataset = network(64), samples(n)
    size = plan(*traced(model, dataset), n, dtype=dtype, batch_size=batch)
    facts = dump_to(tmp_path / "a.h5", model=model, dataset=dataset, batch_size=batch, dtype=dtype or "as computed")
    assert facts.n_bytes <= size.total
    assert size.total < 1.5 * facts.n_bytes  # of small files the descriptions are half


def test_plan_names_the_bytes_of_each_layer() -> None:
    size = plan(*traced(network(), samples()), 64, batch_size=BATCH)
    layer, n_bytes = size.layers[1]
    assert "0" == layer.tap.name
    assert 64 * 16 * 4 <= n_bytes <= 64 * 16 * 4 + 200


def test_plan_larger_than_the_disk_is_refused(tmp_path: Path) -> None:
    size = plan(*traced(network(), samples()), 10**9, batch_size=256)
    with pytest.raises(RefusedPlan, match=r"the dump needs 3\d\d\.\d GB, and .* has 1\.0 kB free: take fewer layers"):
        size.check(tmp_path / "not" / "there" / "a.h5", free=lambda folder: 1000 * (folder == tmp_path))


def test_plan_of_several_dumps_is_their_sum(tmp_path: Path) -> None:
    size = plan(*traced(network(), samples()), N, batch_size=BATCH)
    size.check(tmp_path / "a.h5", dumps=3, free=lambda _: 3 * size.total)
    with pytest.raises(RefusedPlan, match="the 3 dumps need"):
        size.check(tmp_path / "a.h5", dumps=3, free=lambda _: 3 * size.total - 1)


def test_plan_counts_the_room_of_an_interrupted_dump_as_free(tmp_path: Path) -> None:
    size = plan(*traced(network(), samples()), N, batch_size=BATCH)
    partial(tmp_path / "a.h5").write_bytes(bytes(8192))
    size.check(tmp_path / "a.h5", free=lambda _: size.total - 8192)


def test_plan_asks_the_disk_itself(tmp_path: Path) -> None:
    size = plan(*traced(network(), samples()), 10**16, batch_size=256)
    assert size.total > shutil.disk_usage(tmp_path).total
    with pytest.raises(RefusedPlan, match="TB"):
        size.check(tmp_path / "a.h5")


def test_plan_refuses_rows_that_no_reader_could_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ncscan.dumps.hdf5.MAX_CHUNK", 60)
    with pytest.raises(RefusedPlan, match=r"layer '0': one row is 0\.1 kB"):
        plan(*traced(network(), samples()), N)


def test_storage_type_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UsageError, match="--dtype float8 does not exist"):
        plan(*traced(network(), samples()), N, dtype="float8")


class Cut(nn.Module):
    """Keeps the first features."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, : self.features] * 1.0


@pytest.mark.parametrize(
    ("model", "what"),
    [
        (lambda: nn.Sequential(nn.Linear(D, 0), nn.ReLU(), nn.Linear(0, K)), "the weight of '0' is of size 0×12"),
        (lambda: nn.Sequential(nn.Linear(D, 5), nn.Linear(5, 0)), "the weight of '1' is of size 0×5"),
        (lambda: nn.Sequential(nn.Linear(D, K), Cut(0)), "the output is of size 0"),
        (
            lambda: nn.Sequential(nn.Linear(D, K), nn.ReLU(), Cut(0), nn.ConstantPad1d((0, K), 1)),
            "layer '2' is of size 0",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_layers_without_a_single_number_are_refused(model: Callable[[], nn.Module], what: str) -> None:
    found = trace(model().eval(), samples().batch(0, 3))
    with pytest.raises(TapError, match=what):
        plan(found, select(found.graph, ["every"]), N)


# Damage


def test_every_byte_of_activations_is_guarded(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    dump_to(path)
    content = path.read_bytes()
    with h5py.File(path) as file:
        chunks = file["layers/0001/activations"].id
        rows = [min(BATCH, N - start) for start in range(0, N, BATCH)]  # the last chunk is filled up with zeros
        where = [(chunks.get_chunk_info(i).byte_offset, n * 16 * 4) for i, n in enumerate(rows)]
    rng = random.Random(0)  # noqa: S311 - places, not secrets
    for _ in range(60):
        offset, size = rng.choice(where)
        position, bit = offset + rng.randrange(size), 1 << rng.randrange(8)
        path.write_bytes(content[:position] + bytes([content[position] ^ bit]) + content[position + 1 :])
        with pytest.raises(NcscanError, match="/layers/0001/activations is damaged in the 32 rows"):
            features_of(path)


def test_dump_needs_no_torch_to_be_read() -> None:
    assert "torch" not in vars(reading)
