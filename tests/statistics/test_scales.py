"""Every number at every size that float64 allows: the same, in the unit it should have, or a reason from a list."""

import numpy as np
import pytest
from helpers import stats_of

from ncscan import measure
from ncscan.errors import Undefined
from ncscan.metrics.evaluate import LayerView, class_rows
from ncscan.statistics.accumulation.passes import layer_stats
from ncscan.statistics.precision import in_true_units, storage_tolerance, true_value
from ncscan.theory.linear_head import head_stats
from ncscan.uncertainty.rounding_floor import floors

ROUNDED = 1e-11  # a scale of 10^k rounds every feature
TWOS = [2.0**k for k in (-1000, -700, -300, -100, 100, 300, 700, 1000)]
TENS = [1e-300, 1e-200, 1e-160, 1e-80, 1e-30, 1e30, 1e80, 1e140, 1e160, 1e200, 1e300]

FEATURES_UNIT = {"norms.global_mean": 1, "norms.mean": 1, "norms.std": 1, "bias_collapse.": 1, "bias_collapse_raw.": 1}
FEATURES_UNIT |= {
    f"imbalance.{name}_{size}": p for name, p in (("variance", 2), ("norm", 1)) for size in ("minority", "majority")
}
CLASSIFIER_UNIT = {
    "bias_collapse.": 1,
    "bias_collapse_raw.": 1,
    "imbalance_w.norm_minority": 1,
    "imbalance_w.norm_majority": 1,
}
SQUARES = {"imbalance.variance_minority", "imbalance.variance_majority"}
"""The only numbers of a layer that may leave float64 where its activations do not."""
LOSSES = {"loss.mse", "loss.cross_entropy"}
"""Of logits, which are no homogeneous function of them."""
OF_LOGITS = {"nc4_mismatch.", "error.", *LOSSES}

K, D = 5, 9
LABELS = np.repeat(np.arange(K), (8, 20, 12, 30, 9))


def layer() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return 3 * rng.standard_normal((K, D))[LABELS] + 0.5 * rng.standard_normal((len(LABELS), D)), rng.standard_normal(
        (K, D)
    )


Table = dict[tuple[str, str, str], tuple[float, str]]
"""Value and reason by name, weighting and classifier."""


def table(features: np.ndarray, weight: np.ndarray) -> Table:
    rows = measure(features, LABELS, weight)
    names = zip(rows.metric + "." + rows.quantity, rows.weighting, rows.classifier, strict=True)
    return dict(zip(names, zip(rows.value, rows.reason, strict=True), strict=True))


def compare(expected: Table, found: Table, scale: float, units: dict[str, int], allowed: set[str]) -> None:
    assert list(expected) == list(found)
    exact = scale in TWOS
    for key, (before, why) in expected.items():
        name, (value, reason) = key[0], found[key]
        power = units.get(name, 0)
        if reason != why:
            assert name in allowed, (name, reason)
            assert "float64" in reason
            assert np.isnan(value)
        elif name in LOSSES or why:
            continue
        elif exact:
            assert np.ldexp(before, power * int(np.log2(scale))) == value, name
        else:
            assert value == pytest.approx(before * scale**power, rel=ROUNDED), name


@pytest.mark.parametrize("scale", [*TWOS, *TENS])
def test_features_of_any_size_have_the_same_numbers(scale: float) -> None:
    features, W = layer()
    small, large = scale < 1e-150, scale > 1e150
    allowed = (SQUARES if small or large else set()) | ({"loss.mse"} if large else set())
    allowed |= OF_LOGITS if scale < 1e-290 else set()
    compare(table(features, W), table(features * scale, W), scale, FEATURES_UNIT, allowed)


@pytest.mark.parametrize("scale", [*TWOS, *TENS])
def test_a_classifier_of_any_size_has_the_same_numbers(scale: float) -> None:
    features, W = layer()
    allowed = {"loss.mse"} if scale > 1e150 else OF_LOGITS if scale < 1e-290 else set()
    compare(table(features, W), table(features, W * scale), scale, CLASSIFIER_UNIT, allowed)


def test_decisions_have_a_reason_when_logits_underflow() -> None:
    features, W = layer()
    found = table(features * 1e-200, W * 1e-200)
    for name in OF_LOGITS:
        (reason,) = [reason for key, (_, reason) in found.items() if key[0] == name]
        assert reason == "the logits are too small for float64"
    assert found["nc3_distance.", "class", "weight"][1] == ""


@pytest.mark.parametrize("scale", [2.0**-900, 2.0**-400, 2.0**400, 2.0**900])
def test_classes_have_numbers_in_their_unit_or_a_reason(scale: float) -> None:
    features, _ = layer()
    expected, found = (class_rows(LayerView(stats_of(x, LABELS))) for x in (features, scale * features))
    powers = {"class_variance": 2, "class_norm": 1, "pair_distance": 1}
    for row, other in zip(expected, found, strict=True):
        power = powers.get(row.metric, 0)
        if other.reason != row.reason:
            assert power == 2
            assert "for float64" in other.reason
        elif row.value is not None:
            assert other.value == np.ldexp(row.value, power * int(np.log2(scale))), row.metric


@pytest.mark.parametrize("scale", [2.0**-900, 2.0**900])
def test_floors_and_ranks_are_the_same_at_any_size(scale: float) -> None:
    features, _ = layer()
    one, other = (LayerView(stats_of(x, LABELS)) for x in (features, scale * features))
    assert floors(one) == floors(other)
    noise, wide = 1e-20 * np.ones(D), LayerView(stats_of(2.0**300 * features, LABELS))
    assert wide.stats.exponent
    assert floors(one, noise) == floors(wide, noise * 2.0**600)
    assert storage_tolerance(features, "float32") * scale == storage_tolerance(features * scale, "float64") * (
        storage_tolerance(features, "float32") / storage_tolerance(features, "float64")
    )


def test_subnormal_numbers_say_that_they_are_at_their_floor() -> None:
    features, _ = layer()
    view = LayerView(stats_of(features * 1e-323, LABELS))
    floor = floors(view)["nc1_trace", "", "class", ""]
    assert floor.value > 1e-3  # some 6 steps of the format between classes
    assert LayerView(stats_of(features * 1e-300, LABELS)).stats.tolerance < 1e-13


@pytest.mark.parametrize("size", [1e120, 1e200, 1e308])
@pytest.mark.parametrize("which", ["sample", "class", "feature of a sample"])
def test_what_no_unit_can_hold_beside_the_rest_is_said_as_it_is(size: float, which: str) -> None:
    features, W = layer()
    where = {"sample": np.s_[3], "class": LABELS == 4, "feature of a sample": np.s_[3, 2]}[which]
    features[where] = features[where] / np.abs(features[where]).max() * size
    found = measure(features, LABELS, W)
    own = found[found.layer == "features"]
    assert own.value.isna().all()
    for reason in own.reason:
        assert "non-finite" not in reason
        assert "float64" in reason
    if size > 1e160:
        count, first = (9, 70) if which == "class" else (1, 3)
        assert own.reason.iloc[0].startswith(f"squares of the activations of {count} samples exceed float64, first in")
        assert f"sample {first}" in own.reason.iloc[0]
    assert f"to {size:.1e}" in own.reason.iloc[0]


@pytest.mark.parametrize("scale", [1e-155, 1e-170, 1e-300, 1e-320])
def test_a_class_of_small_numbers_has_a_direction(scale: float) -> None:
    features, W = layer()
    features[LABELS == 2] *= scale
    exact, w = features.astype(np.longdouble), W.astype(np.longdouble)[LABELS]
    cosines = (exact * w).sum(axis=1) / np.sqrt((exact**2).sum(axis=1) * (w**2).sum(axis=1))
    means = np.stack([exact[LABELS == c].mean(axis=0) for c in range(K)])
    w = W.astype(np.longdouble)
    of_means = (means * w).sum(axis=1) / np.sqrt((means**2).sum(axis=1) * (w**2).sum(axis=1))
    found = measure(features, LABELS, W).set_index(["metric", "quantity"]).value
    rounded = 1e-11 if scale > 1e-310 else 1e-3  # a subnormal number has few digits, and its products fewer
    assert found["nc3_cosine", "samples"] == pytest.approx(float(cosines.mean()), rel=rounded)
    assert found["nc3_cosine", "means"] == pytest.approx(float(of_means.mean()), rel=rounded)


def test_one_class_that_has_no_number_takes_it_from_no_other() -> None:
    features, _ = layer()
    features *= 1e-120
    features[LABELS == 2] *= 1e-60
    rows = {
        row.class_index: row
        for row in class_rows(LayerView(stats_of(features, LABELS)))
        if row.metric == "class_variance"
    }
    assert rows[2].value is None
    assert rows[2].reason == "the value is too small for float64"
    for c in (0, 1, 3, 4):
        own = features[LABELS == c].astype(np.longdouble)
        assert rows[c].value == pytest.approx(float(((own - own.mean(axis=0)) ** 2).sum() / len(own)), rel=1e-9)


def test_samples_that_are_not_finite_are_named_before_those_that_are_large() -> None:
    features, _ = layer()
    features[2] *= 1e200
    features[[5, 9], 1] = np.nan, np.inf
    assert stats_of(features, LABELS, size=4).obstacle == "2 samples have non-finite activations, first in sample 5"


def test_normal_sizes_take_two_passes_and_extreme_ones_two_more() -> None:
    features, _ = layer()

    def passes(x: np.ndarray) -> int:
        calls = []
        layer_stats(lambda: [calls.append(1) or (0, x)], LABELS, K)  # type: ignore[func-returns-value]
        return len(calls)

    assert [passes(x) for x in (features, features * 1e40, features.astype(np.float32) * np.float32(1e-38))] == [
        2,
        2,
        2,
    ]
    assert passes(features * 1e-200) == 4


def test_a_value_that_leaves_float64_is_undefined() -> None:
    assert true_value(0.75, 1000) == 0.75 * 2.0**1000
    assert in_true_units(np.zeros(2), -2000).tolist() == [0.0, 0.0]
    for exponent, why in ((1100, "large"), (-1100, "small")):
        with pytest.raises(Undefined, match=f"too {why} for float64"):
            true_value(0.75, exponent)


@pytest.mark.parametrize("far", [1e6, 1e9, 1e12, 1e16, 1e100])
def test_a_class_far_away_hides_no_decision_between_the_others(far: float) -> None:
    features, _ = layer()
    features[LABELS == 4] += far
    own = features[LABELS < 4]
    means = np.stack([own[LABELS[LABELS < 4] == c].mean(axis=0) for c in range(4)])
    right = np.argmin(((own[:, None] - means) ** 2).sum(axis=2), axis=1) == LABELS[LABELS < 4]
    rows = measure(features, LABELS).set_index("metric")
    if rows.reason["ncc_error"]:
        assert far >= 1e16
        assert "differ by no more than rounding" in rows.reason["ncc_error"]
    else:
        assert rows.value["ncc_error"] == pytest.approx((~right).sum() / len(LABELS))


@pytest.mark.parametrize("offset", [1e8, 1e12, 1e15, 1e17])
def test_what_an_offset_leaves_is_right_or_has_a_reason(offset: float) -> None:
    features, _ = layer()
    stored = features + offset
    expected, found = (measure(x, LABELS).set_index("metric") for x in (stored - offset, stored))
    names = ("nc1_pinv", "nc1_trace", "cdnv", "vci", "separation", "nc2_etf", "nc2_equinorm", "ncc_error")
    for (name, before), after, reason in zip(expected.value.items(), found.value, found.reason, strict=True):
        if name in names:
            assert reason or after == pytest.approx(before, rel=1e-3), name
            assert offset > 1e12 or not reason, name


@pytest.mark.parametrize(("features", "weights"), [(1e-200, 1.0), (1.0, 1e-100), (1.0, 1e-200), (1e-200, 1e-200)])
def test_theory_of_a_head_has_a_reason_when_powers_vanish(features: float, weights: float) -> None:
    x, W = layer()
    with pytest.raises(Undefined, match="vanish"):
        head_stats(lambda: [(0, x * features)], LABELS, K, [(np.eye(D) * weights, None), (W * weights, None)])
