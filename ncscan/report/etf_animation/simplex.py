"""Class means turned onto the simplex that they approach: what makes pictures of different checkpoints comparable.

In: coordinates of the means of a few classes, of samples and of rows of the classifier. Out: where they lie when the
simplex stands still. Pure numpy.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from ncscan.errors import Undefined

TILT = math.radians(14)
"""How far one looks down at four classes, here and in the page."""


@dataclass(frozen=True)
class Positions:
    """Positions of one picture's vectors; at collapse means and rows are on the vertices, samples on their means."""

    means: Float64[np.ndarray, "k k1"]
    samples: Float64[np.ndarray, "n k1"]
    rows: Float64[np.ndarray, "k k1"] | None
    """The rows of the classifier; None where there is none, or its rows have no direction."""


def vertices(k: int) -> Float64[np.ndarray, "k k1"]:
    """Return k unit vectors in k − 1 dimensions, each at the same angle to every other; the first points up.

    >>> vertices(3).round(3).tolist()
    [[0.0, 1.0], [0.866, -0.5], [-0.866, -0.5]]
    """
    if k == 2:
        return np.array([[1.0], [-1.0]])
    F = np.zeros((k, k - 1))
    F[0, -1] = 1.0
    F[1:, -1] = -1.0 / (k - 1)
    F[1:, :-1] = math.sqrt(1.0 - F[1, -1] ** 2) * vertices(k - 1)
    return F


def positions(
    means: Float64[np.ndarray, "k r"],
    samples: Float64[np.ndarray, "n r"],
    rows: Float64[np.ndarray, "k r"] | None = None,
) -> Positions:
    """Return the vectors in the frame of the simplex: R = A(AᵀA)^(−1/2) with A = M̃ᵀF turns the centred means onto it.

    ⟨M̃R, F⟩ is largest at this R with orthonormal columns (orthogonal Procrustes), and they span the means: no length
    is lost, so none brings them nearer to the vertices F. It may reflect: the basis of the coordinates is arbitrary and
    has no handedness to keep. Means and samples are taken from the centre of the means and divided by the mean length
    of the centred means; rows from their own centre, by their own mean length.

    Args:
        means: (k, r) of k ≥ 2 classes.
        samples: (n, r) in the same coordinates.
        rows: (k, r) of the classifier, one per class, where there is one.

    Returns: coordinates in k − 1 dimensions. Means of a simplex lie on `vertices(k)`.

    Raises: Undefined when the means are not finite or differ in fewer than k − 1 directions.

    Source: Schönemann 1966 (Procrustes).

    >>> corner = np.eye(3)
    >>> bool(np.allclose(positions(5.0 * corner, corner[:0]).means, vertices(3)))
    True
    """
    k = len(means)
    if not np.isfinite(means).all():
        raise Undefined("the class means are not finite")
    centre = means.mean(axis=0)
    M = means - centre
    s = np.linalg.svd(M, compute_uv=False)
    if len(s) < k - 1 or not s[k - 2] > 1e-7 * s[0]:  # float32 activations say nothing of smaller ones
        raise Undefined(f"the means of these {k} classes differ in fewer than {k - 1} directions")
    u, _, vt = np.linalg.svd(M.T @ vertices(k), full_matrices=False)
    R = u @ vt
    scale = np.linalg.norm(M, axis=1).mean()
    return Positions(M @ R / scale, (samples - centre) @ R / scale, None if rows is None else _turned(rows, R))


def _turned(rows: Float64[np.ndarray, "k r"], R: Float64[np.ndarray, "r k1"]) -> Float64[np.ndarray, "k k1"] | None:
    if not np.isfinite(rows).all():
        return None
    W = rows - rows.mean(axis=0)
    length = np.linalg.norm(W, axis=1).mean()
    if not length > 0:
        return None
    turned: Float64[np.ndarray, "k k1"] = W @ R / length
    return turned


def seen(points: Float64[np.ndarray, "n d"], angle: float) -> Float64[np.ndarray, "n 3"]:
    """Return coordinates across, up and towards the eye, after a turn by an angle around the axis that points up.

    A plane is seen from above; space from the side, and a little from above.
    """
    if points.shape[1] == 2:
        return np.column_stack([points, np.zeros(len(points))])
    a, b, up = points.T
    across = math.cos(angle) * a - math.sin(angle) * b
    near = math.sin(angle) * a + math.cos(angle) * b
    return np.column_stack(
        [across, math.cos(TILT) * up - math.sin(TILT) * near, math.sin(TILT) * up + math.cos(TILT) * near]
    )
