"""Name the checkpoints of a run by their steps, and find where the terminal phase of a run begins."""

from collections import Counter

import pandas as pd

from ncscan.errors import Undefined
from ncscan.wording import visible


def checkpoint_names(checkpoints: pd.DataFrame) -> list[str]:
    """Return the unit and step of each, with its name where several have one step, or its name where it has none."""
    names = [visible(str(name)) for name in checkpoints["checkpoint"]]
    times = [
        "" if pd.isna(step) else f"{visible(str(unit))} {int(step):,}".strip()
        for step, unit in zip(checkpoints["step"], checkpoints["step_unit"], strict=True)
    ]
    count = Counter(times)
    return [
        time if time and count[time] == 1 else f"{time} ({name})" if time else name
        for name, time in zip(names, times, strict=True)
    ]


def onset_rows(trajectory: pd.DataFrame) -> pd.DataFrame:
    """Return the row of each run that has the onset of its terminal phase as its value, or why there is none."""
    return trajectory[(trajectory["finding"] == "terminal_phase") & (trajectory["quantity"] == "onset")]


def onsets(trajectory: pd.DataFrame) -> dict[str, int | Undefined]:
    """Return the step of the first checkpoint of each run that has no training error, or why there is none."""
    rows = onset_rows(trajectory)
    return {
        str(run): Undefined(str(reason)) if pd.isna(value) else int(value)
        for run, value, reason in zip(rows["run"], rows["value"], rows["reason"], strict=True)
    }


def known_onsets(trajectory: pd.DataFrame) -> dict[str, int]:
    """Return the same of the runs that have one."""
    return {run: step for run, step in onsets(trajectory).items() if not isinstance(step, Undefined)}
