"""Checks that hold in every test: shapes and types are as annotated, and no result depends on the machine's load."""

import os
import sys
from pathlib import Path

# Small tensors: threads cost more than they give, and the tests run in two processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# This process and those that tests start compile tests and ncscan once, not each time.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

import pytest
from hypothesis import settings
from shapes import check_ncscan

sys.dont_write_bytecode = False
check_ncscan()

# Hypothesis's own profile for CI, everywhere: the same examples each time, no limit in seconds, nothing left in the
# checkout. `--hypothesis-profile default` looks for other examples.
settings.load_profile("ci")

collect_ignore = ["hostile/coverage_fuzz.py"]
"""What needs packages that the tests do without."""


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A folder with data.npz and ckpts/: an ncscan.toml and three checkpoints."""
    from workspaces import make_workspace  # torch, which few tests need, is imported by those that do

    make_workspace(tmp_path, 0, 5, 10)
    return tmp_path
