"""What a checkpoint is called where it stands for a moment of its run, and when the terminal phase of a run begins."""

from collections import Counter

import pandas as pd

from ncscan.wording import visible


def moment_names(moments: pd.DataFrame) -> list[str]:
    """Return the unit and step of each, with its name where several have one step, or its name where it has none."""
    names = [visible(str(name)) for name in moments["checkpoint"]]
    times = [
        "" if pd.isna(step) else f"{visible(str(unit))} {int(step):,}".strip()
        for step, unit in zip(moments["step"], moments["step_unit"], strict=True)
    ]
    count = Counter(times)
    return [
        time if time and count[time] == 1 else f"{time} ({name})" if time else name
        for name, time in zip(names, times, strict=True)
    ]


def onsets(trajectory: pd.DataFrame) -> dict[str, int]:
    """Return the step of the first checkpoint without training errors, of the runs that have one."""
    own = trajectory[(trajectory["finding"] == "terminal_phase") & (trajectory["quantity"] == "onset")]
    known = own[own["value"].notna()].drop_duplicates("run")
    return dict(zip(known["run"].map(str), known["value"].map(int), strict=True))
