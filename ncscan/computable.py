"""Where float64 gives no number: the exceptions of a computation become the reason why there is no value.

In: a computation. Out: its number, or `Undefined`. Every decomposition, solve and power behind a number runs inside
`computable`, so that one number that cannot be had never ends a report.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
from scipy.sparse.linalg import ArpackError, ArpackNoConvergence

from ncscan.errors import Undefined, one_line

Result = TypeVar("Result")


@contextmanager
def computable() -> Generator[None]:
    """Raise `Undefined` inside where a decomposition fails or float64 overflows, and keep numpy's warnings quiet.

    numpy's own scalars become infinite instead of raising: whoever keeps a number checks that it is finite.

    >>> with computable():
    ...     10.0**400
    Traceback (most recent call last):
    ncscan.errors.Undefined: the computation exceeds the range of float64
    """
    try:
        with np.errstate(all="ignore"):
            yield
    except ArpackNoConvergence as error:
        raise Undefined("Lanczos did not settle: the top eigenvalues lie too close") from error
    except (np.linalg.LinAlgError, ArpackError) as error:
        raise Undefined(f"a matrix decomposition failed ({one_line(error)})") from error
    except ArithmeticError as error:
        raise Undefined("the computation exceeds the range of float64") from error


def attempt(number: Callable[[], Result]) -> Result | Undefined:
    """Return the number, or the reason why there is none: failure is a value.

    >>> attempt(lambda: float(np.linalg.inv(np.zeros((1, 1)))[0, 0]))
    Undefined('a matrix decomposition failed (Singular matrix)')
    """
    try:
        with computable():
            return number()
    except Undefined as why:
        return why
