"""Class by class, pair by pair, and the maps of a linear head."""

from dataclasses import replace

import numpy as np
import pytest
from helpers import chain, naive_centred, naive_means, random_layer, stats_of, view_of
from metric_oracles import cosine, nearest

from ncscan.errors import Undefined
from ncscan.metrics.evaluate import (
    CLASS_METRICS,
    Classifier,
    ClassRow,
    LayerView,
    class_rows,
    head_classifiers,
    readers,
)
from ncscan.metrics.layers.imbalance import imbalance

ROUNDING = 1e-10


def by_place(rows: list[ClassRow]) -> dict[tuple[str, int, int | None], ClassRow]:
    return {(r.metric, r.class_index, r.other_index): r for r in rows}


def test_class_rows_are_the_formulas() -> None:
    Z, y = random_layer(4, 6, (9, 20, 30, 12), noise=0.8)
    W = np.random.default_rng(0).standard_normal((4, 6))
    M, C, wrong = naive_means(Z, y), naive_centred(Z, y), nearest(Z, y) != y
    rows = by_place(class_rows(view_of(Z, y, W=W)))
    v = [float(((Z[y == c] - M[c]) ** 2).sum(axis=1).mean()) for c in range(4)]
    for c in range(4):
        assert rows["class_samples", c, None].value == (y == c).sum()
        assert rows["class_variance", c, None].value == pytest.approx(v[c], rel=ROUNDING)
        assert rows["class_norm", c, None].value == pytest.approx(np.linalg.norm(C[c]), rel=ROUNDING)
        assert rows["ncc_error", c, None].value == pytest.approx(wrong[y == c].mean(), rel=ROUNDING)
        assert rows["nc3_class_cosine", c, None].value == pytest.approx(cosine(W[c], C[c]), rel=ROUNDING)
        for d in {0, 1, 2, 3} - {c}:
            assert rows["nc3_pair_cosine", c, d].value == pytest.approx(cosine(W[c], C[d]), rel=ROUNDING)
        for d in range(c + 1, 4):
            apart = np.linalg.norm(M[c] - M[d])
            mixed = (nearest(Z, y)[y == c] == d).sum() + (nearest(Z, y)[y == d] == c).sum()
            assert rows["pair_cosine", c, d].value == pytest.approx(cosine(C[c], C[d]), rel=ROUNDING)
            assert rows["pair_distance", c, d].value == pytest.approx(apart, rel=ROUNDING)
            assert rows["pair_cdnv", c, d].value == pytest.approx((v[c] + v[d]) / (2 * apart**2), rel=ROUNDING)
            assert rows["pair_confusion", c, d].value == pytest.approx(mixed / np.isin(y, [c, d]).sum(), rel=ROUNDING)


def test_every_class_and_pair_has_a_row_of_each() -> None:
    Z, y = random_layer(4, 6)
    view = view_of(Z, y, W=np.eye(4, 6))
    rows = class_rows(replace(view, stats=replace(view.stats, disagreements=np.zeros(4, dtype=np.int64))))
    assert len(by_place(rows)) == len(rows) == 4 * 6 + 6 * 4 + 12
    assert {r.metric for r in rows} == {m.name for m in CLASS_METRICS}
    ordered = {m.name for m in CLASS_METRICS if m.ordered}
    assert all(r.other_index is None or r.class_index < r.other_index or r.metric in ordered for r in rows)


def test_a_class_without_samples_has_no_rows_and_changes_none() -> None:
    Z, y = random_layer(3, 6)
    there = by_place(class_rows(LayerView(stats_of(Z, np.array([1, 4, 6])[y], K=9), decisions_obstacle="no logits")))
    alone = by_place(class_rows(LayerView(stats_of(Z, y), decisions_obstacle="no logits")))
    label = [1, 4, 6]
    assert len(there) == len(alone)
    for (metric, c, other), row in alone.items():
        moved = there[metric, label[c], None if other is None else label[other]]
        assert (moved.value, moved.reason) == (row.value, row.reason)


def test_a_class_of_one_sample_has_reasons_instead_of_zeros() -> None:
    Z, y = random_layer(4, 6, (7, 1, 5, 6))
    view = LayerView(stats_of(Z, y))
    rows = by_place(class_rows(replace(view, stats=replace(view.stats, disagreements=np.zeros(4, dtype=np.int64)))))
    assert all((r.value is None) == bool(r.reason) for r in rows.values())
    for metric in ("class_variance", "ncc_error", "nc4_mismatch"):
        assert rows[metric, 1, None].reason == "the class has one sample, which is its own mean"
        assert rows[metric, 0, None].value is not None
    assert rows["class_samples", 1, None].value == 1
    assert rows["class_norm", 1, None].value is not None
    assert rows["pair_distance", 0, 1].value is not None
    assert "one sample" in rows["pair_cdnv", 0, 1].reason
    assert rows["pair_cdnv", 0, 2].value is not None
    found = imbalance(view)
    assert isinstance(found, dict)
    for quantity in ("variance_minority", "error_minority", "cosine_minority"):
        assert isinstance(found[quantity], Undefined)
    for quantity in ("norm_minority", "variance_majority", "error_majority"):
        assert isinstance(found[quantity], float)


def test_pairs_are_left_out_when_there_are_too_many() -> None:
    rows = class_rows(view_of(*random_layer(101, 5, 2)))
    assert {r.other_index for r in rows} == {None}


def test_activations_that_are_not_finite_give_reasons() -> None:
    Z, y = random_layer()
    Z[3, 2] = np.nan
    rows = class_rows(view_of(Z, y))
    assert {(r.value, r.reason) for r in rows} == {(None, "1 samples have non-finite activations, first in sample 3")}


def test_every_layer_of_a_linear_head_has_the_map_from_it_to_the_logits() -> None:
    rng = np.random.default_rng(0)
    graph = chain([(6, 5), (7, 6), (4, 7)], [("activation",), ()], head=2)
    weights = {
        str(i): (rng.standard_normal(s), rng.standard_normal(s[0])) for i, s in enumerate([(6, 5), (7, 6), (4, 7)])
    }
    found = head_classifiers(graph, weights)
    assert {tap: c.name for tap, c in found.items()} == {"0": "1..2", "1": "2"}
    z = rng.standard_normal(6)
    (W1, b1), (W2, b2) = weights["1"], weights["2"]
    whole = found["0"]
    assert whole.bias is not None
    assert whole.weight @ z + whole.bias == pytest.approx(W2 @ (W1 @ z + b1) + b2, rel=1e-12)
    assert found["1"].bias is not None
    assert np.array_equal(found["1"].weight, W2)


def test_a_head_without_biases_has_none() -> None:
    graph = chain([(6, 5), (4, 6)], [()], head=2)
    weights = {"0": (np.ones((6, 5), np.float32), None), "1": (np.ones((4, 6), np.float32), None)}
    found = head_classifiers(graph, weights)
    assert {c.bias is None for c in found.values()} == {True}
    assert found["input"].weight.dtype == np.float64


def test_there_is_no_classifier_when_the_last_map_does_not_write_the_logits() -> None:
    graph = chain([(6, 5), (4, 6)], [()], head=2)
    weights = {"0": (np.ones((6, 5)), None), "1": (np.ones((9, 6)), None)}
    assert head_classifiers(graph, weights) == {}
    assert head_classifiers(replace(graph, head=()), weights) == {}


def test_every_matrix_that_reads_a_layer_is_a_reader() -> None:
    graph = chain([(6, 5), (4, 6)], [("activation",)])
    weights = {"0": (np.ones((6, 5)), None), "1": (np.ones((4, 6)), None)}
    found = readers(graph, weights, 4)
    assert {tap: [r.name for r in maps] for tap, maps in found.items()} == {"input": ["0"], "0": ["1"]}
    assert {r.directions for maps in found.values() for r in maps} == {3}


def test_nc3_of_a_head_is_against_the_product() -> None:
    Z, y = random_layer(4, 6)
    rng = np.random.default_rng(1)
    W1, W2 = rng.standard_normal((7, 6)), rng.standard_normal((4, 7))
    classifier = head_classifiers(chain([(7, 6), (4, 7)], [()], head=2), {"0": (W1, None), "1": (W2, None)})["input"]
    expected = view_of(Z, y, W=W2 @ W1)
    assert isinstance(expected.classifier, Classifier)
    assert classifier.weight == pytest.approx(expected.classifier.weight, rel=1e-12)


@pytest.mark.parametrize(("size", "said"), [(1e-160, "too small"), (1e-300, "too small"), (1e160, "too large")])
def test_a_product_of_maps_that_leaves_float64_says_so(size: float, said: str) -> None:
    """Each map is finite and none is zero, whatever their product is in float64."""
    rng = np.random.default_rng(0)
    W1, W2 = size * rng.standard_normal((7, 6)), size * rng.standard_normal((4, 7))
    graph = chain([(7, 6), (4, 7)], [()], head=2)
    found = {tap: c.obstacle for tap, c in head_classifiers(graph, {"0": (W1, None), "1": (W2, None)}).items()}
    assert found == {"0": "", "input": f"the product of the classifier's maps is {said} for float64"}
    across = np.zeros((4, 7)), W1 / size
    zero = head_classifiers(graph, {"0": (across[1], None), "1": (across[0], None)})["input"]
    assert zero.obstacle == ""
