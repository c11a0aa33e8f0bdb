"""Two passes over chunks: any chunking, any type, either library, and sources that misbehave."""

import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Event, Thread

import numpy as np
import pytest
import torch
from helpers import chunked, naive_means, naive_nearest, nearest_of, random_layer, simplex_layer
from hypothesis import given, settings
from hypothesis import strategies as st

from ncscan.errors import DataError
from ncscan.metrics.evaluate import LayerView
from ncscan.metrics.layers.variability import nc1_pinv, nc1_trace
from ncscan.statistics.accumulation.careful import careful
from ncscan.statistics.accumulation.gram import in_column_blocks, symmetric_product
from ncscan.statistics.accumulation.options import AccumulationOptions
from ncscan.statistics.accumulation.parallel import in_threads
from ncscan.statistics.accumulation.passes import layer_stats
from ncscan.statistics.layer_stats import LayerStats
from ncscan.statistics.simplex_etf import nearest_simplex

ROUNDING = 1e-12
FLOAT32 = 1e-5  # projections in float32: 1e-7, over sums of some thousand


def assert_same(one: LayerStats, other: LayerStats, tolerance: float = ROUNDING) -> None:
    assert np.array_equal(nearest_of(one), nearest_of(other))
    assert np.array_equal(one.counts, other.counts)
    assert one.means == pytest.approx(other.means, rel=tolerance, abs=tolerance)
    assert one.within == pytest.approx(other.within, rel=tolerance)
    assert one.projected == pytest.approx(other.projected, rel=tolerance, abs=tolerance * one.within.sum())


@settings(max_examples=30, deadline=None)
@given(size=st.integers(1, 50), seed=st.integers(0, 100))
def test_chunk_size_does_not_affect_the_sums(size: int, seed: int) -> None:
    features, labels = random_layer(seed=seed)
    assert_same(
        layer_stats(lambda: chunked(features, size), labels, 4), layer_stats(lambda: chunked(features, 36), labels, 4)
    )


def test_a_chunk_is_cut_into_blocks_when_it_is_large() -> None:
    features, labels = random_layer(4, 300, 1500)
    stats = layer_stats(lambda: [(0, features)], labels, 4)
    assert stats.batches > 1
    assert_same(stats, layer_stats(lambda: chunked(features, 100), labels, 4), 1e-11)


def test_sums_are_those_of_numpy() -> None:
    features, labels = random_layer(3, 5, (4, 1, 30))
    stats = layer_stats(lambda: chunked(features), labels, 3)
    M = naive_means(features, labels)
    assert stats.means == pytest.approx(M, rel=ROUNDING)
    assert stats.within == pytest.approx([((features[labels == c] - M[c]) ** 2).sum() for c in range(3)], rel=ROUNDING)
    assert stats.basis @ stats.basis.T == pytest.approx(np.eye(2), abs=ROUNDING)
    X = (features - M[labels]) @ stats.basis.T
    assert stats.projected == pytest.approx(X.T @ X, rel=ROUNDING, abs=1e-12)
    assert stats.total_square == pytest.approx((features**2).sum(), rel=ROUNDING)


def test_norms_and_zeros_are_those_of_numpy_however_it_is_cut() -> None:
    features, labels = random_layer(3, 5, (4, 1, 30))
    features = np.maximum(features, 0.0)
    features[3] = 0.0
    norms = np.linalg.norm(features, axis=1)
    for size in (1, 7, 35):
        stats = layer_stats(partial(chunked, features, size), labels, 3)
        assert stats.zeros == (features == 0).sum()
        assert stats.norms.count == 35
        assert stats.norms.mean == pytest.approx(norms.mean(), rel=ROUNDING)
        assert stats.norms.spread == pytest.approx(((norms - norms.mean()) ** 2).sum(), rel=ROUNDING)


def test_the_spread_of_norms_keeps_its_digits_when_all_are_long() -> None:
    norms = 1e8 + np.arange(4.0)
    stats = layer_stats(lambda: chunked(norms[:, None] * np.eye(1, 3), 1), np.array([0, 1, 0, 1]), 2)
    assert stats.norms.spread == 5.0


def test_errors_of_the_nearest_simplex_are_counted_per_class() -> None:
    features, labels = random_layer(3, 5, (4, 9, 30))
    W = np.random.default_rng(1).standard_normal((3, 5))
    stats = layer_stats(lambda: chunked(features), labels, 3, AccumulationOptions(classifier=W))
    decided = np.argmax(features @ nearest_simplex(W).T, axis=1)
    assert stats.swap_errors is not None
    assert stats.swap_errors.tolist() == [int((decided != labels)[labels == c].sum()) for c in range(3)]
    assert layer_stats(lambda: chunked(features), labels, 3).swap_errors is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_float_type_is_measured_as_stored(dtype: torch.dtype) -> None:
    features, labels = random_layer(4, 6, 20)
    stored = torch.from_numpy(features).to(dtype)
    stats = layer_stats(lambda: [(0, stored)], labels, 4)
    assert stats.precision == str(dtype).removeprefix("torch.")
    assert_same(stats, layer_stats(lambda: chunked(stored.double().numpy()), labels, 4))


def test_numpy_and_torch_chunks_give_the_same() -> None:
    features, labels = random_layer()
    assert_same(
        layer_stats(lambda: chunked(features), labels, 4),
        layer_stats(lambda: ((i, torch.from_numpy(c)) for i, c in chunked(features)), labels, 4),
        0.0,
    )


def test_precision_is_what_the_dump_says_when_it_is_read_as_float32() -> None:
    features, labels = random_layer()
    assert (
        layer_stats(lambda: chunked(features), labels, 4, AccumulationOptions(precision="bfloat16")).precision
        == "bfloat16"
    )


def test_read_only_and_strided_chunks_are_read() -> None:
    features, labels = random_layer()
    frozen, wide = features.copy(), np.repeat(features, 2, axis=1)
    frozen.flags.writeable = False
    one = layer_stats(lambda: chunked(features), labels, 4)
    assert_same(one, layer_stats(lambda: chunked(frozen), labels, 4), 0.0)
    assert_same(one, layer_stats(lambda: chunked(wide[:, ::2]), labels, 4), 0.0)
    assert np.array_equal(features, frozen)


def test_chunks_are_left_as_they_were() -> None:
    features, labels = random_layer()
    before = features.copy()
    layer_stats(lambda: [(0, features)], labels, 4, AccumulationOptions(classifier=np.eye(4, 6), negative_part=True))
    assert np.array_equal(features, before)


def test_products_in_float32_keep_collapsed_layers_apart_from_their_means() -> None:
    features, labels = simplex_layer(4, 20, 1.0, 1e-10)
    shifted = features + 1000
    views = [
        LayerView(layer_stats(lambda: chunked(shifted), labels, 4, AccumulationOptions(products=p)))
        for p in (None, torch.float32)
    ]
    assert nc1_pinv(views[1]) == pytest.approx(nc1_pinv(views[0]), rel=FLOAT32)
    assert nc1_trace(views[1]) == pytest.approx(nc1_trace(views[0]), rel=FLOAT32)
    assert np.array_equal(nearest_of(views[1].stats), nearest_of(views[0].stats))


@pytest.fixture
def chosen() -> Iterator[tuple[str, int]]:
    """What the program around us chose of torch's settings: others than ours."""
    before = torch.get_float32_matmul_precision(), torch.get_num_threads()
    torch.set_float32_matmul_precision("medium")
    torch.set_num_threads(2)
    yield "medium", 2
    torch.set_float32_matmul_precision(before[0])
    torch.set_num_threads(before[1])


def of_torch() -> tuple[str, int]:
    return torch.get_float32_matmul_precision(), torch.get_num_threads()


def test_float32_is_multiplied_as_float32_whatever_the_program_chose(chosen: tuple[str, int]) -> None:
    features, labels = random_layer()
    seen = []

    def chunks() -> Iterator[tuple[int, np.ndarray]]:
        for chunk in chunked(features):
            seen.append(of_torch())
            yield chunk

    layer_stats(chunks, labels, 4)
    assert set(seen) == {("highest", 1)}
    assert of_torch() == chosen


def test_settings_of_the_process_change_once_for_all_layers(
    chosen: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    features, labels = random_layer()
    torch.set_num_threads(1)  # one lane: layers follow each other, and none finds the settings of another
    made = list[str | int]()

    def recorded(name: str) -> Callable[[str | int], None]:
        make = getattr(torch, name)
        return lambda to: (made.append(to), make(to))[1]  # type: ignore[func-returns-value]

    for name in ("set_float32_matmul_precision", "set_num_threads"):
        monkeypatch.setattr(torch, name, recorded(name))
    layer_stats(lambda: chunked(features, 2), labels, 4)
    assert made == ["highest", 1, 1, chosen[0]]
    made.clear()
    with in_threads(lambda size: layer_stats(lambda: chunked(features, size), labels, 4), range(1, 9)) as found:
        assert {stats.n_samples for stats in found} == {len(labels)}
    assert made == ["highest", 1, 1, 1, chosen[0]]  # once for the eight, and once in the thread that has them all


def test_each_thread_has_its_own_number_of_threads_back(chosen: tuple[str, int]) -> None:
    """Whoever enters first, and whoever leaves last."""
    inside, leave = Event(), Event()
    seen = []

    def other() -> None:
        with careful():
            inside.set()
            leave.wait()
        seen.append(of_torch())

    thread = Thread(target=other)
    with careful():
        thread.start()
        inside.wait()
    assert of_torch() == ("highest", chosen[1])  # the other one still multiplies
    leave.set()
    thread.join()
    assert [chosen, chosen] == [*seen, of_torch()]


def test_a_result_that_was_given_is_not_kept() -> None:
    """Statistics of all layers together may not fit into memory."""
    with in_threads(lambda size: np.zeros(size), range(1, 5)) as found:
        given = [weakref.ref(array) for array in found]
        assert [None] * 3 == [array() for array in given[:3]]


def test_settings_hold_until_the_last_of_several_passes_ends(chosen: tuple[str, int]) -> None:
    """One that ends earlier must not take them from one that began while it went on."""
    features, labels = random_layer()
    first_is_inside, second_is_inside, first_is_done = (Event() for _ in range(3))

    def early() -> Iterator[tuple[int, np.ndarray]]:
        first_is_inside.set()
        assert second_is_inside.wait(60)
        yield 0, features

    def late() -> Iterator[tuple[int, np.ndarray]]:
        second_is_inside.set()
        assert first_is_done.wait(60)
        seen.append(torch.get_float32_matmul_precision())
        yield 0, features

    seen = list[str]()
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(layer_stats, early, labels, 4)
        assert first_is_inside.wait(60)
        second = threads.submit(layer_stats, late, labels, 4)
        first.result()
        first_is_done.set()
        second.result()
    assert set(seen) == {"highest"}
    assert torch.get_float32_matmul_precision() == chosen[0]


@pytest.mark.parametrize("d", [5, 128, 300, 1100])
def test_symmetric_products_are_the_upper_triangle_with_and_without_blas(d: int) -> None:
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((20, d)))
    expected = torch.triu(x.T @ x)
    for product in (symmetric_product, in_column_blocks):
        torch.testing.assert_close(product(x, torch.zeros(d, d, dtype=x.dtype)), expected)


def test_offsets_of_a_million_cost_no_more_than_their_digits() -> None:
    features, labels = random_layer(4, 6, 50)
    shifted = layer_stats(lambda: chunked(features + 1e6), labels, 4)
    assert shifted.within == pytest.approx(layer_stats(lambda: chunked(features), labels, 4).within, rel=1e-9)
    assert nearest_of(shifted).sum(axis=1).tolist() == [50] * 4
    assert np.trace(nearest_of(shifted)) == (naive_nearest(features, labels) == labels).sum()


Source = Callable[[], Iterable[tuple[int, np.ndarray]]]


def second_time(change: Callable[[np.ndarray], np.ndarray]) -> tuple[Source, np.ndarray]:
    """A source that gives changed features from the second time on."""
    features, labels = random_layer(4, 6, 50)
    calls = []

    def chunks() -> Iterable[tuple[int, np.ndarray]]:
        calls.append(1)
        return chunked(features if len(calls) == 1 else change(features), 40)

    return chunks, labels


@pytest.mark.parametrize(
    "change",
    [
        lambda z: z[np.random.default_rng(0).permutation(len(z))],
        lambda z: z + 1e-6 * np.random.default_rng(0).standard_normal(z.shape),
        lambda z: np.concatenate([z[:-1], z[:1]]),
        lambda z: np.maximum(z, 0),
    ],
    ids=["shuffled", "augmented", "one sample another", "changed in place"],
)
def test_the_second_pass_refuses_other_activations(change: Callable[[np.ndarray], np.ndarray]) -> None:
    chunks, labels = second_time(change)
    with pytest.raises(DataError, match=r"second pass saw other activations.*shuffles, augments"):
        layer_stats(chunks, labels, 4)


def test_the_second_pass_bears_a_last_digit_when_activations_are_float32() -> None:
    features, labels = random_layer(4, 6, 50)
    stored = features.astype(np.float32)
    calls = []

    def chunks() -> Iterable[tuple[int, np.ndarray]]:
        calls.append(1)
        jitter = np.random.default_rng(0).choice([-np.inf, np.inf], stored.shape).astype(np.float32)
        return chunked(stored if len(calls) == 1 else np.nextafter(stored, jitter))

    assert layer_stats(chunks, labels, 4).n_samples == 200


def test_missing_rows_are_refused() -> None:
    features, labels = random_layer()
    with pytest.raises(DataError, match="36 labels for 30 rows"):
        layer_stats(lambda: chunked(features[:30]), labels, 4)
    with pytest.raises(DataError, match="36 labels for 0 rows"):
        layer_stats(list, labels, 4)


def test_too_many_rows_are_refused() -> None:
    features, labels = random_layer()
    with pytest.raises(DataError, match="go on to row 36, but there are 30 labels"):
        layer_stats(lambda: [(0, features)], labels[:30], 4)


def test_rows_of_another_width_are_refused() -> None:
    features, labels = random_layer()
    with pytest.raises(DataError, match="row 7 has 5 features where earlier rows have 6"):
        layer_stats(lambda: [(0, features[:7]), (7, features[7:, :5])], labels, 4)


def test_maps_that_are_no_vectors_are_refused() -> None:
    with pytest.raises(DataError, match=r"shape \(4, 2, 2\)"):
        layer_stats(lambda: [(0, np.ones((4, 2, 2)))], np.arange(4), 4)


@pytest.mark.parametrize("label", [-1, 4])
def test_labels_out_of_range_are_refused(label: int) -> None:
    features, labels = random_layer()
    labels[11] = label
    with pytest.raises(DataError, match=f"label of sample 11 is {label}, but there are 4 classes"):
        layer_stats(lambda: chunked(features), labels, 4)


def test_no_samples_are_refused() -> None:
    with pytest.raises(DataError, match="no samples"):
        layer_stats(list, np.zeros(0, dtype=np.int64), 4)


def test_the_second_pass_is_spared_when_activations_are_not_finite() -> None:
    features, labels = random_layer()
    features[0, 0] = np.nan
    calls = []

    def chunks() -> Iterable[tuple[int, np.ndarray]]:
        calls.append(1)
        return chunked(features)

    assert layer_stats(chunks, labels, 4).obstacle
    assert len(calls) == 1
