"""The numbers as each paper names and plots them.

In: the tidy table of metrics. Out: the rows of one paper's figures, under the paper's own names. Which of our measures
is whose "NC1" is decided here and nowhere else.
"""

from typing import NamedTuple

import pandas as pd

from ncscan.errors import UsageError
from ncscan.statistics import Weighting


class Quantity(NamedTuple):
    """One quantity of a paper, and how to have it from the table of metrics."""

    name: str
    """The paper's own name of what it plots."""
    metric: str
    quantity: str = ""
    weighting: Weighting | None = None
    """The weights that the paper gives classes in μ_G and Σ_B; None where that plays no part."""
    power: int = 1
    """The power that our value is raised to: papers plot squares of norms."""


class Convention(NamedTuple):
    """A paper, and its quantities in the order of its figures."""

    name: str
    source: str
    quantities: tuple[Quantity, ...]


CONVENTIONS: tuple[Convention, ...] = (
    Convention(
        "papyan",
        "Papyan, Han, Donoho 2020, figures 2 to 7; 1/K in NC1, standard deviations with ddof 1, NC3 squared",
        (
            Quantity("NC2 equinorm, features", "nc2_equinorm", weighting="class"),
            Quantity("NC2 equinorm, classifier", "nc2_equinorm_w"),
            Quantity("NC2 equiangular, features", "nc2_equiangular", weighting="class"),
            Quantity("NC2 equiangular, classifier", "nc2_equiangular_w"),
            Quantity("NC3", "nc3_distance", weighting="class", power=2),
            Quantity("NC1", "nc1_pinv", weighting="class"),
            Quantity("NC4", "nc4_mismatch"),
        ),
    ),
    Convention(
        "zhu",
        "Zhu et al. 2021; 1/K in NC1, NC2 is that of the classifier, not of the means; norms are not squared",
        (
            Quantity("NC1", "nc1_pinv", weighting="class"),
            Quantity("NC2", "nc2_etf_w"),
            Quantity("NC3", "nc3_etf", weighting="class"),
            Quantity("NC4", "bias_collapse_raw", weighting="class"),
        ),
    ),
    Convention(
        "jacot",
        "Jacot, Súkeník, Wang, Mondelli 2024; traces, not a pseudo-inverse; NC2 and NC3 are not centred and go to 1",
        (
            Quantity("NC1", "nc1_trace", weighting="class"),
            Quantity("NC2", "nc2_condition"),
            Quantity("NC3", "nc3_cosine", "samples"),
            Quantity("negativity", "negativity", "op"),
        ),
    ),
    Convention(
        "rangamani",
        "Rangamani, Lindegaard, Galanti, Poggio 2023; at every layer; K−1 directions in NC3",
        (
            Quantity("NC1", "nc1_normalized", weighting="class"),
            Quantity("NC3", "nc3_subspace", weighting="class"),
            Quantity("NC4", "nc4_mismatch"),
        ),
    ),
    Convention(
        "he-su",
        "He & Su 2023; classes weighted by their samples, and no 1/K: K times Papyan's NC1 where they are balanced",
        (Quantity("D", "separation", weighting="sample"),),
    ),
)
"""The papers whose figures can be drawn from the table."""

_SAME_NUMBER = ("run", "checkpoint", "split", "layer", "reduction", "classifier")


def source_of(name: str) -> Convention:
    """Return the convention of that name; UsageError when there is none."""
    known = {convention.name: convention for convention in CONVENTIONS}
    if name not in known:
        raise UsageError(f"no convention {name!r}; there are {', '.join(known)}")
    return known[name]


def rows_in_convention(name: str, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of metrics.csv, or of `ncscan.measure`, that a paper plots, as it names and scales them.

    Args:
        name: a convention of CONVENTIONS: `papyan`, `zhu`, `jacot`, `rangamani`, `he-su`.
        rows: the tidy table of metrics.

    Returns: the same columns and one in front, `name`, in the paper's order; `value` in the paper's scale. Where there
        is no value the reason stays. Where classes are balanced the one row that there is has every weighting.

    Raises: UsageError when there is no such convention.

    >>> table = pd.DataFrame({"metric": ["nc3_distance"], "quantity": [""], "weighting": ["class"], "value": [0.5]})
    >>> rows_in_convention("papyan", table)[["name", "value"]].to_dict("list")
    {'name': ['NC3'], 'value': [0.25]}
    """
    parts = [_rows(quantity, rows) for quantity in source_of(name).quantities]
    return pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)


def _rows(quantity: Quantity, rows: pd.DataFrame) -> pd.DataFrame:
    found = rows[(rows["metric"] == quantity.metric) & (rows["quantity"] == quantity.quantity)]
    if quantity.weighting is not None:
        # Balanced classes have one row, `class`; imbalanced ones have a row of the weighting that is asked, too.
        keys = [key for key in _SAME_NUMBER if key in found.columns]
        asked = found["weighting"] == quantity.weighting
        has = asked.groupby([found[key] for key in keys]).transform("any") if keys and len(found) else asked
        found = found[asked | ~has.astype(bool)]
    found = found.assign(value=found["value"] ** quantity.power)
    found.insert(0, "name", quantity.name)
    return found
