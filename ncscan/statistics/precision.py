"""Compute what storage and arithmetic resolve: when a number, a singular value or an eigenvalue is more than rounding.

In: numbers, and the format they are stored in. Out: tolerances. Only numpy; every rank decision rests on these.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from ncscan.errors import DataError, Undefined


class FloatFormat(NamedTuple):
    """A storage format: digits of the significand, and the exponent under which numbers are subnormal."""

    name: str
    digits: int
    min_exponent: int


FLOAT_FORMATS = (
    FloatFormat("float16", 11, -14),
    FloatFormat("bfloat16", 8, -126),
    FloatFormat("float32", 24, -126),
    FloatFormat("float64", 53, -1022),
)

HOLDS_SQUARES = 1e150
"""Sums of squares of numbers up to this stay in float64, and so do squares of numbers that differ by this factor."""
HOLDS_FOURTH_POWERS = 1e75
"""The same of fourth powers."""
VANISHING = 1e-280
"""Products under this, and what they are sums of, have lost digits."""

RESOLVED = 50.0
"""An eigenvalue this many times its error is 2 % off, and the singular value 1 %."""


def float_format(name: str) -> FloatFormat:
    """Return the storage format of that name; DataError when it is not a float."""
    for known in FLOAT_FORMATS:
        if known.name == name:
            return known
    raise DataError(f"activations are stored as {name}; use one of {', '.join(f.name for f in FLOAT_FORMATS)}")


def coarser(one: str, other: str) -> str:
    """Return the storage format with fewer digits.

    >>> coarser("float32", "bfloat16")
    'bfloat16'
    """
    return min(one, other, key=lambda name: float_format(name).digits)


def ulp(x: Float64[np.ndarray, "..."], precision: str) -> Float64[np.ndarray, "..."]:
    """Return the distance between neighbouring numbers of a storage format around x: 2^{max(⌊log₂|x|⌋, e_min) − (p−1)}.

    ulp(0) = 0: a zero is stored exactly.

    >>> ulp(np.array([0.0, 1.0, 1.5, 1000.0]), "float16").tolist()
    [0.0, 0.0009765625, 0.0009765625, 0.5]
    """
    _, digits, min_exponent = float_format(precision)
    _, exponent = np.frexp(x)  # x = m·2^e with ½ ≤ |m| < 1, so ⌊log₂|x|⌋ = e − 1
    return np.where(x == 0, 0.0, np.exp2(np.maximum(exponent - 1.0, min_exponent) - (digits - 1)))


def unit_exponent(size: float) -> int:
    """Return the exponent e of the unit 2^e in which numbers of that size are measured.

    0 where float64 holds their fourth powers, sums of them and what rounding leaves of those; else so that the size is
    near 1: powers of two cost no digit.

    >>> unit_exponent(1.0), unit_exponent(2.0**500), unit_exponent(2.0**-1000)
    (0, 501, -999)
    """
    return int(np.frexp(size)[1]) if size > 0 and not _SMALLEST < size < _LARGEST else 0


def in_true_units(values: Float64[np.ndarray, "..."], exponent: int) -> Float64[np.ndarray, "..."]:
    """Return numbers in the unit 2^exponent as plain float64; Undefined where one is too large or too small."""
    if exponent == 0:
        return values
    with np.errstate(over="ignore", under="ignore"):
        found = np.asarray(np.ldexp(values, exponent))
    if (np.isinf(found) & np.isfinite(values)).any():
        raise Undefined("the value is too large for float64")
    if ((np.abs(found) < np.finfo(np.float64).tiny) & (values != 0)).any():
        raise Undefined("the value is too small for float64")
    return found


def true_value(value: float | np.floating, exponent: int) -> float:
    """Return the same for one number.

    >>> true_value(0.5, 3)
    4.0
    """
    return float(in_true_units(np.array(float(value)), exponent))


_SMALLEST, _LARGEST = 1e-50, 1e50
"""Numbers of float32 lie between these; only those of float64 can lie beyond."""


def lengths(rows: Float64[np.ndarray, "n d"]) -> Float64[np.ndarray, "n"]:
    """Return ‖x‖ of every row, also where its squares leave float64: the same to the last digit where they do not.

    >>> lengths(np.array([[3e-200, 4e-200], [0.0, 0.0]])).tolist()
    [5e-200, 0.0]
    """
    _, exponents = np.frexp(np.abs(rows).max(axis=1, initial=0.0))
    return np.asarray(np.ldexp(np.linalg.norm(np.ldexp(rows, -exponents[:, None]), axis=1), exponents))


def storage_tolerance(matrix: Float64[np.ndarray, "n m"], precision: str) -> float:
    """Return (√n + √m)·2ω_p: what rounding its entries to the storage precision can give a singular value of a matrix.

    Never under what a float64 decomposition resolves, eps·√max(n, m)·‖A‖_F.
    """
    n, m = matrix.shape
    exponent = unit_exponent(float(np.abs(matrix).max(initial=0.0)))
    ulps, matrix = np.ldexp(ulp(matrix, precision), -exponent), np.ldexp(matrix, -exponent)
    stored = np.sqrt(np.mean(ulps**2) / 12)
    resolved = np.finfo(np.float64).eps * np.sqrt(max(n, m)) * np.linalg.norm(matrix)
    return float(np.ldexp(max(2 * (np.sqrt(n) + np.sqrt(m)) * stored, resolved), exponent))


def eigenvalues(
    gram: Float64[np.ndarray, "n n"], rounding: Float64[np.ndarray, "n n"] | None
) -> tuple[Float64[np.ndarray, "n"], Float64[np.ndarray, "n"]]:
    """Return the eigenvalues of an upper triangle in decreasing order, and the error of each.

    That of sums and decomposition is one for all of them, eps·s_1². That of float32 products is far smaller where the
    spectrum is small: with E what rounding did to a block and v an eigenvector, |vᵀEv|, and 4‖Ev‖/√n in case that
    happens to be near zero.
    """
    if not len(gram):
        return np.zeros(0), np.zeros(0)
    if rounding is None:
        squares = np.linalg.eigvalsh(gram, UPLO="U")[::-1]
        product_errors = np.zeros(len(gram))
    else:
        ascending, vectors = np.linalg.eigh(gram, UPLO="U")
        squares, vectors = ascending[::-1], vectors[:, ::-1]
        moved = (rounding + np.triu(rounding, 1).T) @ vectors
        along = np.abs(np.einsum("ij,ij->j", vectors, moved))
        product_errors = along + 4 * np.linalg.norm(moved, axis=0) / np.sqrt(len(gram))
    return squares, product_errors + np.finfo(np.float64).eps * max(squares[0], 0.0)
