"""Everything beside a number at once: each row finds its own floor, interval, chance and estimate."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from helpers import chunked, random_layer

from ncscan.metrics.evaluate import Classifier, LayerView, measure
from ncscan.statistics.accumulation import gram
from ncscan.statistics.accumulation.options import AccumulationOptions
from ncscan.statistics.accumulation.passes import layer_stats
from ncscan.uncertainty.bootstrap import resamples
from ncscan.uncertainty.chance import permuted_views
from ncscan.uncertainty.evaluate import Honest, chance_levels, honest


def layer(noise: float = 0.5, dtype: str = "float32") -> LayerView:
    features, labels = random_layer(4, 30, (20, 30, 25, 40), noise=noise)
    W = np.random.default_rng(1).standard_normal((4, 30))
    stats = layer_stats(
        partial(chunked, features.astype(dtype)),
        labels,
        4,
        AccumulationOptions(classifier=W, decisions=labels, samples=True, permutations=20, negative_part=True),
    )
    return LayerView(stats, classifier=Classifier("head", W))


def by_key(found: list[Honest]) -> dict[tuple[str, str, str], Honest]:
    return {(one.row.metric, one.row.quantity, one.row.weighting): one for one in found}


def test_every_row_is_there_and_finds_its_own() -> None:
    view = layer()
    found = honest(view, resamples=40)
    assert measure(view) == [one.row for one in found]
    rows = by_key(found)
    for weighting in ("class", "sample"):
        trace = rows["nc1_trace", "", weighting]
        assert trace.row.value is not None
        assert trace.low is not None
        assert trace.high is not None
        assert trace.low < trace.high
        assert trace.floor is not None
        assert trace.at_floor is False
        assert trace.permuted is not None
        assert trace.is_chance is False
        assert trace.permuted.value > 5 * trace.row.value
    assert rows["nc2_etf", "", "class"].chance == chance_levels(4, 30)["nc2_etf"]
    assert rows["nc2_etf", "", "sample"].chance is None
    assert rows["nc3_distance", "", "class"].is_chance is True  # the classifier was drawn at random
    assert rows["nc3_cosine", "samples", ""].low is not None
    assert rows["feature_condition", "", ""].low is None


def test_a_collapsed_layer_is_at_its_floor() -> None:
    rows = by_key(honest(layer(noise=1e-9)))
    for metric, weighting in (
        ("nc1_trace", "class"),
        ("nc1_pinv", "sample"),
        ("nc1_normalized", "class"),
        ("cdnv", ""),
    ):
        assert rows[metric, "", weighting].at_floor is True
    assert rows["nc1_trace", "", "class"].low is None  # nobody asked for resamples
    coarse = np.full(30, 1e-3)
    floor = by_key(honest(layer(), arithmetic=coarse))["nc1_trace", "", "class"].floor
    assert floor is not None
    assert floor.source == "arithmetic"


def test_a_wide_layer_has_estimates_with_their_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = by_key(honest(layer(dtype="float64")))
    monkeypatch.setattr(gram, "WIDEST_GRAM", 20)
    rows = by_key(honest(layer(dtype="float64")))
    for metric, quantity in (
        ("stable_rank", ""),
        ("participation_ratio", ""),
        ("numerical_rank", ""),
        ("negativity", "op"),
    ):
        own, true = rows[metric, quantity, ""], exact[metric, quantity, ""].row.value
        assert own.row.estimate
        assert own.low is not None
        assert true == pytest.approx(own.row.value, rel=1e-9)  # 30 features fit into 64 columns
        assert own.low <= (own.row.value or 0.0) * (1 + 1e-9)
    assert rows["feature_condition", "", ""].row.reason == "tail not resolved"
    assert rows["feature_condition", "", ""].row.value is None


def test_many_classes_have_their_chance_by_formula() -> None:
    level = chance_levels(1000, 2048)["nc2_etf"]
    assert level.low is None
    assert np.sqrt(2 - 2 / np.sqrt(1 + 1000 / 2048)) == pytest.approx(level.value)


def test_a_broken_layer_has_reasons_and_nothing_beside() -> None:
    features, labels = random_layer()
    features[0, 0] = np.nan
    stats = layer_stats(partial(chunked, features), labels, 4, AccumulationOptions(samples=True, permutations=2))
    for one in honest(LayerView(stats), resamples=3):
        assert one == Honest(one.row)
        assert one.row.value is None


def test_resamples_and_permutations_have_the_tolerance_of_what_is_stored() -> None:
    view = layer(dtype="float16")
    assert view.stats.samples is not None
    assert view.stats.permuted is not None
    copies = [*resamples(view, view.stats.samples, 2, 0), *permuted_views(view, view.stats.permuted)]
    assert len(copies) == 22
    for copy in copies:
        assert copy.stats.tolerance == view.stats.tolerance
        assert (
            replace(copy.stats, resolution=None).tolerance != view.stats.tolerance
        )  # which their means would not give
