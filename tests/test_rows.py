"""Rows of the training split, where it was measured and where it was not."""

import pandas as pd
import pytest

from ncscan.rows import of_main_split, of_training


@pytest.mark.parametrize(
    ("splits", "training", "main"),
    [
        (("test", "train", "ood"), ["train"], ["train"]),
        (("", "train", "test"), ["", "train"], ["", "train"]),
        (("ood", "test"), [], ["test"]),
        (("validation", "ood"), [], ["ood"]),
        (("validation",), [], ["validation"]),
        ((), [], []),
    ],
)
def test_rows_of_the_training_split_else_of_one_other(
    splits: tuple[str, ...], training: list[str], main: list[str]
) -> None:
    rows = pd.DataFrame({"run": "a", "split": list(splits)}, dtype=object)
    assert training == of_training(rows)["split"].tolist()
    assert main == of_main_split(rows)["split"].tolist()
