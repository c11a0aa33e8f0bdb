"""The checks that hold in every test are there: a wrong type, a wrong size and two sizes of one name are refused."""

import sys

import numpy as np
import pytest
from beartype.roar import BeartypeCallHintViolation
from shapes import Loader

from ncscan.layer_graph import LinearMap
from ncscan.report.etf_animation.simplex import Positions, positions
from ncscan.wording import visible


def test_every_module_of_ncscan_is_checked() -> None:
    modules = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "ncscan"}
    assert len(modules) > 10
    assert [name for name, module in modules.items() if not isinstance(module.__loader__, Loader)] == []


def test_an_argument_has_its_type_dtype_and_number_of_axes() -> None:
    with pytest.raises(BeartypeCallHintViolation, match="text"):
        visible(7)  # type: ignore[arg-type]
    with pytest.raises(BeartypeCallHintViolation, match="means"):
        positions(np.ones((3, 4), np.float32), np.ones((0, 4)))
    with pytest.raises(BeartypeCallHintViolation, match="samples"):
        positions(np.eye(3), np.ones(3))


def test_a_size_has_one_value_throughout_a_call_and_the_fields_of_an_object() -> None:
    with pytest.raises(BeartypeCallHintViolation, match="samples"):
        positions(np.eye(3), np.ones((5, 4)))
    with pytest.raises(BeartypeCallHintViolation, match="rows"):
        Positions(np.ones((3, 2)), np.ones((5, 2)), np.ones((4, 2)))
    assert positions(np.eye(3), np.ones((5, 3))).rows is None


def test_a_field_of_a_plain_object_has_its_type() -> None:
    with pytest.raises(BeartypeCallHintViolation):
        LinearMap(name=3)  # type: ignore[call-arg, arg-type]
