"""Balancedness of two consecutive linear maps: W_{l+1}ᵀW_{l+1} against W_l W_lᵀ, in full or on the diagonal.

In: two weight matrices, and a bias between. Out: norms of the difference, absolute and relative.
"""

import numpy as np
from jaxtyping import Float64
from scipy.sparse.linalg import LinearOperator, eigsh

from ncscan.computable import attempt
from ncscan.errors import Undefined
from ncscan.statistics import HOLDS_FOURTH_POWERS, true_value, unit_exponent

_WIDEST_DENSE = 4096
"""Up to this width D is formed; beyond it only its products with vectors are."""

NORMS = ("op", "fro", "op_relative", "fro_relative")
"""The quantities of the balancedness of a pair."""


def balance(
    first: Float64[np.ndarray, "n m"],
    following: Float64[np.ndarray, "p n"],
    bias: Float64[np.ndarray, "n"] | None = None,
) -> dict[str, float | Undefined]:
    """Return the imbalance of two consecutive linear maps: norms of D = W₂ᵀW₂ − W₁W₁ᵀ − b₁b₁ᵀ, raw and relative.

    Args:
        first: W₁ (n, m).
        following: W₂ (p, n), which reads what W₁ writes.
        bias: b₁ (n,), where it counts.

    Returns: `op`, `fro` in the unit of squared weights; `op_relative`, `fro_relative` divided by the smaller of the
        norms of W₂ᵀW₂ and W₁W₁ᵀ, Undefined where one of them is zero. All 0 under exact balance.

    Source: Arora, Cohen and Hazan 2018; Jacot, Súkeník, Wang and Mondelli 2024.

    >>> W = np.array([[2.0, 0.0], [0.0, 1.0]])
    >>> balance(W, W.T)["op"], balance(W, np.eye(2))["fro"]
    (0.0, 3.0)
    """
    first, following, bias, exponent = _in_one_unit(first, following, bias)
    incoming = first if bias is None else np.column_stack([first, bias])  # W₁W₁ᵀ + b₁b₁ᵀ is one Gram matrix
    op, fro = _difference_norms(following, incoming)
    terms_op = min(operator_norm(following) ** 2, operator_norm(first) ** 2)
    terms_fro = min(_gram_norm(following), _gram_norm(first.T))
    return _with_relative(op, fro, terms_op, terms_fro, exponent)


def balance_diagonal(
    first: Float64[np.ndarray, "n m"],
    following: Float64[np.ndarray, "p n"],
    bias: Float64[np.ndarray, "n"] | None = None,
) -> dict[str, float | Undefined]:
    """Return the unit-wise imbalance of two linear maps around a ReLU: norms of diag(W₂ᵀW₂ − W₁W₁ᵀ − b₁b₁ᵀ).

    A ReLU between the two linear maps lets gradient flow conserve the diagonal of D alone.

    Args:
        first: W₁ (n, m).
        following: W₂ (p, n), which reads the n units that W₁ writes.
        bias: b₁ (n,), where it counts.

    Returns: `op`, the largest absolute entry, and `fro`, the Euclidean norm, in the unit of squared weights;
        `op_relative`, `fro_relative` divided by the smaller of those norms of the diagonals of W₂ᵀW₂ and W₁W₁ᵀ, each
        Undefined where one of them is zero. All 0 under exact balance.

    Source: Du, Hu and Lee 2018 (what is conserved, without biases); derived for b₁.

    >>> balance_diagonal(np.array([[3.0], [1.0]]), np.array([[1.0, 1.0]]))["op"]
    8.0
    """
    first, following, bias, exponent = _in_one_unit(first, following, bias)
    outgoing, incoming = (following**2).sum(axis=0), (first**2).sum(axis=1)
    d = outgoing - incoming - (0.0 if bias is None else bias**2)
    terms = (outgoing, incoming)
    return _with_relative(
        float(np.abs(d).max()),
        float(np.linalg.norm(d)),
        float(min(t.max() for t in terms)),
        float(min(np.linalg.norm(t) for t in terms)),
        exponent,
    )


def _in_one_unit(
    first: Float64[np.ndarray, "n m"],
    following: Float64[np.ndarray, "p n"],
    bias: Float64[np.ndarray, "n"] | None,
) -> tuple[Float64[np.ndarray, "n m"], Float64[np.ndarray, "p n"], Float64[np.ndarray, "n"] | None, int]:
    """Return the same arrays in the unit 2^exponent, and the exponent.

    In that unit fourth powers of the largest stay in float64.

    Undefined where no unit can hold the squares of both linear maps.
    """
    sizes = [float(np.abs(x).max(initial=0.0)) for x in (first, following)]
    own = 0.0 if bias is None else float(np.abs(bias).max(initial=0.0))
    exponent = unit_exponent(max(*sizes, own))
    least = min((size for size in sizes if size), default=1.0)
    if unit_exponent(least) != exponent and least < max(*sizes, own) / HOLDS_FOURTH_POWERS:
        raise Undefined("weights of the pair differ in size by more than float64 can square")
    if not exponent:
        return first, following, bias, 0
    bias = None if bias is None else np.ldexp(bias, -exponent)
    return np.ldexp(first, -exponent), np.ldexp(following, -exponent), bias, exponent


def _with_relative(
    op: float, fro: float, terms_op: float, terms_fro: float, exponent: int
) -> dict[str, float | Undefined]:
    zero = Undefined("a map is zero: nothing to be relative to")
    return {
        "op": attempt(lambda: true_value(op, 2 * exponent)),
        "fro": attempt(lambda: true_value(fro, 2 * exponent)),
        "op_relative": op / terms_op if terms_op else zero,
        "fro_relative": fro / terms_fro if terms_fro else zero,
    }


def _difference_norms(A: Float64[np.ndarray, "p n"], B: Float64[np.ndarray, "n m"]) -> tuple[float, float]:
    """Return ‖AᵀA − BBᵀ‖ and ‖AᵀA − BBᵀ‖_F."""
    n = len(B)
    if n <= _WIDEST_DENSE:
        D = A.T @ A - B @ B.T
        return float(np.abs(np.linalg.eigvalsh(D)).max()), float(np.linalg.norm(D))
    # Too wide to form. The Frobenius norm comes from rows of D at a time, the operator norm from products with vectors.
    squares = sum(float(np.linalg.norm(A.T[i : i + 1024] @ A - B[i : i + 1024] @ B.T) ** 2) for i in range(0, n, 1024))
    D = LinearOperator((n, n), matvec=lambda v: A.T @ (A @ v) - B @ (B.T @ v), dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(n)
    largest = eigsh(D, k=1, which="LM", v0=start, tol=1e-10, return_eigenvectors=False)
    return float(np.abs(largest[0])), float(np.sqrt(squares))


def operator_norm(W: Float64[np.ndarray, "n m"]) -> float:
    return float(np.linalg.norm(W, 2))


def _gram_norm(A: Float64[np.ndarray, "p n"]) -> float:
    """Return ‖AᵀA‖_F, from the smaller of AᵀA and AAᵀ."""
    return float(np.linalg.norm(A @ A.T if len(A) <= A.shape[1] else A.T @ A))
