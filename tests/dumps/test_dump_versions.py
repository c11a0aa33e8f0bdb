"""Checksums of the rows of a dump, and dumps of the version of the format before."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from dumping import K, dump_to, network, samples
from hypothesis import given
from hypothesis import strategies as st
from workspaces import ncscan

from ncscan.dumps.checksums import CHECKSUMS
from ncscan.dumps.reader import FORMAT_VERSION
from ncscan.dumps.writer import Dump
from ncscan.errors import DumpError

VERSION_1 = Path(__file__).parents[1] / "golden/dumps/version_1.h5"
"""A dump of `dumping.network` on 24 samples in batches of 8, written before there was a version 2."""
N, BATCH = 24, 8

each = pytest.mark.parametrize("checksum", [each.of for each in CHECKSUMS.values()], ids=map(str, CHECKSUMS))
Checksum = Callable[[np.ndarray], int]


@each
@given(content=st.binary(min_size=1, max_size=20_000), data=st.data())
def test_checksum_sees_every_change_of_a_byte(checksum: Checksum, content: bytes, data: st.DataObject) -> None:
    rows = np.frombuffer(content, np.uint8)
    where = data.draw(st.integers(0, len(rows) - 1))
    changed = rows.copy()
    changed[where] ^= data.draw(st.integers(1, 255))
    assert checksum(rows) != checksum(changed)


@each
@given(first=st.integers(0, 3), second=st.integers(0, 3), seed=st.integers(0, 2**32 - 1))
def test_checksum_sees_pages_in_the_wrong_order(checksum: Checksum, first: int, second: int, seed: int) -> None:
    pages = np.random.default_rng(seed).standard_normal((64, 512))  # 4 KiB each, 256 KiB in all
    swapped = pages.copy()
    a, b = 16 * first, 16 * second + 8  # also those that are a whole power of two apart
    swapped[[a, b]] = pages[[b, a]]
    assert checksum(pages) != checksum(swapped)


@each
def test_checksum_sees_what_fletcher32_does_not(checksum: Checksum) -> None:
    rows = np.zeros((256, 64), np.float32)
    ones = rows.copy()
    ones.view(np.uint16)[3, 7] = 0xFFFF
    assert checksum(rows) != checksum(ones)
    assert 0 != checksum(rows)  # what was never written is zero, and so is its checksum


@each
def test_checksum_does_not_depend_on_the_layout_in_memory(checksum: Checksum) -> None:
    rows = np.random.default_rng(0).standard_normal((300, 40))
    assert checksum(rows) == checksum(np.asfortranarray(rows)) == checksum(np.repeat(rows, 2, axis=0)[::2])


def test_checksum_is_the_xxh3_that_others_compute() -> None:
    """The values that `xxhsum -H3` gives, which any other library must find in a dump."""
    assert 0x2D06800538D394C2 == CHECKSUMS[2].of(np.empty((0, 3), np.float32))
    assert 0x78AF5F94892F3950 == CHECKSUMS[2].of(np.frombuffer(b"abc", np.uint8))


# Version 1


def test_dump_of_version_1_is_read() -> None:
    with h5py.File(VERSION_1) as file:
        assert (1, "uint32") == (file.attrs["format_version"], str(file["checksums"].dtype))
    with Dump(VERSION_1) as dump:
        assert (1, N) == (dump.format_version, dump.n_samples)
        assert (np.arange(N) % K == dump.labels).all()
        inputs = samples(N).batch(0, N)
        assert isinstance(inputs, torch.Tensor)
        assert np.allclose(network()(inputs).detach().numpy(), dump.logits, atol=1e-6)
        assert [N] * 6 == [sum(len(rows) for _, rows in dump.chunks(layer)) for layer in dump.layers]
        kept = np.concatenate([rows for _, rows in dump.chunks(dump.layers[0])])
        assert np.array_equal(inputs, kept)


def test_dump_of_version_1_is_reported(tmp_path: Path) -> None:
    """With the numbers of the same rows in a dump of today."""
    (tmp_path / "old").mkdir()
    shutil.copy(VERSION_1, tmp_path / "old/a.h5")
    shutil.copytree(tmp_path / "old", tmp_path / "new")
    with h5py.File(tmp_path / "new/a.h5", "r+") as file:
        as_version(file, 2, complete=True)
    for which in ("old", "new"):
        done = ncscan("report", which, "--out", f"{which}-report", cwd=tmp_path)
        assert (0, "") == (done.returncode, "".join(line for line in done.stderr.splitlines() if "error" in line))
    old, new = ((tmp_path / f"{which}-report/report/metrics.csv").read_bytes() for which in ("old", "new"))
    assert old == new
    assert 1 == len(json.loads((tmp_path / "old-report/report/report.json").read_text())["checkpoints"])


@pytest.mark.parametrize("name", ["logits", "layers/0000/activations", "layers/0005/activations"])
def test_damage_in_a_dump_of_version_1_is_found(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.h5"
    shutil.copy(VERSION_1, path)
    with h5py.File(path) as file:
        where = file[name].id.get_chunk_info(1).byte_offset
    content = bytearray(path.read_bytes())
    content[where + 5] ^= 1
    path.write_bytes(content)
    with Dump(path) as dump, pytest.raises(DumpError, match=f"/{name} is damaged in the 8 rows from 8 on"):
        assert [dump.logits, *(rows for layer in dump.layers for rows in dump.chunks(layer))]


def test_checksums_of_another_version_are_refused(tmp_path: Path) -> None:
    shutil.copy(VERSION_1, tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file.attrs.modify("format_version", 2)
    with pytest.raises(DumpError, match="checksums of uint32 for 7 chunks a batch"):
        Dump(tmp_path / "a.h5")


@pytest.mark.parametrize(("version", "kept"), [(1, 0), (2, 2 * BATCH)])
def test_unfinished_dump_of_version_1_is_begun_anew(tmp_path: Path, version: int, kept: int) -> None:
    dump_to(tmp_path / "calm.h5", dataset=samples(N), batch_size=BATCH)
    shutil.copy(tmp_path / "calm.h5", tmp_path / "a.h5.partial")
    with h5py.File(tmp_path / "a.h5.partial", "r+") as file:
        as_version(file, version, complete=False)
        file.attrs.modify("rows_written", 2 * BATCH)
    facts = dump_to(tmp_path / "a.h5", dataset=samples(N), batch_size=BATCH)
    told = "" if kept else "an unfinished dump of format version 1 was there"
    assert (kept, told) == (facts.resumed_at, facts.begun_anew)
    with Dump(tmp_path / "a.h5") as dump:
        assert FORMAT_VERSION == dump.format_version
        assert [N] * 6 == [sum(len(rows) for _, rows in dump.chunks(layer)) for layer in dump.layers]


def test_extract_says_what_it_begins_anew_and_keeps_what_is_complete(workspace: Path) -> None:
    command = ("extract", "ckpts", "--layers", "head")
    assert 0 == ncscan(*command, cwd=workspace).returncode
    first, second, _ = sorted((workspace / "ncscan-out/dumps").rglob("*.h5"))
    for path, complete in ((first, True), (second, False)):
        with h5py.File(path, "r+") as file:
            as_version(file, 1, complete=complete)
    second.rename(second.with_name(second.name + ".partial"))
    before = first.read_bytes()
    done = ncscan(*command, cwd=workspace)
    assert 0 == done.returncode, done.stderr
    said = " ".join((done.stdout + done.stderr).split())
    assert 1 == said.count("; begun anew: an unfinished dump of format version 1 was there")
    assert 2 == said.count(", complete before")
    assert before == first.read_bytes()


def as_version(file: h5py.File, version: int, *, complete: bool) -> None:
    """Make a dump one of another version, as far as the checksums go."""
    checksum, block, column = CHECKSUMS[version], int(file.attrs["batch_rows"]), 0
    sums = np.zeros(file["checksums"].shape, checksum.stored_as)
    for values in (file["logits"], *(group["activations"] for group in file["layers"].values())):
        step = values.chunks[0]
        for i, start in enumerate(range(0, len(values), step)):
            sums[start // block, column + i % (block // step)] = checksum.of(values[start : start + step])
        column += block // step
    del file["checksums"]
    file["checksums"] = sums
    file.attrs.modify("format_version", np.int64(version))
    file.attrs.modify("rows_complete", np.int64(len(file["labels"]) if complete else 0))
