"""Describe how collapse develops over the steps of a run, and over the depth of a checkpoint."""

from ncscan.trajectory.evaluate import trajectory_rows
from ncscan.trajectory.findings import COLLAPSED, DECAYING, MAIN, THRESHOLDS
from ncscan.trajectory.over_depth import stages
from ncscan.trajectory.seed_groups import group_frame
from ncscan.trajectory.series import FEWEST

__all__ = [
    "COLLAPSED",
    "DECAYING",
    "FEWEST",
    "MAIN",
    "THRESHOLDS",
    "group_frame",
    "stages",
    "trajectory_rows",
]
