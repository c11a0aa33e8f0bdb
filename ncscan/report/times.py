"""What a checkpoint is called where it stands for a moment of its run, and when the terminal phase of a run begins."""

import pandas as pd

from ncscan.report.tables import visible


def moment_names(moments: pd.DataFrame) -> list[str]:
    """The unit and step of each, or its name where it has no step."""
    return [
        visible(str(checkpoint)) if pd.isna(step) else f"{visible(str(unit))} {int(step):,}".strip()
        for checkpoint, step, unit in zip(moments["checkpoint"], moments["step"], moments["step_unit"], strict=True)
    ]


def onsets(trajectory: pd.DataFrame) -> dict[str, int]:
    """The step of the first checkpoint without training errors, of the runs that have one."""
    own = trajectory[(trajectory["finding"] == "terminal_phase") & (trajectory["quantity"] == "onset")]
    known = own[own["value"].notna()].drop_duplicates("run")
    return dict(zip(known["run"].map(str), known["value"].map(int), strict=True))
