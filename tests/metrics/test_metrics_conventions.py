"""The figures of the papers from our table, against the papers' own formulas."""

from dataclasses import asdict

import pandas as pd
import pytest
from metric_oracles import CASES, ORACLES, distance

from ncscan.errors import UsageError
from ncscan.metrics.evaluate import METRICS, measure
from ncscan.tables.conventions import CONVENTIONS, rows_in_convention


def table(case: int) -> pd.DataFrame:
    return pd.DataFrame([{"layer": "features", **asdict(row)} for row in measure(CASES[case][0])])


def values(name: str, case: int) -> dict[str, float]:
    rows = rows_in_convention(name, table(case))
    assert not rows["name"].duplicated().any()
    return dict(zip(rows["name"], rows["value"], strict=True))


def test_every_quantity_is_in_the_table() -> None:
    known = {(m.name, q) for m in METRICS for q in m.quantities}
    assert all((q.metric, q.quantity) in known for convention in CONVENTIONS for q in convention.quantities)


@pytest.mark.parametrize("case", [0, 2], ids=["balanced", "imbalanced"])
def test_figures_are_the_formulas_of_the_papers(case: int) -> None:
    _, Z, y, W, b, _ = CASES[case]
    pinv = ORACLES["nc1_pinv"](Z, y, W, b, "class")
    assert values("papyan", case)["NC1"] == pytest.approx(pinv, rel=1e-8)
    assert values("papyan", case)["NC3"] == pytest.approx(distance(Z, y, W, "class") ** 2, rel=1e-8)
    assert values("zhu", case)["NC1"] == pytest.approx(pinv, rel=1e-8)
    assert values("zhu", case)["NC2"] == pytest.approx(ORACLES["nc2_etf_w"](Z, y, W, b, "class"), rel=1e-8)
    assert values("jacot", case)["NC1"] == pytest.approx(ORACLES["nc1_trace"](Z, y, W, b, "class"), rel=1e-8)
    assert values("he-su", case)["D"] == pytest.approx(ORACLES["separation"](Z, y, W, b, "sample"), rel=1e-8)


def test_d_is_k_times_nc1_when_classes_are_balanced() -> None:
    assert values("he-su", 0)["D"] == pytest.approx(4 * values("papyan", 0)["NC1"], rel=1e-10)
    assert values("he-su", 2)["D"] != pytest.approx(5 * values("papyan", 2)["NC1"], rel=1e-3)


def test_the_weighting_that_a_paper_asks_is_taken_where_there_are_two() -> None:
    assert set(rows_in_convention("papyan", table(2))["weighting"]) == {"class", ""}
    assert set(rows_in_convention("he-su", table(2))["weighting"]) == {"sample"}


def test_columns_and_reasons_stay() -> None:
    rows = table(0)
    lost = rows["metric"] == "nc3_distance"
    rows = rows.assign(value=rows["value"].mask(lost), reason=rows["reason"].mask(lost, "W is zero"))
    found = rows_in_convention("papyan", rows)
    assert list(found.columns) == ["name", *rows.columns]
    assert found.set_index("name").reason["NC3"] == "W is zero"
    assert len(rows_in_convention("jacot", rows[:0])) == 0


def test_an_unknown_convention_names_the_known() -> None:
    with pytest.raises(UsageError, match=r"no convention 'x'; there are papyan, zhu, jacot, rangamani, he-su"):
        rows_in_convention("x", table(0))
