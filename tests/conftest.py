"""Checks that hold in every test: shapes and types are as annotated, and no result depends on the machine's load."""

import os

# Small tensors: threads cost more than they give, and the tests run in two processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from hypothesis import settings
from shapes import check_ncscan

check_ncscan()

# Hypothesis's own profile for CI, everywhere: the same examples each time, no limit in seconds, nothing left in the
# checkout. `--hypothesis-profile default` looks for other examples.
settings.load_profile("ci")
