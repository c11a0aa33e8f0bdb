"""How the outputs read the layers of a linear head, and what passes by them unread.

In: HeadStats and a target frame. Out: `ReadLayer` of each inner layer and `MeansAgainstHead` of the class means, all
that the certificates are made of. The only file that decides which directions W_L…W_{l+1} reads.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Float64

from ncscan.errors import Undefined
from ncscan.theory.linear_head import HeadLayer, HeadStats, squared_singular_values

TargetFrame = Literal["orthogonal", "simplex"]
"""Q = I, or Q = C = I − 11ᵀ/K, which no last bias and no common shift of the outputs can disturb."""

RESOLVED = 1e-7
"""What is left of a product or a difference counts only above this part of what went into it: less is rounding."""

ROUNDING = 1e3 * float(np.finfo(np.float64).eps)
"""Balance under this, in units of r², is what rounding of the weights' products leaves of zero."""


@dataclass(frozen=True)
class ReadLayer:
    """What the outputs read of one inner layer: V = Q W_L…W_{l+1}, its singular values, and what passes by it."""

    head: HeadStats
    form: TargetFrame
    index: int
    """The index of the layer Z_l in `head.layers`."""
    U: Float64[np.ndarray, "K r"]
    s: Float64[np.ndarray, "r"]
    axes: Float64[np.ndarray, "r n"]
    """V = U diag(s) axes up to what is not resolved; P = axesᵀ axes."""
    beyond: float
    """What else than balance lets through: ρ² of the simplex form, and the directions that are not resolved."""

    @cached_property
    def layer(self) -> HeadLayer:
        return self.head.layers[self.index]

    @cached_property
    def below(self) -> HeadLayer:
        return self.head.layers[self.index - 1]

    def beside(self, X: Float64[np.ndarray, "n m"]) -> Float64[np.ndarray, "n m"]:
        """Return (I − P)X, projected twice: the second projection removes what rounding left of the first."""
        for _ in range(2):
            X = X - self.axes.T @ (self.axes @ X)
        return X

    @cached_property
    def unread(self) -> Float64[np.ndarray, "n m"]:
        """Return a = (I − P)W_l: what the layer below sends to where no output reads."""
        return self.beside(self.head.maps[self.index - 1].weight)

    @cached_property
    def leaks(self) -> Float64[np.ndarray, "q"]:
        """Return the squared singular values of A."""
        return squared_singular_values(self.unread)

    @cached_property
    def a(self) -> float:
        """Return ‖A‖."""
        return float(np.sqrt(self.leaks[0]))

    @cached_property
    def allowed(self) -> float:
        """Return what the balance of the linear maps allows ‖A‖² to be: Σ‖D_j‖ from here up, and what is beyond."""
        return sum(self.head.imbalance[self.index - 1 :]) + self.beyond

    @cached_property
    def allowed_with_bias(self) -> float:
        """Return what balance allows ‖[A, (I − P)b]‖² to be, at the layer that W_L reads."""
        return self.head.imbalance_with_bias + self.beyond

    def from_outputs(self, factor: Float64[np.ndarray, "K m"]) -> float:
        """Return tr(G⁺QSQ), G = VVᵀ, for a covariance S of the outputs given by its factor."""
        return float(np.sum((self.U.T @ centred_rows(factor, self.form) / self.s[:, None]) ** 2))


def readings_of(head: HeadStats, form: TargetFrame) -> list[ReadLayer]:
    """Return how the outputs read each inner layer, from the last one down."""
    readings: list[ReadLayer] = []
    T, size, stored = None, 1.0, 0.0  # the identity, which of many classes is a large matrix
    entered = 1.0
    for index in range(head.depth - 1, 0, -1):
        above = head.maps[index]
        stored = stored * above.norm + size * above.tolerance
        T = above.weight if T is None else T @ above.weight
        size = norm(T)
        # Maps that nearly annihilate each other, or a row common to all classes, leave V small and not its rounding.
        entered *= above.norm
        V = centred_rows(T, form)
        U, s, axes = np.linalg.svd(V, full_matrices=False)
        rank = int((s > max(stored, RESOLVED * entered)).sum())
        left = float(s[rank]) if rank < len(s) else 0.0
        if not readings:
            # What a truncated P leaves of W_L(I − P), and the common row that the simplex form does not look at.
            beyond = left**2 + common_row(head, form) ** 2
        else:
            read = readings[-1].s
            beyond = readings[-1].beyond + ((left / float(read[-1])) ** 2 if len(read) else 0.0)
        readings.append(ReadLayer(head, form, index, U[:, :rank], s[:rank], axes[:rank], beyond))
    return readings


def common_row(head: HeadStats, form: TargetFrame) -> float:
    """Return ρ = ‖W_Lᵀ1‖/√K in the simplex form, else 0."""
    if form == "orthogonal":
        return 0.0
    return float(np.linalg.norm(head.classifier.weight.sum(axis=0)) / np.sqrt(head.n_classes))


def centred_rows(X: Float64[np.ndarray, "K n"], form: TargetFrame) -> Float64[np.ndarray, "K n"]:
    """Return QX."""
    return np.asarray(X - X.mean(axis=0)) if form == "simplex" else X


@dataclass(frozen=True)
class MeansAgainstHead:
    """The class means that W_L reads, against what it makes of them."""

    head: HeadStats
    reading: ReadLayer

    @cached_property
    def k(self) -> int:
        """Return how many directions the classes must take: K, or K − 1 in the simplex form."""
        return self.head.n_classes - (self.reading.form == "simplex")

    @cached_property
    def means(self) -> Float64[np.ndarray, "n K"]:
        """Return M of the layer that W_L reads, as MQ."""
        return self._means_of(self.head.features)

    @cached_property
    def means_below(self) -> Float64[np.ndarray, "n K"]:
        """Return m of the layer under it, as mQ."""
        return self._means_of(self.reading.below)

    @cached_property
    def class_outputs(self) -> Float64[np.ndarray, "K K"]:
        """Return T: what the outputs make of the class means, without the last bias."""
        return centred_rows(self.head.classifier.weight @ self.means, self.reading.form)

    def _means_of(self, layer: HeadLayer) -> Float64[np.ndarray, "n K"]:
        """Return the class means of a layer times Q.

        Centred ones come from the signal, which no bias ever entered: the means of a layer with a large bias are nearly
        equal, and their differences would be rounding.
        """
        if self.reading.form == "orthogonal":
            return layer.means
        around = layer.signal / np.sqrt(self.head.shares)  # μ_c − μ_G
        return np.asarray(around - around.mean(axis=1)[:, None])

    @cached_property
    def s(self) -> Float64[np.ndarray, "k"]:
        """Return s_1 … s_k of V; Undefined where V has not so many."""
        require(len(self.reading.s) >= self.k, f"W_L reads {len(self.reading.s)} directions of {self.k}")
        return self.reading.s[: self.k]

    @cached_property
    def alpha(self) -> float:
        """Return the scale of the class outputs, T ≈ αQ; Undefined where it is not positive."""
        alpha = float(np.trace(self.class_outputs)) / self.k
        require(alpha > 0, "the class outputs do not point to their classes")
        return alpha

    @cached_property
    def e(self) -> float:
        """Return ‖T/α − Q‖; Undefined where it is not below 1: the outputs do not tell the classes apart as Q does."""
        Q = centred_rows(np.eye(self.head.n_classes), self.reading.form)
        e = float(np.linalg.norm(self.class_outputs / self.alpha - Q, 2))
        require(e < 1, f"e = ‖T/α − Q‖ = {e:.3g}, not below 1")
        require((1 - e) * self.alpha > RESOLVED * self.entered, "e = ‖T/α − Q‖ is 1, as far as rounding can tell")
        return e

    @cached_property
    def entered(self) -> float:
        """Return ‖W_L‖‖M‖, what went into T: its rounding goes with this, however little of it is left."""
        return self.head.classifier.norm * norm(self.means)

    @cached_property
    def bias_beside(self) -> float:
        """Return ‖(I − P)b_{L−1}‖, or 0 where the classes are centred."""
        if self.reading.form == "simplex":
            return 0.0
        return float(np.linalg.norm(self.reading.beside(self.head.maps[-2].bias[:, None])))

    @cached_property
    def beta(self) -> float:
        """Return what ‖(I − P)M‖ is at most."""
        direct = float(self.reading.a * norm(self.means_below) + np.sqrt(self.head.n_classes) * self.bias_beside)
        if self.reading.form == "simplex":
            return direct
        with_ones = norm(np.vstack([self.means_below, np.ones(self.head.n_classes)]))
        W, b = self.head.maps[-2].norm, self.head.maps[-2].bias
        # The root of what rounding makes of exact balance is no small number.
        rounding = ROUNDING * (self.head.classifier.norm**2 + W**2 + float(b @ b))
        return min(direct, float(np.sqrt(self.reading.allowed_with_bias + rounding) * with_ones))

    @cached_property
    def condition(self) -> float:
        """Return κ_k(M)."""
        s = np.linalg.svd(self.means, compute_uv=False)[: self.k]
        require(len(s) == self.k and s[-1] > RESOLVED * s[0], "M has a lower rank")
        return float(s[0] / s[-1])

    def duality(self) -> Float64[np.ndarray, "K"]:
        """Return cos(Vᵀu_c, M u_c)."""
        V = centred_rows(self.head.classifier.weight, self.reading.form)
        return cosines(V.T, self.means)

    @cached_property
    def duality_rounding(self) -> float:
        """Return what rounding can do to those cosines: ‖Vᵀu_c‖ is at least s_k."""
        return float(ROUNDING * self.head.classifier.norm / self.s[-1])

    def least_cosines(self, kappa: float) -> Float64[np.ndarray, "K"]:
        """Return for (4) the least that the cosine of each class can be, when κ(V) ≤ kappa."""
        length = np.sqrt(self.k / self.head.n_classes)  # ‖Qe_c‖: u_c has length 1
        beside = self.reading.a * np.linalg.norm(self.means_below, axis=0) / length + self.bias_beside
        along = (kappa + 1 / kappa) / 2 + self.e * kappa
        return np.asarray((1 - self.e) / np.hypot(along, self.s[0] * beside / self.alpha))


def condition_of(W: Float64[np.ndarray, "K n"]) -> float:
    """Return κ over all K singular values; Undefined where one is zero."""
    s = np.linalg.svd(W, compute_uv=False)
    require(len(s) == len(W) and float(s[-1]) > RESOLVED * float(s[0]), "the rank is below K")
    return float(s[0] / s[-1])


def cosines(A: Float64[np.ndarray, "n K"], B: Float64[np.ndarray, "n K"]) -> Float64[np.ndarray, "K"]:
    """Return the cosines of the columns, one by one; Undefined where one is zero."""
    lengths = np.linalg.norm(A, axis=0) * np.linalg.norm(B, axis=0)
    require(lengths.all(), "a class mean or a row of W_L is zero")
    return np.asarray(np.sum(A * B, axis=0) / lengths)


def norm(X: Float64[np.ndarray, "n m"]) -> float:
    """Return ‖X‖."""
    return float(np.linalg.norm(X, 2))


def require(condition: bool | np.bool_, otherwise: str) -> None:  # noqa: FBT001 - it reads as an assertion
    """Raise Undefined, for that reason, unless the condition holds."""
    if not condition:
        raise Undefined(otherwise)
