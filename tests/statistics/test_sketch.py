"""Sketched spectra: the brackets hold, against exact decompositions of layers with known spectra."""

import numpy as np
import pytest
from helpers import rotation

from ncscan.errors import DataError, Undefined
from ncscan.statistics.sketch import (
    Bracket,
    Decomposition,
    Sketch,
    decompose,
    effective_rank,
    first_columns,
    largest_eigenvalue,
    numerical_rank,
    operator_ratio,
    participation_ratio,
    stable_rank,
)

N, D, K = 300, 700, 10
ROUNDING = 1e-12  # of λ_1: that much a bracket may be missed by in float64

SPECTRA = {
    "decay": 1 / np.arange(1, N + 1.0) ** 1.5,
    "fast decay": 0.8 ** np.arange(N),
    "flat": np.ones(N),
    "low rank": np.r_[np.linspace(2, 1, K), np.zeros(N - K)],
    "low rank + noise": np.r_[np.linspace(2, 1, K), np.full(N - K, 1e-3)],
    "low rank + faint noise": np.r_[np.linspace(2, 1, K), np.full(N - K, 1e-5)],
}


def rows(s: np.ndarray, seed: int = 0) -> np.ndarray:
    return np.asarray((rotation(N, seed) * s) @ rotation(D, seed + 1)[:N])


def sketched(H: np.ndarray, columns: np.ndarray) -> Sketch:
    return Sketch(columns, H.T @ (H @ columns), float((H**2).sum()))


def two_passes(H: np.ndarray) -> tuple[Decomposition, Decomposition]:
    first = decompose(sketched(H, first_columns(H.shape[1], K)))
    return first, decompose(sketched(H, first.vectors))


@pytest.mark.parametrize("name", SPECTRA)
def test_every_eigenvalue_lies_in_its_bracket(name: str) -> None:
    s = SPECTRA[name]
    exact = np.sort(s**2)[::-1]
    for found in two_passes(rows(s)):
        seen = np.r_[found.values, np.zeros(N - len(found.values))]
        assert (seen <= exact + ROUNDING * exact[0]).all()
        assert (exact <= seen + found.remainder + ROUNDING * exact[0]).all()
        assert (s**2).sum() == pytest.approx(found.square)


def largest_singular_value(found: Decomposition) -> Bracket:
    """s_1 lies between √λ̂_1 and √(λ̂_1 + R), on which all other brackets rest."""
    low = float(np.sqrt(found.values[0]))
    return Bracket(low, low, float(np.sqrt(found.values[0] + found.remainder)))


@pytest.mark.parametrize("name", SPECTRA)
def test_every_number_lies_in_its_bracket(name: str) -> None:
    s = np.sort(SPECTRA[name])[::-1]
    share = s[s > 0] / s.sum()
    exact = {
        "s_1": s[0],
        "stable": (s**2).sum() / s[0] ** 2,
        "participation": (s**2).sum() ** 2 / (s**4).sum(),
        "numerical": (s > 1e-3 * s[0]).sum(),
        "effective": np.exp(-(share * np.log(share)).sum()),
    }
    for found in two_passes(rows(s)):
        brackets = {
            "s_1": largest_singular_value(found),
            "stable": stable_rank(found),
            "participation": participation_ratio(found, N),
            "numerical": numerical_rank(found),
        }
        if name in ("low rank", "low rank + faint noise", "fast decay"):
            brackets["effective"] = effective_rank(found, N)
        else:
            with pytest.raises(Undefined, match="tail not resolved"):
                effective_rank(found, N)
        for what, (value, low, high) in brackets.items():
            top = np.inf if high is None else high
            assert low * (1 - ROUNDING) <= exact[what] <= top * (1 + ROUNDING), what
            assert low <= value <= top, what


def test_the_second_pass_tightens_the_top() -> None:
    s = SPECTRA["decay"]
    first, second = two_passes(rows(s))
    errors = [np.abs(np.sqrt(found.values[:K]) / s[:K] - 1).max() for found in (first, second)]
    assert errors[0] < 0.02
    assert errors[1] < 1e-5
    assert second.remainder < first.remainder
    assert s[:3] == pytest.approx(np.sqrt(second.values[:3]), rel=1e-8)


def test_numerical_rank_is_known_when_nothing_is_left_and_else_bounded_from_below() -> None:
    assert numerical_rank(two_passes(rows(SPECTRA["low rank + faint noise"]))[1]) == (K, K, K)
    assert numerical_rank(two_passes(rows(SPECTRA["flat"]))[1]) == (64, 64, None)


def test_a_flat_spectrum_has_its_participation_ratio_though_its_bracket_is_wide() -> None:
    ratio = participation_ratio(two_passes(rows(SPECTRA["flat"]))[1], N)
    assert N == pytest.approx(ratio.value, rel=1e-6)
    assert ratio.high is not None
    assert ratio.low < 2 < N <= ratio.high


def test_operator_ratio_brackets_negativity() -> None:
    Z = rows(SPECTRA["low rank + noise"]) + 0.02
    negative = np.minimum(Z, 0)
    exact = np.linalg.norm(negative, 2) / np.linalg.norm(Z, 2)
    found = operator_ratio(two_passes(negative)[1], two_passes(Z)[1])
    assert found.high is not None
    assert found.low * (1 - ROUNDING) <= exact <= found.high * (1 + ROUNDING)
    assert exact == pytest.approx(found.value, rel=1e-3)
    assert operator_ratio(two_passes(np.zeros_like(Z))[0], two_passes(Z)[0]) == (0, 0, 0)


def test_sketches_of_shards_merge_when_their_columns_are_the_same() -> None:
    H = rows(SPECTRA["decay"])
    columns = first_columns(D, K)
    whole, parts = sketched(H, columns), sketched(H[:99], columns) + sketched(H[99:], columns)
    assert decompose(whole).values == pytest.approx(decompose(parts).values, abs=1e-12)
    with pytest.raises(DataError, match="one seed"):
        _ = whole + sketched(H, first_columns(D, K, seed=1))


def test_zero_activations_have_no_rank() -> None:
    found = decompose(Sketch(first_columns(D, K), np.zeros((D, 64)), 0.0))
    for number in (stable_rank, numerical_rank):
        with pytest.raises(Undefined, match="zero"):
            number(found)


def test_a_narrow_layer_is_sketched_whole() -> None:
    H = np.random.default_rng(0).standard_normal((40, 5))
    found = decompose(sketched(H, first_columns(5, 4)))
    assert np.linalg.svd(H, compute_uv=False) == pytest.approx(np.sqrt(found.values), rel=1e-9)
    assert found.remainder < 1e-10


@pytest.mark.parametrize("n", [0, 1, 300])
def test_largest_eigenvalue_is_the_last_of_all(n: int) -> None:
    x = np.random.default_rng(n).standard_normal((n + 5, n)) / np.arange(1, n + 1)
    upper = np.triu(x.T @ x)
    expected = np.linalg.eigvalsh(x.T @ x)[-1] if n else 0.0
    assert expected == pytest.approx(largest_eigenvalue(upper), rel=1e-12)
