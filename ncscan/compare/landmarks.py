"""Where the words of a gate point: the layer that the classifier reads, the outputs, the onset of the terminal phase.

In: the tables of a report. Out: names of layers for every checkpoint, and steps for every run. Words are resolved
here alone, so that `head` means one thing in all gates.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from ncscan.errors import Undefined
from ncscan.metrics import NETWORK
from ncscan.rows import of_main_split
from ncscan.tables import compared, onsets

LAYER_WORDS = ("input", "penultimate", "head", "output")
"""`head` and `penultimate` both are the layer that the last linear map reads."""

STEP_WORDS = ("first", "last", "onset")


@dataclass(frozen=True)
class Landmarks:
    """The layers and steps of one report that a gate can name by a word."""

    layers: Mapping[str, Mapping[tuple[str, str], str]] = field(default_factory=dict)
    """A word of LAYER_WORDS → run and checkpoint → the layer; a checkpoint without one is missing."""
    onsets: Mapping[str, int | Undefined] = field(default_factory=dict)
    """Run → the step at which its terminal phase begins, or why there is none."""
    ends: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Run → its first and its last step, of all that was measured."""


def landmarks(tables: Mapping[str, pd.DataFrame]) -> Landmarks:
    """Return the landmarks of a report, from its tables metrics and trajectory."""
    metrics = tables["metrics"]
    # Held-out data is compared with the classifier too, but the words are of the network that the training set shows.
    own = of_main_split(metrics)
    read = _layer_of(compared(own), keep="last")
    layers = {
        "input": _layer_of(own[own["kind"] == "input"]),
        "penultimate": read,
        "head": read,
        "output": _layer_of(own[own["metric"].isin([definition.name for definition in NETWORK])]),
    }
    return Landmarks(layers, onsets(tables["trajectory"]), _ends(metrics))


def _ends(metrics: pd.DataFrame) -> dict[str, tuple[int, int]]:
    known = metrics[metrics["step"].notna()]
    steps = known.groupby("run", sort=False)["step"].agg(["min", "max"])
    return {str(run): (int(first), int(last)) for run, first, last in steps.itertuples(name=None)}


def _layer_of(rows: pd.DataFrame, keep: str = "first") -> dict[tuple[str, str], str]:
    one = rows.drop_duplicates(["run", "checkpoint"], keep="last" if keep == "last" else "first")
    return {(str(run), str(name)): str(layer) for run, name, layer in zip(*(one[c] for c in _PLACE), strict=True)}


_PLACE = ("run", "checkpoint", "layer")
