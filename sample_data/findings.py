"""What the papers found, looked for in a report of the runs of reproductions.py: the table of docs/reproductions.md.

    python sample_data/findings.py REPORT_FOLDER

In: metrics.csv and weights.csv of a report of those runs, or of the runs in trajectories/. Out: a Markdown table, one
finding a row, each confirmed, not confirmed or in between by the rule in its row. What a report has no runs for is left
out.
"""

import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pandas as pd


class Finding(NamedTuple):
    """A statement of a paper, the numbers that speak to it, and what they say."""

    statement: str
    source: str
    rule: str
    numbers: str
    verdict: str


class Report:
    """The two tables, and the few ways in which they are asked."""

    def __init__(self, folder: Path) -> None:
        self.metrics = pd.read_csv(folder / "metrics.csv", keep_default_na=False, na_values={"value": [""]})
        self.weights = pd.read_csv(folder / "weights.csv", keep_default_na=False, na_values={"value": [""]})
        last = self.metrics.groupby("run")["step"].transform("max")
        self.end = self.metrics[self.metrics["step"] == last]
        self.read = {
            run: own["layer"].iloc[-1] for run, own in self.end[self.end["metric"] == "nc3_distance"].groupby("run")
        }

    def runs(self, group: str) -> list[str]:
        return sorted(set(self.metrics.loc[self.metrics["group"] == group, "run"]))

    def at_classifier(self, metric: str, group: str) -> float:
        """Mean over the seeds of a group, at the end, at the layer that the classifier reads."""
        values = [
            self.end.loc[
                (self.end["run"] == run) & (self.end["metric"] == metric) & (self.end["layer"] == self.read[run]),
                "value",
            ].iloc[0]
            for run in self.runs(group)
        ]
        return float(sum(values) / len(values))

    def by_layer(self, metric: str, quantity: str, group: str) -> pd.Series:
        """Mean over the seeds, at the end, by layer in order of depth."""
        own = self.end[
            (self.end["group"] == group) & (self.end["metric"] == metric) & (self.end["quantity"] == quantity)
        ]
        return own.groupby("depth")["value"].mean().dropna()

    def falls(self, metric: str, group: str) -> list[float]:
        """How many times over each pair's relative value falls from the first checkpoint to the last."""
        own = self.weights[
            (self.weights["group"] == group)
            & (self.weights["metric"] == metric)
            & (self.weights["quantity"] == "op_relative")
            & self.weights["value"].notna()
        ].sort_values("step")
        pairs = own.groupby(["run", "map", "next_map"], sort=False)["value"]
        return sorted(pairs.first() / pairs.last())

    def end_of_weights(self, metric: str, quantity: str, group: str) -> pd.Series:
        last = self.weights.groupby("run")["step"].transform("max")
        own = self.weights[
            (self.weights["step"] == last)
            & (self.weights["group"] == group)
            & (self.weights["metric"] == metric)
            & (self.weights["quantity"] == quantity)
        ]
        return own["value"].dropna()


def with_and_without_decay(report: Report) -> list[Finding]:
    found = []
    for name, metric in (
        ("NC1", "nc1_trace"),
        ("NC2, lengths", "nc2_equinorm"),
        ("NC2, angles", "nc2_equiangular"),
        ("NC3", "nc3_distance"),
    ):
        with_it, without = (report.at_classifier(metric, group) for group in ("decay", "no-decay"))
        verdict = "confirmed" if with_it < without / 2 else "not confirmed" if with_it >= without else "in between"
        found.append(
            Finding(
                f"{name} with weight decay, and not without",
                "Rangamani & Banburski-Fahey 2022, fig. 1–2",
                "under half of the value without",
                f"`{metric}` {with_it:.3g} with, {without:.3g} without",
                verdict,
            )
        )
    return found


def balance_along_the_head(report: Report) -> Finding:
    head, across = report.falls("balancedness", "decay"), report.falls("balancedness_diagonal", "decay")
    verdict = "confirmed" if head[0] > 2 * across[-1] else "not confirmed" if head[-1] <= across[-1] else "in between"
    return Finding(
        "The weights become balanced along the linear head, not across a ReLU",
        "Jacot et al. 2024, fig. 1",
        "every pair of the head falls over twice as much as the diagonal of any pair around a ReLU",
        f"head {head[0]:.3g} to {head[-1]:.3g} times down, across a ReLU {across[0]:.3g} to {across[-1]:.3g} times",
        verdict,
    )


def shape_over_depth(report: Report) -> list[Finding]:
    negativity = report.by_layer("negativity", "op", "decay")
    condition = report.by_layer("feature_condition", "", "decay")
    falls = sum(b <= a for a, b in pairwise(negativity))
    steps = len(negativity) - 1
    last, middle = condition.iloc[-2], condition.iloc[1:-2].median()
    return [
        Finding(
            "Negativity falls with depth: the later ReLUs act as linear maps",
            "Jacot et al. 2024, fig. 1",
            "it falls at every step from one pre-activation to the next (in between: at more than half of them)",
            f"`negativity` (op) {', '.join(f'{v:.2f}' for v in negativity)}",
            "confirmed" if falls == steps else "in between" if 2 * falls > steps else "not confirmed",
        ),
        Finding(
            "The features that the last layer reads are well conditioned",
            "Jacot et al. 2024, fig. 1",
            "κ under 10, and under a tenth of the median layer's (in between: one of the two)",
            f"`feature_condition` {last:.3g} over the directions it counts; the median layer {middle:.3g}",
            ("not confirmed", "in between", "confirmed")[int(last < 10) + int(last < middle / 10)],
        ),
    ]


def longer_heads(report: Report) -> Finding:
    groups = ("head1", "head2", "decay", "head4", "head5")
    values = [report.at_classifier("nc2_condition", group) for group in groups]
    falls = sum(b < a for a, b in pairwise(values))
    return Finding(
        "More linear layers at the end bring the class means nearer to an orthogonal frame",
        "Jacot et al. 2024, fig. 2",
        "κ(M) falls with every layer added, 1 to 5 (in between: five are better than one)",
        f"`nc2_condition` {', '.join(f'{v:.3g}' for v in values)}",
        "confirmed" if falls == len(values) - 1 else "in between" if values[-1] < values[0] else "not confirmed",
    )


def deeper_bodies(report: Report) -> list[Finding]:
    groups = ("relus2", "relus4", "relus6")
    balance = [report.end_of_weights("balancedness", "op_relative", group).mean() for group in groups]
    negativity = [report.by_layer("negativity", "op", group) for group in groups]
    least, mean = [v.min() for v in negativity], [v.mean() for v in negativity]
    falling = all(b < a for a, b in pairwise(least))
    return [
        Finding(
            "The deeper the non-linear part, the smaller the least negativity",
            "Jacot et al. 2024, fig. 3",
            "it falls from 2 to 4 to 6 ReLU layers (in between: 6 are under 2)",
            f"least {', '.join(f'{v:.3f}' for v in least)}; mean {', '.join(f'{v:.3f}' for v in mean)}",
            "confirmed" if falling else "in between" if least[-1] < least[0] else "not confirmed",
        ),
        Finding(
            "The head is balanced at every depth of the non-linear part",
            "Jacot et al. 2024, fig. 3",
            "mean relative balancedness of the head under 0.1 at each (in between: at some)",
            f"`balancedness` (op_relative) {', '.join(f'{v:.3g}' for v in balance)}",
            ("not confirmed", "in between", "in between", "confirmed")[sum(bool(v < 0.1) for v in balance)],
        ),
    ]


def random_labels(report: Report) -> Finding:
    value = report.at_classifier("nc1_trace", "random-labels")
    ours = report.at_classifier("nc1_trace", "decay")
    return Finding(
        "Random labels collapse too",
        "Zhu et al. 2021; Papyan et al. 2020",
        "`nc1_trace` under 0.05 at the end (in between: under 0.5)",
        f"{value:.3g}; with the true labels {ours:.3g}",
        "confirmed" if value < 0.05 else "in between" if value < 0.5 else "not confirmed",
    )


def error_first(report: Report) -> Finding:
    parts, earlier = [], []
    for group in ("decay", "no-decay", "random-labels"):
        for run in report.runs(group):
            own = report.metrics[report.metrics["run"] == run]
            error = own[own["metric"] == "error"].sort_values("step")
            trace = own[(own["metric"] == "nc1_trace") & (own["layer"] == report.read[run])].sort_values("step")
            fitted = error.loc[error["value"] <= 0.001, "step"].min()
            at_end = trace["value"].iloc[-1]
            settled = trace.loc[(trace["value"] - at_end).abs() <= 0.1 * at_end, "step"].min()
            parts.append(f"{run} {fitted:,} against {settled:,}")
            earlier.append(fitted < settled)
    return Finding(
        "The error is gone before the geometry settles",
        "Papyan et al. 2020 (the terminal phase)",
        "error ≤ 0.1 % at an earlier checkpoint than `nc1_trace` within 10 % of its last value, in every run",
        "step: " + "; ".join(parts),
        "confirmed" if all(earlier) else "in between" if any(earlier) else "not confirmed",
    )


def conditioned_head(report: Report) -> Finding:
    kappa = report.end_of_weights("head_condition", "condition", "decay").mean()
    root, last = (report.end_of_weights("head_condition", name, "decay").mean() for name in ("root", "last"))
    off = abs(root / last - 1)
    return Finding(
        "The head is well conditioned, and each of its maps has the root of its κ",
        "Jacot et al. 2024, section 3",
        "κ under 10, and κ^{1/L2} within 10 % of κ(W_L) (in between: one of the two)",
        f"`head_condition` {kappa:.3g}; root {root:.3g}, last map {last:.3g}",
        ("not confirmed", "in between", "confirmed")[int(kappa < 10) + int(off < 0.1)],
    )


LOOKS: tuple[tuple[Callable[[Report], Finding | list[Finding]], tuple[str, ...]], ...] = (
    (with_and_without_decay, ("decay", "no-decay")),
    (balance_along_the_head, ("decay",)),
    (conditioned_head, ("decay",)),
    (shape_over_depth, ("decay",)),
    (longer_heads, ("head1", "head2", "decay", "head4", "head5")),
    (deeper_bodies, ("relus2", "relus4", "relus6")),
    (random_labels, ("random-labels", "decay")),
    (error_first, ("decay", "no-decay")),
)
"""What is looked for, and the groups of runs that it takes."""


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    report = Report(Path(sys.argv[1]))
    print("| finding | paper | rule | numbers | |\n|---|---|---|---|---|")
    for look, groups in LOOKS:
        if not all(map(report.runs, groups)):
            continue
        found = look(report)
        for finding in found if isinstance(found, list) else [found]:
            print("| " + " | ".join((*finding[:-1], f"**{finding.verdict}**")) + " |")


if __name__ == "__main__":
    main()
