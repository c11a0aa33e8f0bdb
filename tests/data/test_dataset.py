"""Datasets: what each source gives, in which order, decoded how, and under which fingerprint."""

import gzip
import itertools
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ncscan.config import Normalisation
from ncscan.data import dataset
from ncscan.data.dataset import Dataset, from_arrays, open_dataset
from ncscan.errors import DataError, UsageError

ROUNDING = 1e-6
"""float32 images in [0, 1]: a few units in the last place."""

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (20, 5, 4), dtype=np.uint8)
LABELS = np.arange(20) % 4

CODE = """
import numpy as np, torch
from torch.utils.data import DataLoader, Dataset, TensorDataset
g = torch.Generator().manual_seed(0)
X, Y = torch.rand(1100, 3, 2, generator=g), torch.arange(1100) % 5

def pair(): return X, Y
def arrays(): return X.numpy(), Y.numpy().astype("int32")
def mapped(): return TensorDataset(X, Y)
def subset(): return torch.utils.data.Subset(TensorDataset(X, Y), range(7))

class Items(Dataset):
    classes = ["cat", "dog", "<b>\\x1b[2J", "=cmd", "owl"]
    def __init__(self, item): self.item = item
    def __len__(self): return 10
    def __getitem__(self, i): return self.item(i)

def named(): return Items(lambda i: ({"ids": torch.tensor([i, 1]), "mask": torch.ones(2, dtype=torch.bool)}, i % 5))
def numpy_items(): return Items(lambda i: (np.full(3, i, dtype="float32"), np.int64(i % 5)))
def drawn(): return Items(lambda i: (torch.rand(3), i % 5))
def ragged(): return Items(lambda i: (torch.zeros(3 + (i == 6)), i % 5))
def pictures(): return Items(lambda i: ("picture", i % 5))
def broken(): return Items(lambda i: (torch.zeros(2), 1 // (i - 4)))
def floats(): return Items(lambda i: (torch.zeros(2), float(i % 5)))
def wide(): return Items(lambda i: (torch.zeros(2), torch.eye(5)[i % 5]))
def beyond(): return Items(lambda i: (torch.zeros(2), 5 * (i == 7)))
def loader(): return DataLoader(TensorDataset(X, Y))
def stream(): return iter([])
def nothing(): return TensorDataset(X[:0], Y[:0])
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    (folder / "userdata.py").write_text(CODE)
    np.savez(folder / "plain.npz", x=IMAGES, y=LABELS)
    np.savez_compressed(folder / "packed.npz", Train_Images=IMAGES, train_labels=LABELS[:, None], test_images=IMAGES)
    np.savez(folder / "named.npz", inputs=IMAGES, targets=LABELS, class_names=np.array(["a", "b\n", "c", "d", "e"]))
    return folder


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def tensor(data: Dataset, start: int, stop: int) -> torch.Tensor:
    batch = data.batch(start, stop)
    assert isinstance(batch, torch.Tensor)
    return batch


def test_bytes_are_scaled_to_one(base: Path) -> None:
    data = open_dataset("npz:plain.npz", base=base)
    assert (20, 4, ("0", "1", "2", "3")) == (data.n_samples, data.n_classes, data.class_names)
    np.testing.assert_array_equal(LABELS, data.labels)
    expected = torch.from_numpy(IMAGES[3:7].astype(np.float32)) / 255
    assert torch.equal(expected, tensor(data, 3, 7))


@pytest.mark.parametrize(
    ("normalize", "shape"),
    [(((0.25,), (0.5,)), (1, 1, 1)), (((0.1, 0.2, 0.3), (1.0, 2.0, 3.0)), (3, 1, 1)), (((0.0,), (1.0,)), (1, 1, 1))],
)
@pytest.mark.parametrize("kind", [np.uint8, np.float32, np.float64])
def test_normalisation_comes_last(normalize: Normalisation, shape: tuple[int, ...], kind: type[np.generic]) -> None:
    images = RNG.integers(0, 256, (6, 3, 4, 5)).astype(kind)
    data = from_arrays(images, [0, 1] * 3, normalize=normalize)
    mean, deviation = (np.array(numbers).reshape(shape) for numbers in normalize)
    expected = (images / (255 if kind is np.uint8 else 1) - mean) / deviation
    np.testing.assert_allclose(expected, tensor(data, 0, 6).numpy(), rtol=ROUNDING, atol=ROUNDING)
    assert tensor(data, 0, 6).dtype == (torch.float64 if kind is np.float64 else torch.float32)


@pytest.mark.parametrize("kind", ["int8", "int16", ">i4", "int64", "uint16", "uint32"])
def test_tokens_stay_what_they_are(kind: str) -> None:
    tokens = np.arange(12).reshape(4, 3).astype(kind)
    batch = tensor(from_arrays(tokens, [0, 1, 0, 1]), 0, 4)
    assert batch.dtype == torch.int64
    np.testing.assert_array_equal(tokens, batch.numpy())


@pytest.mark.parametrize("kind", ["float16", "float32", "float64", ">f4"])
def test_floats_stay_as_stored(kind: str) -> None:
    values = RNG.normal(size=(4, 3)).astype(kind)
    batch = tensor(from_arrays(values, [0, 1, 0, 1]), 1, 3)
    assert str(batch.dtype) == "torch." + np.dtype(kind).newbyteorder("=").name
    np.testing.assert_array_equal(values[1:3], batch.numpy())


@pytest.mark.parametrize("kind", [np.uint8, np.float32, np.int64])
def test_a_batch_is_fresh_when_a_model_changes_it(kind: type[np.generic]) -> None:
    data = from_arrays(RNG.integers(1, 9, (4, 3)).astype(kind), [0, 1, 0, 1])
    first = tensor(data, 0, 4)
    kept = first.clone()
    first.zero_()
    assert torch.equal(kept, tensor(data, 0, 4))


@given(st.lists(st.integers(1, 19), max_size=4))
def test_batch_size_does_not_affect_the_samples(cuts: list[int]) -> None:
    data = from_arrays(IMAGES, LABELS)
    edges = [0, *sorted(set(cuts)), 20]
    pieces = [tensor(data, a, b) for a, b in itertools.pairwise(edges)]
    assert torch.equal(tensor(data, 0, 99), torch.cat(pieces))


@pytest.mark.parametrize("spec", ["npz:packed.npz", "npz:named.npz"])
def test_one_content_has_one_fingerprint_however_it_is_stored(spec: str, base: Path) -> None:
    assert open_dataset("npz:plain.npz", base=base).fingerprint == open_dataset(spec, base=base).fingerprint


def test_fingerprint_of_rows_read_one_by_one_is_that_of_arrays(base: Path) -> None:
    prints = {open_dataset(f"userdata:{name}", base=base).fingerprint for name in ("pair", "arrays", "mapped")}
    assert len(prints) == 1


@given(st.sampled_from([1, 3, 7, 19, 20, 50]))
def test_block_size_does_not_affect_the_fingerprint(block: int) -> None:
    expected = from_arrays(IMAGES, LABELS).fingerprint
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "SURVEYED", block)
        assert expected == from_arrays(IMAGES, LABELS).fingerprint


@pytest.mark.parametrize(
    "other",
    [
        lambda: from_arrays(IMAGES[:19], LABELS[:19]),
        lambda: from_arrays(IMAGES, (LABELS + 1) % 4),
        lambda: from_arrays(IMAGES[::-1], LABELS),
        lambda: from_arrays(IMAGES.reshape(20, 4, 5), LABELS),
        lambda: from_arrays(IMAGES.astype(np.int64), LABELS),
        lambda: from_arrays(IMAGES, LABELS, normalize=((0.0,), (1.0,))),
        lambda: from_arrays({"x": IMAGES}, LABELS),
    ],
)
def test_fingerprint_differs_when_anything_does(other: Callable[[], Dataset]) -> None:
    assert from_arrays(IMAGES, LABELS).fingerprint != other().fingerprint


def test_class_names_are_kept_and_made_printable(base: Path) -> None:
    assert open_dataset("npz:named.npz", base=base).class_names == ("a", "b\ufffd", "c", "d", "e")
    assert open_dataset("userdata:named", base=base).class_names == ("cat", "dog", "<b>\ufffd[2J", "=cmd", "owl")


def test_a_dict_of_inputs_stays_a_dict(base: Path) -> None:
    data = open_dataset("userdata:named", base=base)
    batch = data.batch(2, 4)
    assert isinstance(batch, dict)
    assert torch.equal(torch.tensor([[2, 1], [3, 1]]), batch["ids"])
    assert batch["mask"].dtype == torch.bool


def test_rows_of_arrays_become_tensors(base: Path) -> None:
    assert torch.equal(torch.full((1, 3), 4.0), tensor(open_dataset("userdata:numpy_items", base=base), 4, 5))


@pytest.mark.parametrize("dots", [True, False])
@pytest.mark.parametrize("packed", [(), ("images",), ("images", "labels")])
def test_mnists_files_are_read_plain_or_packed(dots: bool, packed: tuple[str, ...], tmp_path: Path) -> None:
    for what, dims, array in (("images", 3, IMAGES), ("labels", 1, LABELS)):
        name = f"train-{what}{'.' if dots else '-'}idx{dims}-ubyte"
        data = idx(array)
        (tmp_path / (name + ".gz" if what in packed else name)).write_bytes(
            gzip.compress(data) if what in packed else data
        )
        (tmp_path / name.replace("train", "t10k")).write_bytes(b"not read")
    opened = open_dataset(f"idx:{tmp_path}")
    assert tensor(opened, 0, 20).shape == (20, 1, 5, 4)
    assert from_arrays(IMAGES[:, None], LABELS).fingerprint == opened.fingerprint


def test_a_file_that_lies_there_twice_is_read_once(tmp_path: Path) -> None:
    for name, array in (("train-images-idx3-ubyte", IMAGES), ("train-labels-idx1-ubyte", LABELS)):
        (tmp_path / name).write_bytes(idx(array))
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
    assert open_dataset("idx:.", base=tmp_path).n_samples == 20
    (tmp_path / "emnist-train-labels-idx1-ubyte").write_bytes(idx(LABELS))
    with pytest.raises(DataError, match="several files could be used"):
        open_dataset("idx:.", base=tmp_path)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("drawn", "first samples differ when read twice"),
        ("ragged", "row 6 differs in shape or type"),
        ("pictures", "row 0: a str, not a tensor"),
        ("broken", "userdata:broken, row 4 failed: ZeroDivisionError"),
        ("floats", "labels are float64, though whole numbers"),
        ("wide", r"labels of shape \(1, 5\)"),
        ("beyond", "label 5 in row 7, but there are 5 class names"),
        ("loader", "return its dataset"),
        ("stream", "expected .inputs, labels. or a map-style dataset"),
        ("nothing", "holds no samples"),
    ],
)
def test_code_that_gives_no_usable_data_is_one_line(name: str, problem: str, base: Path) -> None:
    with pytest.raises(DataError, match=problem) as caught:
        open_dataset(f"userdata:{name}", base=base)
    assert "\n" not in str(caught.value)


def test_a_function_that_is_not_there_is_a_mistake_of_the_command(base: Path) -> None:
    with pytest.raises(UsageError, match="userdata:absent: userdata has no absent"):
        open_dataset("userdata:absent", base=base)


@pytest.mark.parametrize("spec", ["", "mnist", "npz:", ":f", "https://x.org/a.npz"])
def test_a_spec_that_names_nothing_is_refused(spec: str) -> None:
    with pytest.raises(
        (DataError, UsageError), match=r"expected npz:FILE, idx:DIR or module:function|not written as module:function"
    ):
        open_dataset(spec)


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        (LABELS.astype(float), r"labels are float64, though whole numbers; convert them: .astype"),
        (LABELS + 0.5, "labels are float64, not class numbers"),
        (LABELS.astype(str), "labels are <U21, not class numbers"),
        (LABELS > 1, "labels are bool, not class numbers"),
        (np.eye(4)[LABELS], r"labels of shape \(20, 4\); .*one-hot"),
        (LABELS - 1, "label -1 in row 0"),
        (np.where(np.arange(20) == 11, 10**9, LABELS), "label 1000000000 in row 11"),
        (np.full(20, 2**64 - 1, dtype=np.uint64), "label 18446744073709551615 in row 0"),
        (np.full(20, 3), "all 20 samples are of class 3"),
        (LABELS[:19], "19 labels, but inputs of shape"),
        ([[0], [1, 2]], "rows do not have one length"),
    ],
)
def test_labels_that_number_no_classes_are_refused(labels: object, problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        from_arrays(IMAGES, labels)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_the_first_row_that_is_not_finite_is_named(wrong: float) -> None:
    values = np.zeros((1500, 2, 3), dtype=np.float32)
    values[[1201, 1300], 1, 2] = wrong
    with pytest.raises(DataError, match="row 1201 holds NaN or inf"):
        from_arrays(values, np.arange(1500) % 2)
    with pytest.raises(DataError, match="row 1201 holds NaN or inf in pixels"):
        from_arrays({"pixels": values}, np.arange(1500) % 2)


@pytest.mark.parametrize(
    ("inputs", "problem"),
    [
        (np.zeros(20, dtype=complex), "inputs are complex128"),
        (np.array(["a"] * 20), "inputs are <U1"),
        (np.zeros((20, 2), dtype=[("a", "f4")]), "save them as float32"),
        (np.float32(3), "inputs of shape"),
        (torch.eye(20).to_sparse(), "give dense"),
        ("a picture", "a str, not a tensor"),
    ],
)
def test_inputs_that_no_model_takes_are_refused(inputs: object, problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        from_arrays(inputs, LABELS)


@pytest.mark.parametrize(
    ("normalize", "problem"),
    [
        (((0.0,), (0.0,)), "cannot normalise"),
        (((0.0,), (-1.0,)), "cannot normalise"),
        (((float("nan"),), (1.0,)), "cannot normalise"),
        (((0.0, 0.0), (1.0, 1.0)), "2 means and 2 deviations for 5 channels"),
        (((0.0,) * 4, (1.0,) * 4), "channels come first"),
        (((0.0,), (1.0, 1.0)), "1 means and 2 deviations"),
    ],
)
def test_a_normalisation_that_does_not_fit_is_refused(normalize: Normalisation, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        from_arrays(IMAGES, LABELS, normalize=normalize)


def test_tokens_are_not_normalised() -> None:
    with pytest.raises(UsageError, match=r"nothing to normalise in inputs of torch\.int64"):
        from_arrays(IMAGES.astype(np.int64), LABELS, normalize=((0.0,), (1.0,)))


def test_one_sample_and_empty_classes_are_no_error() -> None:
    data = from_arrays(IMAGES[:3], [0, 3, 3])
    assert (3, 4) == (data.n_samples, data.n_classes)


@pytest.mark.parametrize("stored", [np.uint8, np.float64])
def test_batch_comes_in_the_type_of_the_model(tmp_path: Path, stored: type[np.generic]) -> None:
    inputs = np.arange(12).reshape(6, 2).astype(stored)
    np.savez(tmp_path / "data.npz", inputs=inputs, labels=np.arange(6) % 2)
    dataset = open_dataset(f"npz:{tmp_path / 'data.npz'}", normalize=((0.5,), (0.25,)))
    batch = replace(dataset, floats=torch.float32).batch(0, 6)
    assert isinstance(batch, torch.Tensor)
    assert torch.float32 == batch.dtype
    scaled = inputs / 255 if stored is np.uint8 else inputs
    np.testing.assert_allclose(batch.numpy(), (scaled - 0.5) / 0.25, rtol=1e-6)
