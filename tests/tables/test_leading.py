"""Which row leads is said in the tables: rows in any order come to the same series, verdicts, figures and diffs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from dumping import D, K, dump_to
from torch import nn

from ncscan.compare.align import compare
from ncscan.compare.gate_parser import parse
from ncscan.compare.gates import field_of, judge
from ncscan.compare.landmarks import landmarks
from ncscan.compare.ranking import main_rows, most_changed
from ncscan.data.dataset import Dataset, from_arrays
from ncscan.errors import UsageError
from ncscan.pipeline.measure import Options
from ncscan.pipeline.measurements import measure
from ncscan.report.figures import numbers as figures
from ncscan.report.figures.charted import charted
from ncscan.report.html.series import carried
from ncscan.report.json_report import json_text
from ncscan.report.verdict.evaluate import NOTHING, as_plain, verdicts
from ncscan.rows import leading, with_leads
from ncscan.tables.columns import LEADS, TABLES
from ncscan.tables.frames import complete, summary_frame
from ncscan.tables.plotted_points import points
from ncscan.tables.report_reader import read_report
from ncscan.trajectory.evaluate import trajectory_rows
from ncscan.trajectory.seed_groups import group_frame

Tables = dict[str, pd.DataFrame]

RUNS, STEPS = ("s0", "s1"), (0, 9)
SIZES = (60, 40, 30, 20)

IN_ORDER: dict[Callable[[Tables], Any], Any] = {}
"""What the tables come to in the order in which they were made."""


class Fork(nn.Module):
    """One layer is read by two maps, `right` before `left`."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.body, self.left, self.right = nn.Linear(D, 16), nn.Linear(16, 16), nn.Linear(16, 16)
        self.middle, self.out = nn.Linear(16, 8), nn.Linear(8, K, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.relu(self.body(x))
        logits: torch.Tensor = self.out(self.middle(torch.relu(self.right(h) + self.left(h))))
        return logits


def unequal() -> Dataset:
    """Classes of unequal sizes, so that every weighting has its row."""
    torch.manual_seed(1)
    labels = torch.repeat_interleave(torch.arange(K), torch.tensor(SIZES))
    return from_arrays(torch.randn(len(labels), D) + labels[:, None], labels, class_names=tuple("abcd"))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    """The tables of two runs of one group, with two checkpoints at the last step."""
    folder = tmp_path_factory.mktemp("dumps")
    paths = []
    for i, run in enumerate(RUNS):
        for j, step in enumerate((*STEPS, STEPS[-1])):
            paths.append(folder / f"{run}-{j}.h5")
            facts: dict[str, Any] = {"run": run, "group": "s", "checkpoint": f"{j}.pt", "step": step}
            dump_to(paths[-1], model=Fork(10 * i + j).eval(), dataset=unequal(), tensors_sha256=f"{i}{j}", **facts)
    found = measure(paths, Options(), lambda _: None)
    assert len(RUNS) * 3 == len(found.measured)
    return complete(found.tables)


@pytest.fixture(scope="module", params=range(2))
def shuffled(report: Tables, request: pytest.FixtureRequest) -> Tables:
    """The same tables: layers, pairs of maps and claims in their order, the rows of each in any order."""
    return {
        name: _in_any_order(table, request.param) if LEADS in TABLES[name] else table for name, table in report.items()
    }


def _in_any_order(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    names = ("run", "checkpoint", "split", "layer", "map", "next_map", "claim")
    place = [name for name in names if name in table.columns]
    block = table.groupby(place, sort=False, dropna=False).ngroup()
    mixed = np.random.default_rng(seed).permutation(len(table))
    order = mixed[np.argsort(block.to_numpy()[mixed], kind="stable")]
    return table.iloc[order].reset_index(drop=True)


def known() -> list[dict[str, Any]]:
    same = {"group": "s", "step_unit": "iteration", "split": "train", "n_samples": sum(SIZES), "n_classes": K}
    return [
        {**same, "run": run, "checkpoint": f"{j}.pt", "step": step, "class_names": list("abcd"), "doubts": []}
        for run in RUNS
        for j, step in enumerate((*STEPS, STEPS[-1]))
    ]


def as_set(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame whatever the order of its rows and columns."""
    texts = frame[sorted(frame.columns)].astype("string").fillna("")
    return texts.sort_values(list(texts.columns)).reset_index(drop=True)


def first_rows(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    return rows.drop_duplicates(by, keep="first")


def test_a_layer_that_two_maps_read_has_rows_of_each(report: Tables) -> None:
    metrics = report["metrics"]
    own = metrics[(metrics["metric"] == "nc3_subspace") & metrics["classifier"].isin(["left", "right"])]
    assert {"right", "left"} == set(own["classifier"])
    assert {"class", "sample"} == set(own["weighting"])
    assert {("right", "class")} == set(
        own[own["leads"]][["classifier", "weighting"]].itertuples(index=False, name=None)
    )


@pytest.mark.parametrize("table", ["metrics", "weights", "theory"])
def test_one_row_leads_each_metric_at_its_place(report: Tables, table: str) -> None:
    own = report[table]
    place = [c for c in ("run", "checkpoint", "split", "layer", "map", "metric", "claim") if c in own.columns]
    assert own.groupby(place, dropna=False)["leads"].sum().eq(1).all()


@pytest.mark.parametrize(
    "by",
    [
        ["layer", "metric"],
        ["layer", "metric", "classifier"],
        ["layer", "metric", "quantity"],
        ["layer", "metric", "quantity", "weighting"],
    ],
    ids=len,
)
def test_rows_in_any_order_lead_as_the_first_of_those_that_were_measured(
    report: Tables, shuffled: Tables, by: list[str]
) -> None:
    by = ["run", "checkpoint", "split", *by]
    assert as_set(first_rows(report["metrics"], by)).equals(as_set(leading(shuffled["metrics"], by)))


def test_pairs_in_any_order_lead_as_the_first_of_those_that_were_measured(report: Tables, shuffled: Tables) -> None:
    mixed = shuffled["weights"].sample(frac=1, random_state=0)
    for by in (["map", "metric"], ["map", "next_map", "metric"], ["map", "next_map", "metric", "quantity"]):
        own = ["run", "checkpoint", *by]
        assert as_set(first_rows(report["weights"], own)).equals(as_set(leading(mixed, own)))


def findings(own: Tables) -> Any:
    stages = dict.fromkeys(RUNS, ("input", "/relu", "middle", "out"))
    return as_set(trajectory_rows(own["metrics"], own["weights"], {}, stages)).to_dict("list")


def groups(own: Tables) -> Any:
    # A run has two checkpoints at one step, in any order too.
    mixed = own["metrics"].sample(frac=1, random_state=1).sort_values("run", kind="stable")
    return as_set(group_frame(mixed)).to_dict("list")


def summary(own: Tables) -> Any:
    return as_set(summary_frame(own["metrics"], own["weights"])).to_dict("list")


def judgements(own: Tables) -> Any:
    return as_plain(verdicts(own, known()))


def charts(own: Tables) -> Any:
    return {each.name: json.dumps(each.spec, sort_keys=True) for each in charted(own)}


def panels(own: Tables) -> Any:
    asked = [figures.named(own, "jacot", "NC1"), figures.of_maps(own, "balancedness_diagonal", "op")]
    heads = figures.heads(own)
    return heads, [as_set(figures.over_steps(rows).rows).to_dict("list") for rows in asked]


def page(own: Tables) -> Any:
    numbers, runs, _ = carried(points(own["metrics"], own["weights"]), frozenset())
    first = {n.metric: (n.quantity, n.weighting) for n in reversed(numbers)}
    series = [{(numbers[each["number"]].label, each["value"]) for each in run["series"]} for run in runs]
    return first, series


def thinned(own: Tables) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ncscan.report.html.series.MOST_NUMBERS", 300)
        return page(own)


def moved(own: Tables) -> Any:
    a, b = ({name: _of_run(table, run) for name, table in own.items()} for run in RUNS)
    frame = compare(a, b).frame
    keys = ["checkpoint_a", "table", "layer", "metric", "classifier", "quantity", "weighting"]
    main = main_rows(frame).sort_values(keys, kind="stable").reset_index(drop=True)
    return most_changed(main).drop(columns="leads").astype("string").fillna("").to_dict("list")


def _of_run(table: pd.DataFrame, run: str) -> pd.DataFrame:
    return table[table["run"] == run].assign(run="s").reset_index(drop=True)


def judged(own: Tables) -> Any:
    field = field_of(own)
    names = dict.fromkeys(sorted(field.frame["metric"]))
    asked = [f"any({name}) != 0" for name in names]
    asked += ["any(nc3_subspace[classifier=left]) > 9", "any(nc1_pinv[weighting=sample]) > 9"]
    return [
        (gate, result.matched, result.broken, [row.value for row in result.rows])
        for gate in asked
        if (result := judge(parse(gate), field))
    ]


@pytest.mark.parametrize("made", [findings, groups, summary, judgements, charts, panels, page, thinned, moved, judged])
def test_rows_in_any_order_come_to_the_same(report: Tables, shuffled: Tables, made: Callable[[Tables], Any]) -> None:
    if made not in IN_ORDER:
        IN_ORDER[made] = made(report)
    assert IN_ORDER[made] == made(shuffled)


@pytest.mark.parametrize("over", ["{}", "any({})", "all({})"])
def test_a_gate_that_leaves_several_quantities_without_the_one_that_leads_asks(report: Tables, over: str) -> None:
    """Judged on all of them, `any` would fail more and `all` less than was asked for."""
    imbalance = over.format("imbalance[weighting=sample, run=s0, step=first, layer=/relu]")
    with pytest.raises(UsageError, match=r"imbalance has several quantities here .* say quantity=, one of "):
        judge(parse(f"{imbalance} > 9"), field_of(report))
    all_of_them = "any(imbalance[weighting=sample, quantity=*, run=s0, step=first, layer=/relu]) > 9"
    assert 4 == judge(parse(all_of_them), field_of(report)).matched


@pytest.mark.parametrize("over", ["{}", "any({})", "all({})"])
def test_a_gate_with_a_weighting_is_of_the_quantity_that_leads(report: Tables, shuffled: Tables, over: str) -> None:
    asked = over.format("gnc2_uniformity[weighting=sample, run=s0, step=first, layer=/relu]")
    found = [judge(parse(f"{asked} > -1"), field_of(tables)) for tables in (report, shuffled)]
    assert [1, 1] == [result.matched for result in found]
    assert all("gnc2_uniformity mean, weighting sample" in result.rows[0].where for result in found)


def test_a_gate_with_every_weighting_has_each(report: Tables) -> None:
    asked = "any(gnc2_uniformity[weighting=*, run=s0, step=first, layer=/relu]) > -1"
    rows = judge(parse(asked), field_of(report)).rows
    assert ["class", "sample"] == sorted(row.where.rpartition(" ")[2] for row in rows)


def test_words_for_layers_are_of_each_run_whatever_was_measured_of_others(report: Tables) -> None:
    """One run with a held-out split alone, another with other data alone: each has its own head."""
    own = report["metrics"][report["metrics"]["split"] == "train"]
    splits = own["run"].map(dict(zip(dict.fromkeys(own["run"]), ("test", "ood", "ood", "ood"), strict=False)))
    found = landmarks({**report, "metrics": own.assign(split=splits)})
    expected = landmarks({**report, "metrics": own})
    assert found.layers == expected.layers
    assert {run for run, _ in found.layers["head"]} == set(own["run"])


def test_a_report_of_the_version_before_is_read_with_what_leads(report: Tables, tmp_path: Path) -> None:
    plain = json.loads(json_text(report, [], [], [], NOTHING))
    plain["schema_version"] = 4
    for name, columns in TABLES.items():
        if LEADS in columns:
            at = plain[name]["columns"].index("leads")
            del plain[name]["columns"][at]
            for row in plain[name]["rows"]:
                del row[at]
    path = tmp_path / "report.json"
    path.write_text(json.dumps(plain), encoding="utf-8")
    for name, table in read_report(path).items():
        pd.testing.assert_frame_equal(report[name], table)


def test_a_report_of_rows_in_another_order_keeps_what_leads(shuffled: Tables, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(json_text(shuffled, [], [], [], NOTHING), encoding="utf-8")
    pd.testing.assert_frame_equal(shuffled["metrics"], read_report(path)["metrics"])
    assert not shuffled["metrics"].equals(with_leads(shuffled["metrics"]))


def test_where_nothing_leads_convention_and_name_decide() -> None:
    rows = pd.DataFrame({"metric": "m", "quantity": ["b", "a", "a"], "weighting": ["class", "sample", "class"]})
    assert [2] == leading(rows, ["metric"]).index.tolist()
    assert [2] == leading(rows.assign(leads=pd.array([None] * 3, dtype="boolean")), ["metric"]).index.tolist()
    assert [0] == leading(rows.assign(leads=[True, False, False]), ["metric"]).index.tolist()
