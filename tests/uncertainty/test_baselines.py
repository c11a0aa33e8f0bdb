"""Baselines: formulas against draws, permutations against the measures on data whose labels really were permuted."""

from functools import partial

import numpy as np
import pytest
from helpers import chunked, random_layer

from ncscan.metrics.evaluate import LayerView, key_of, measure
from ncscan.metrics.layers.class_means import etf_distance
from ncscan.statistics.accumulation.options import AccumulationOptions
from ncscan.statistics.accumulation.passes import layer_stats
from ncscan.uncertainty.chance import (
    CLOSED_FORMS,
    PERMUTED,
    Chance,
    is_chance,
    permutation_baseline,
    permuted_views,
    random_directions,
)

DRAWN = 0.03  # formulas hold for 1 ≪ K ≪ d, at K = 10 to two per cent; draws to one


@pytest.mark.parametrize(("K", "d"), [(10, 512), (10, 100), (30, 1000)])
@pytest.mark.parametrize("name", [name for name, _ in CLOSED_FORMS])
def test_formulas_are_what_gaussian_directions_read(name: str, K: int, d: int) -> None:
    formula = dict(CLOSED_FORMS)[name](K, d)
    drawn = random_directions(K, d)[name]
    assert formula == pytest.approx(drawn.value, rel=DRAWN)
    assert drawn.low is not None
    assert drawn.high is not None
    assert drawn.low < drawn.value < drawn.high


def test_formulas_are_those_of_the_contract_at_k_10_and_d_512() -> None:
    forms = {name: form(10, 512) for name, form in CLOSED_FORMS}
    assert [0.139, 0.350] == [round(forms[name], 3) for name in ("nc2_etf", "nc2_etf_w")]
    assert dict(CLOSED_FORMS)["nc2_etf_w"](10, 10**9) == pytest.approx(0.320364, abs=1e-6)


@pytest.mark.parametrize(("K", "d"), [(4, 50), (6, 9)])
def test_drawn_triangles_are_like_gaussian_vectors(K: int, d: int) -> None:
    rng = np.random.default_rng(0)
    naive = [etf_distance(m - m.mean(axis=0)) for m in rng.standard_normal((400, K, d))]
    drawn = random_directions(K, d)["nc2_etf"]
    assert np.mean(naive) == pytest.approx(drawn.value, rel=0.05)
    assert np.quantile(naive, 0.975) == pytest.approx(drawn.high, rel=0.1)


def test_two_classes_have_no_chance_of_a_centred_frame() -> None:
    assert "nc2_etf" not in random_directions(2, 40)


def permuted_layer(per_class: int | tuple[int, ...], P: int, offset: float = 0.0) -> tuple[LayerView, np.ndarray]:
    features, labels = random_layer(4, 6, per_class)
    features += offset
    stats = layer_stats(partial(chunked, features, 5), labels, 4, AccumulationOptions(permutations=P, seed=7))
    return LayerView(stats), features


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_permuted_sums_are_those_of_permuted_labels(offset: float) -> None:
    view, features = permuted_layer((5, 9, 14, 8), 3, offset)
    assert view.stats.permuted is not None
    labels = random_layer(4, 6, (5, 9, 14, 8))[1]
    rng = np.random.default_rng(7)
    for one in permuted_views(view, view.stats.permuted):
        shuffled = rng.permutation(labels)
        naive = measure(LayerView(layer_stats(partial(chunked, features), shuffled, 4)))
        own = {key_of(row): row.value for row in measure(one) if row.metric in PERMUTED}
        wanted = {key_of(row): row.value for row in naive if row.metric in PERMUTED}
        assert set(own) == set(wanted)
        for key, value in wanted.items():
            assert value == pytest.approx(own[key], rel=1e-9 if offset == 0 else 1e-6), key


def test_permuted_labels_read_samples_over_classes() -> None:
    features, labels = random_layer(5, 40, 100, noise=1.0)
    stats = layer_stats(partial(chunked, features, 64), labels, 5, AccumulationOptions(permutations=20))
    assert stats.permuted is not None
    found = permutation_baseline(LayerView(stats), stats.permuted)
    N, K = len(labels), 5
    assert (N - K) / (K - 1) == pytest.approx(found["nc1_trace", "", "class", ""].value, rel=0.1)
    value = next(row.value for row in measure(LayerView(stats)) if row.metric == "nc1_trace")
    assert value is not None
    assert not is_chance(value, found["nc1_trace", "", "class", ""], collapse=0.0)


def test_a_layer_without_classes_is_chance() -> None:
    rng = np.random.default_rng(1)
    features, labels = rng.standard_normal((400, 30)), np.repeat(np.arange(4), 100)
    stats = layer_stats(partial(chunked, features, 64), labels, 4, AccumulationOptions(permutations=40))
    assert stats.permuted is not None
    found = permutation_baseline(LayerView(stats), stats.permuted)
    rows = {key_of(row): row.value for row in measure(LayerView(stats))}
    for key in (("nc1_trace", "", "class", ""), ("nc2_etf", "", "class", "")):
        value = rows[key]
        assert value is not None
        assert is_chance(value, found[key], collapse=0.0)


def test_chance_has_two_sides() -> None:
    cosine = Chance(0.0, -0.1, 0.1)
    assert [False, True] == [is_chance(x, cosine, collapse=1.0) for x in (0.5, 0.05)]
    assert is_chance(1.5, Chance(1.4142, None, None), collapse=0.0)
