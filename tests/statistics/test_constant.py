"""Features that are all the same: what rounding of their mean leaves is no spread, and a reason says so everywhere."""

import numpy as np
import pytest
from helpers import stats_of

from ncscan import measure
from ncscan.metrics.evaluate import LayerView, class_rows
from ncscan.statistics.accumulation.options import AccumulationOptions
from ncscan.statistics.accumulation.passes import layer_stats
from ncscan.statistics.layer_stats import between

LABELS = np.repeat(np.arange(6), [3, 7, 11, 13, 5, 20])
OF_SPREAD = (
    *("nc1_pinv", "nc1_trace", "nc1_normalized", "cdnv", "separation", "vci", "ncc_error", "nc4_mismatch"),
    *("nc2_equinorm", "nc2_equiangular", "nc2_etf", "nc2_etf_unit", "gnc2_uniformity"),
    *("nc3_distance", "nc3_distance_squared", "nc3_etf", "nc3_uniform", "nc3_subspace"),
)
CONSTANTS = [
    np.float64(0.1),
    np.float64(1e6 / 3),
    np.float64(0.0),
    np.float64(3e-310),
    np.float64(1e-200 / 7),
    np.float64(1e200 / 3),
    np.float32(0.1),
    np.float16(0.1),
]


@pytest.mark.parametrize("constant", CONSTANTS, ids=lambda x: f"{x.dtype}-{x}")
def test_one_point_has_no_spread_and_a_reason_everywhere(constant: np.floating) -> None:
    features = np.full((len(LABELS), 8), constant)
    rows = measure(features, LABELS, np.random.default_rng(0).standard_normal((6, 8)))
    own = rows[rows.metric.isin(OF_SPREAD)]
    assert set(own.metric) == set(OF_SPREAD)
    assert own.value.isna().all(), own[own.value.notna()]
    reasons = own.set_index("metric").reason
    for name in ("nc1_normalized", "ncc_error"):
        assert set(reasons.loc[[name]]) == {"all samples are one point, as far as float64 sums can tell"}
    found = rows.set_index(["metric", "quantity"])
    assert found.value["norms", "std"] == 0
    assert found.value["imbalance", "variance_minority"] == found.value["imbalance", "variance_majority"] == 0
    assert found.reason["imbalance", "error_minority"].startswith("all samples are one point")
    for row in class_rows(LayerView(stats_of(features, LABELS))):
        if row.metric in ("ncc_error", "pair_confusion"):
            assert row.reason.startswith("all samples are one point")
        if row.metric in ("class_variance", "class_norm", "pair_distance"):
            assert row.value == 0


@pytest.mark.parametrize("constant", [0.1, 1e6 / 3])
def test_sums_of_many_equal_numbers_are_rounded_to_one_side(constant: float) -> None:
    """The means of 300,000 and of 100,000 equal numbers differ by some 1,000 roundings of each."""
    labels = np.repeat([0, 1], [300_000, 100_000])
    one = layer_stats(lambda: [(0, np.full((len(labels), 2), constant))], labels, 2)
    assert np.abs(one.means[0] - one.means[1]).max() > 100 * np.spacing(constant)
    assert one.is_one_point
    rows = measure(np.full((len(labels), 2), constant), labels).set_index("metric")
    assert rows.value[[name for name in OF_SPREAD if name in rows.index]].isna().all()
    apart = measure((1 + labels)[:, None] * np.full((1, 2), constant), labels).set_index("metric").value
    assert apart[["nc1_pinv", "nc1_trace", "nc1_normalized", "cdnv", "separation", "ncc_error"]].to_numpy() == (
        pytest.approx(0, abs=0)
    )


def test_a_million_equal_numbers_are_the_same_samples_in_both_passes() -> None:
    labels = np.repeat([0, 1], [1_000_000, 700_000])
    assert layer_stats(
        lambda: [(0, np.full((len(labels), 1), 0.1))], labels, 2, AccumulationOptions(spectrum=False)
    ).is_one_point


def test_classes_that_are_points_have_no_scatter_whatever_their_mean_rounds_to() -> None:
    means = np.random.default_rng(1).standard_normal((6, 8)) / 3
    stats = stats_of(means[LABELS], LABELS)
    assert not stats.within.any()
    assert not stats.projected.any()
    assert not stats.is_one_point
    rows = measure(means[LABELS], LABELS).set_index("metric").value
    assert (rows[["nc1_pinv", "nc1_trace", "nc1_normalized", "cdnv", "separation", "vci", "ncc_error"]] == 0).all()


def test_one_class_that_varies_beside_constant_ones_has_its_own_variance() -> None:
    features = np.full((len(LABELS), 8), 0.1)
    features[LABELS == 3] += 1e-9 * np.random.default_rng(2).standard_normal((13, 8))
    stats = stats_of(features, LABELS)
    exact = features[LABELS == 3].astype(np.longdouble)
    expected = float(((exact - exact.mean(axis=0)) ** 2).sum())
    assert stats.within.tolist() == [0, 0, 0, pytest.approx(expected, rel=1e-6), 0, 0]
    assert not stats.is_one_point
    rows = measure(features, LABELS).set_index(["metric", "weighting"])
    mean = exact.mean(axis=0) - features[0].astype(np.longdouble)
    shares = {"class": 1 / 6, "sample": 13 / len(LABELS)}
    for weighting, share in shares.items():
        signal = float(mean @ mean) * share * (1 - share)
        noise = expected / len(LABELS)
        assert rows.value["nc1_normalized", weighting] == pytest.approx(noise / (noise + signal), rel=1e-4)


def test_spread_of_a_few_steps_of_the_format_is_what_the_stored_numbers_have() -> None:
    """Sums of float32 are exact in float64: there the least step is a spread, and a report says that it is at its
    floor. Of float64 the means themselves are rounded by as much."""
    steps = np.random.default_rng(3).integers(-2, 3, (len(LABELS), 8))
    single = (np.float32(1) + steps * np.float32(2.0**-23)).astype(np.float32)
    exact = single.astype(np.longdouble)
    means = np.stack([exact[LABELS == c].mean(axis=0) for c in range(6)])
    noise = float(((exact - means[LABELS]) ** 2).sum() / len(LABELS))
    signal = float(((means - means.mean(axis=0)) ** 2).sum() / 6)
    rows = measure(single, LABELS).set_index(["metric", "weighting"])
    assert rows.value["nc1_normalized", "class"] == pytest.approx(noise / (noise + signal), rel=1e-9)
    double = 1 + steps * 2.0**-52
    assert (
        measure(double, LABELS).set_index("metric").reason["nc1_normalized"].iloc[0].startswith("all samples are one")
    )


def test_directions_of_class_means_count_above_what_rounding_moved_them_by() -> None:
    stats = stats_of(np.random.default_rng(4).standard_normal((len(LABELS), 8)), LABELS)
    assert stats.mean_rounding is not None
    assert stats.with_mean_rounding(0.0) == pytest.approx(2 * np.linalg.norm(stats.mean_rounding, 2))
    assert stats.tolerance >= stats.with_mean_rounding(0.0)
    assert len(between(stats, "class")[0]) == 5
