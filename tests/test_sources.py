"""The forms in which models and data are named: each row opens, and none of them lets code pass for a file."""

import inspect
from pathlib import Path

import pytest
from torch import nn

from ncscan.config import read_config, with_flags
from ncscan.data.convert import DataRequest, StoredSamples
from ncscan.errors import UsageError
from ncscan.models.request import ModelRequest
from ncscan.sources import DATA_SOURCES, MODEL_SOURCES, form_of


@pytest.mark.parametrize("form", MODEL_SOURCES, ids=lambda form: form.written)
def test_every_row_of_models_names_a_function_of_a_request(form: object) -> None:
    signature = inspect.signature(form.open())  # type: ignore[attr-defined]
    assert [parameter.annotation for parameter in signature.parameters.values()] == [ModelRequest]
    assert issubclass(signature.return_annotation, nn.Module)


@pytest.mark.parametrize("form", DATA_SOURCES, ids=lambda form: form.written)
def test_every_row_of_data_names_a_function_of_a_request(form: object) -> None:
    signature = inspect.signature(form.open())  # type: ignore[attr-defined]
    assert [parameter.annotation for parameter in signature.parameters.values()] == [DataRequest]
    assert signature.return_annotation is StoredSamples


@pytest.mark.parametrize("spec", ["", ":", "mlp:", "train", ":make", "train:"])
def test_what_has_no_form_is_refused(spec: str) -> None:
    assert form_of(spec, MODEL_SOURCES) is None


@pytest.mark.parametrize(
    ("section", "spec"),
    [
        ("model", "npz:make"),
        ("model", "idx:make"),
        ("model", "train:make"),
        ("model", "mlp:make"),
        ("data", "mlp:make"),
    ],
)
def test_code_that_a_file_names_is_code_whatever_its_module_is_called(tmp_path: Path, section: str, spec: str) -> None:
    """`npz` before the colon is a file where data is asked for, and a module of that name where a model is."""
    (tmp_path / "ncscan.toml").write_text(f'[{section}]\nsource = "{spec}"\n')
    with pytest.raises(UsageError, match="trust"):
        with_flags(read_config(tmp_path))


def test_a_module_may_be_called_like_a_source_without_a_colon() -> None:
    assert form_of("mlp", MODEL_SOURCES) == MODEL_SOURCES[0]
    assert form_of("mlp:make", MODEL_SOURCES) == MODEL_SOURCES[-1]
