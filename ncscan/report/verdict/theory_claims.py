"""Put the theory's claims on the last checkpoint into sentences: which hypotheses hold, and how tight the bounds are.

In: the claims of one run (theory.csv). Out: `Hypothesis` and `Certificate`, each with its sentence.
"""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from ncscan.report.verdict.phrases import times
from ncscan.rows import leading
from ncscan.wording import listed, number

_HYPOTHESES: dict[str, tuple[str, str, bool]] = {
    "theorem31_linear_head": (
        "the network ends in at least two linear maps in a row",
        "the network ends in {value} linear map, where two in a row are needed",
        True,
    ),
    "theorem31_bias_free": (
        "no map of the linear head has a bias",
        "a map of the linear head has a bias (norm {value})",
        True,
    ),
    "theorem31_balanced": (
        "all classes have as many samples",
        "the largest class has {value} times the samples of the smallest",
        True,
    ),
    "theorem31_epsilon1": (
        "the outputs are near enough to the labels",
        "the outputs are too far from the labels (ε1 is {value}, the threshold {bound})",
        True,
    ),
    "theorem31_wide": (
        "the first layer is as wide as there are samples",
        "the first layer is {value} wide, and there are {bound} samples",
        False,
    ),
    "theorem31_pyramid": (
        "no layer is wider than the one before it",
        "a layer is {value} times as wide as the one before it",
        False,
    ),
    "theorem31_smooth": (
        "every activation is smooth, with a slope bounded below",
        "an activation is not smooth with a slope bounded below",
        False,
    ),
}
"""Claim → what holds, what is so where it fails, and whether the bound itself needs it. The others are how the paper's
training gets there."""

_UPPER = {
    "NC1": ("nc1_upper", "nc1_upper_spectral", "nc1_interpolation", "theorem31_nc1"),
    "NC2": ("nc2_upper", "nc2_target_free", "nc2_head"),
}
_LOWER = {"NC3": ("nc3_class", "nc3_head")}
"""The claims that bound each aspect: upper and lower bounds."""

_OF = {
    "NC1": "nc1_trace",
    "NC2": "the condition number of the class means",
    "NC3": "the cosine between classifier and means",
}


@dataclass(frozen=True)
class Hypothesis:
    """One hypothesis of theorem 3.1, judged."""

    claim: str
    quantity: str
    holds: bool | None
    needed: bool
    """Whether the bound itself needs it."""
    value: float | None
    bound: float | None
    sentence: str


@dataclass(frozen=True)
class Certificate:
    """The tightest promise about one aspect that holds."""

    aspect: str
    claim: str
    quantity: str
    layer: str
    value: float
    bound: float
    slack: float
    sentence: str


def hypotheses(theory: pd.DataFrame) -> tuple[Hypothesis, ...]:
    """Return every hypothesis of theorem 3.1, in the order of the claims."""
    return tuple(_hypothesis(row) for _, row in theory.iterrows() if row["claim"] in _HYPOTHESES)


def theorem(theory: pd.DataFrame, judged: tuple[Hypothesis, ...]) -> str:
    """Return whether theorem 3.1 applies, and what it gives; empty where nothing is known of it."""
    bounds = theory[theory["claim"] == "theorem31_nc1"]
    name = "Theorem 3.1 of Jacot et al. (2024)"
    if not len(bounds):
        return ""
    verdicts, values = bounds[bounds["holds"].notna()], bounds[bounds["bound"].notna()]
    row = leading(verdicts if len(verdicts) else values if len(values) else bounds, ["claim"]).iloc[0]
    quantities = ("", row["quantity"])
    failing = [h.sentence for h in judged if h.needed and h.holds is False and h.quantity in quantities]
    if not pd.isna(row["holds"]):
        form = f" {row['quantity']}" if row["quantity"] else ""
        over = "" if pd.isna(row["slack"]) else f", {times(row['slack'])} times what is measured"
        return f"{name} applies{form}: nc1_trace at layer {row['layer']} is at most {number(row['bound'])}{over}."
    if failing:
        return f"{name} does not apply: {listed(failing)}."
    return f"{name} says nothing here: {row['reason']}."


def certificates(theory: pd.DataFrame, reads: str) -> tuple[Certificate, ...]:
    """Return for NC1, NC2 and NC3 the tightest bound that holds at the layer which the classifier reads."""
    held = theory[
        theory["holds"].fillna(value=False).astype(bool) & theory["slack"].notna() & (theory["layer"] == reads)
    ]
    found = [_tightest(aspect, held[held["claim"].isin(claims)]) for aspect, claims in _UPPER.items()]
    found += [_worst_class(aspect, held[held["claim"].isin(claims)]) for aspect, claims in _LOWER.items()]
    return tuple(certificate for certificate in found if certificate is not None)


def _hypothesis(row: "pd.Series[Any]") -> Hypothesis:
    claim = str(row["claim"])
    holds, fails, needed = _HYPOTHESES[claim]
    value, bound = (None if pd.isna(row[key]) else float(row[key]) for key in ("value", "bound"))
    verdict = None if pd.isna(row["holds"]) else bool(row["holds"])
    form = f" ({row['quantity']})" if row["quantity"] else ""
    if verdict is None:
        sentence = f"whether {holds} cannot be told: {row['reason']}"
    elif verdict:
        sentence = holds + form
    else:
        said = {"value": number(value or 0.0), "bound": number(bound or 0.0)}
        sentence = fails.format(**said) + form
        sentence += f" ({row['reason']})" if row["reason"] else ""
    return Hypothesis(claim, str(row["quantity"]), verdict, needed, value, bound, sentence)


def _tightest(aspect: str, rows: pd.DataFrame) -> Certificate | None:
    if not len(rows):
        return None
    row = rows.iloc[int(rows["slack"].argmin())]
    return _certificate(aspect, row, "at most")


def _worst_class(aspect: str, rows: pd.DataFrame) -> Certificate | None:
    """Return the worst class of the claim and form whose bound for its worst class is the tightest."""
    if not len(rows):
        return None
    form = rows["quantity"].str.split(" ").str[0]
    worst = rows.loc[rows.groupby([rows["claim"], form])["bound"].idxmin()]
    return _certificate(aspect, worst.iloc[int(worst["bound"].argmax())], "at least")


def _certificate(aspect: str, row: "pd.Series[Any]", side: str) -> Certificate:
    what = f"{_OF[aspect]} at layer {row['layer']} is {side} {number(row['bound'])}"
    measured = f"measured {number(row['value'])}"
    if side == "at least":
        what += " in every class"
        measured += f" where it is promised least, {_class(str(row['quantity']))}"
    sentence = f"{aspect} is certified by {row['claim']}: {what}; {measured}, slack {times(row['slack'])}."
    return Certificate(
        aspect,
        str(row["claim"]),
        str(row["quantity"]),
        str(row["layer"]),
        float(row["value"]),
        float(row["bound"]),
        float(row["slack"]),
        sentence,
    )


def _class(quantity: str) -> str:
    """Return `class 3` for `orthogonal class 3`."""
    return quantity[quantity.find("class ") :] if "class " in quantity else quantity
