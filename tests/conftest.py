"""Shapes and types that the annotations promise are checked in every test."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small tensors: threads cost more than they give, and xdist runs two of us

from jaxtyping import install_import_hook

install_import_hook("ncscan", "beartype.beartype")
