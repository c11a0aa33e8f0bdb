"""Axes: which scale numbers get, where its ticks are, what is left out, and what layers are called."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncscan.report.figures.palette import RAMPS, THEME
from ncscan.report.figures.scales import Scale, scale_of, short_names, spread_out

positive = st.floats(1e-300, 1e300)


@given(st.lists(st.one_of(positive, st.just(0.0)), min_size=1))
def test_scale_of_covers_every_value_and_tick(values: list[float]) -> None:
    scale = scale_of(values)
    low, high = scale.domain
    assert low < high < math.inf
    assert all(low <= value <= high for value in values)
    assert len(scale.ticks) <= 7
    assert scale.type == "linear" or scale.ticks


def test_scale_of_chooses_by_sign_and_span() -> None:
    assert scale_of([0.02, 1.0]).type == "log"
    assert scale_of([0.0, 0.02, 1.0]).type == "symlog"
    assert scale_of([0.2, 1.0]).type == "linear"
    assert scale_of([-0.02, 1.0]).type == "linear"
    assert scale_of([0.0]).domain == (0.0, 1.0)
    assert scale_of([]).domain == (0.0, 1.05)
    assert scale_of([-2.0, -2.0]).domain == (-2.1, -1.9)
    assert scale_of([1.0, 50.0], decades=2.0).type == "linear"
    assert scale_of([1.0, 500.0], decades=2.0).ticks == (1.0, 10.0, 100.0)


@pytest.mark.parametrize("values", [[1e-4, 1.0], [0.0, 1e-4, 1.0], [0.3, 0.9]], ids=["log", "symlog", "linear"])
def test_share_goes_from_end_to_end(values: list[float]) -> None:
    scale = scale_of(values)
    shares = [scale.share(value) for value in (scale.domain[0], *values, scale.domain[1])]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)


def test_only_a_linear_scale_speaks_of_zero() -> None:
    assert Scale("linear", (0.0, 1.0), ()).to_vega() == {
        "scale": {"type": "linear", "domain": [0.0, 1.0], "nice": False, "zero": False}
    }
    assert "zero" not in Scale("log", (0.1, 1.0), (0.1, 1.0)).to_vega()["scale"]
    assert Scale("symlog", (0.0, 1.0), (0.0,), 0.01).to_vega()["scale"]["constant"] == 0.01


@given(st.integers(0, 50), st.integers(2, 60))
def test_spread_out_keeps_first_and_last_in_order(n: int, most: int) -> None:
    chosen = spread_out(range(n), most)
    assert len(chosen) == min(n, most)
    assert chosen == sorted(set(chosen))
    assert not n or (chosen[0], chosen[-1]) == (0, n - 1)


@given(st.lists(st.text(max_size=60), unique=True))
def test_short_names_stay_short_and_apart(names: list[str]) -> None:
    short = short_names(names)
    assert len(short) == len(names)
    assert all(len(name) <= 20 + len(f" #{len(names)}") for name in short)


def test_ramps_have_a_dark_twin_for_every_colour_and_none_twice() -> None:
    assert all(len(light) == len(dark) for light, dark in RAMPS.values())
    colours = [colour for light, _ in RAMPS.values() for colour in light]
    assert len(set(colours)) == len(colours) == len(THEME) - 1
