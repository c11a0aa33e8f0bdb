"""Shapes and types that the annotations promise are checked in every test."""

import os

# Small tensors: threads cost more than they give, and the tests run in two processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from jaxtyping import install_import_hook

install_import_hook("ncscan", "beartype.beartype")
