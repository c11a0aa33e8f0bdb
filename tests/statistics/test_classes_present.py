"""Data of some of the network's classes: the numbers of those classes, wherever their labels lie, and a doubt first."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import naive_equiangular, naive_equinorm, naive_etf, random_layer, simplex, stats_of, view_of
from workspaces import ncscan, rows

from ncscan import measure
from ncscan.metrics.evaluate import Classifier, LayerView
from ncscan.metrics.evaluate import measure as measured
from ncscan.statistics.accumulation.options import AccumulationOptions
from ncscan.statistics.accumulation.passes import layer_stats
from ncscan.theory.linear_head import head_stats
from ncscan.uncertainty.evaluate import chance_levels, honest

ROUNDING = 1e-9
PLACES = ([0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [1, 3, 5, 7, 9], [0, 1, 2, 3, 9])
"""Where five of ten classes lie."""


def moved(array: np.ndarray, place: list[int]) -> np.ndarray:
    """Rows of ten outputs so that the first five are those of the classes at that place."""
    others = [c for c in range(10) if c not in place]
    found = np.empty_like(array)
    found[[*place, *others]] = array
    return found


def table(found: pd.DataFrame) -> dict[tuple[str, str, str], float]:
    keys = zip(found["metric"], found["quantity"], found["weighting"], strict=True)
    return dict(zip(keys, found["value"].tolist(), strict=True))


@pytest.mark.parametrize("place", PLACES[1:])
def test_the_numbers_do_not_depend_on_where_the_classes_lie(place: list[int]) -> None:
    rng = np.random.default_rng(0)
    features, labels = random_layer(5, 12, (9, 12, 7, 12, 4))
    W, b = rng.standard_normal((10, 12)), rng.standard_normal(10)
    first = measure(features, labels, W, b)
    there = measure(features, np.array(place)[labels], moved(W, place), moved(b, place))
    assert first.reason.tolist() == there.reason.tolist()
    assert table(there) == pytest.approx(table(first), rel=ROUNDING, abs=1e-12, nan_ok=True)
    alone = table(measure(features, labels))
    assert table(measure(features, np.array(place)[labels])) == pytest.approx(alone, rel=0, abs=0, nan_ok=True)
    assert first.value.notna().sum() > 60


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("orthogonal", [False, True])
def test_a_collapsed_network_reads_as_collapsed_on_some_of_its_classes(place: list[int], *, orthogonal: bool) -> None:
    K, n = 10, 20
    frame = np.eye(K) if orthogonal else simplex(K)
    noise = 1e-7 * np.random.default_rng(1).standard_normal((5 * n, K + 2))
    labels = np.repeat(place, n)
    features = np.pad(frame, ((0, 0), (0, 2)))[labels] + noise
    found = measure(features, labels, weight=3 * np.pad(simplex(K), ((0, 0), (0, 2))), bias=np.full(K, 0.1))
    numbers = found.set_index(["metric", "quantity"]).value
    for metric in ("nc1_pinv", "nc1_trace", "cdnv", "nc2_equinorm", "nc2_equiangular", "nc2_etf", "nc2_etf_unit"):
        assert numbers[metric, ""] < 1e-5
    for metric in ("nc2_equinorm_w", "nc2_equiangular_w", "nc2_etf_w", "nc3_distance", "nc3_etf", "nc3_uniform"):
        assert numbers[metric, ""] < 1e-5
    assert numbers["nc3_subspace", ""] == pytest.approx(1)
    assert max(numbers["bias_collapse", ""], numbers["classifier_row_sum", ""]) < 1e-5
    assert [numbers[name, ""] for name in ("ncc_error", "nc4_mismatch", "error", "etf_swap_error")] == [0, 0, 0, 0]
    reasons = found.set_index("metric").reason
    assert "5 of the network's 10 classes" in reasons["bias_collapse_raw"]


def test_rows_of_the_classifier_are_compared_minus_their_mean() -> None:
    features, labels = random_layer(4, 6, 8)
    W = np.random.default_rng(2).standard_normal((7, 6))
    at = np.array([1, 2, 4, 6])
    found = table(measure(features, at[labels], weight=W))
    rows_, means = W[at] - W[at].mean(axis=0), np.stack([features[labels == c].mean(axis=0) for c in range(4)])
    M = means - means.mean(axis=0)
    distance = np.linalg.norm(rows_ / np.linalg.norm(rows_) - M / np.linalg.norm(M))
    assert found["nc3_distance", "", "class"] == pytest.approx(distance, rel=ROUNDING)
    gram, etf = rows_ @ rows_.T, (np.eye(4) - 1 / 4) / np.sqrt(3)
    assert found["nc2_etf_w", "", ""] == pytest.approx(np.linalg.norm(gram / np.linalg.norm(gram) - etf), rel=ROUNDING)
    cosines = [w @ h / np.linalg.norm(w) / np.linalg.norm(h) for w, h in zip(W[at[labels]], features, strict=True)]
    assert found["nc3_cosine", "samples", ""] == pytest.approx(np.mean(cosines), rel=ROUNDING)  # not centred
    whole = np.linalg.norm(W.sum(axis=0)) / (np.sqrt(7) * np.linalg.norm(W))
    assert found["classifier_row_sum", "", ""] == pytest.approx(whole, rel=ROUNDING)
    U = np.linalg.svd(M, full_matrices=False)[2][:3]
    V = np.linalg.svd(rows_, full_matrices=False)[2][:3]
    subspace = np.linalg.svd(V @ U.T, compute_uv=False).mean()
    assert found["nc3_subspace", "", "class"] == pytest.approx(subspace, rel=ROUNDING)


@pytest.mark.parametrize("outputs", [4, 5])
def test_the_column_centred_is_what_was_done_to_the_rows(outputs: int) -> None:
    """One spare output, and the rows that are left are taken minus their mean."""
    features, labels = random_layer(4, 6, 8)
    W = 1 + np.random.default_rng(6).standard_normal((outputs, 6))
    rows_ = W[:4]
    found = measure(features, labels, weight=W).set_index("metric")
    for metric in ("nc2_equinorm_w", "nc2_equiangular_w", "nc2_etf_w"):
        assert bool(found.centred[metric]) is (outputs > 4)
    used = rows_ - rows_.mean(axis=0) if found.centred["nc2_etf_w"] else rows_
    assert found.value["nc2_etf_w"] == pytest.approx(naive_etf(used @ used.T), rel=ROUNDING)
    assert found.value["nc2_equinorm_w"] == pytest.approx(naive_equinorm(used), rel=ROUNDING)
    assert found.value["nc2_equiangular_w"] == pytest.approx(naive_equiangular(used), rel=ROUNDING)


def test_a_simplex_by_construction_is_no_number() -> None:
    features, labels = random_layer(2, 6, 8)
    W = np.random.default_rng(3).standard_normal((7, 6))
    reasons = measure(features, 3 * labels, weight=W).set_index("metric").reason
    for metric in ("nc2_equinorm_w", "nc2_equiangular_w", "nc2_etf_w", "nc3_uniform", "nc3_etf"):
        assert reasons[metric].startswith("trivial: of 7 rows the data has the classes of 2")


def test_intervals_and_chance_are_alike_wherever_the_classes_lie() -> None:
    features, labels = random_layer(5, 12, 9)
    W = np.random.default_rng(4).standard_normal((10, 12))
    found = []
    for place in PLACES:
        stats = layer_stats(
            lambda: [(0, features)],
            np.array(place)[labels],
            10,
            AccumulationOptions(classifier=moved(W, place), samples=True),
        )
        view = LayerView(stats, classifier=Classifier("head", moved(W, place)), n_outputs=10)
        found.append(
            {(e.row.metric, e.row.quantity): (e.row.value, e.low, e.high, e.chance) for e in honest(view, resamples=30)}
        )
    first = found[0]
    for other in found[1:]:
        assert other.keys() == first.keys()
        for key, numbers in first.items():
            for one, same in zip(numbers[:3], other[key][:3], strict=True):
                assert (one is None) == (same is None)
                assert one is None or same == pytest.approx(one, rel=1e-7, abs=1e-12)
            assert other[key][3] == numbers[3]
    value, low, high, chance = first["nc3_distance", ""]
    assert low is not None
    assert high is not None
    assert value is not None
    assert low - 0.05 < value < high + 0.05
    etf_w, etf = (first[name, ""][3] for name in ("nc2_etf_w", "nc2_etf"))
    assert etf_w is not None
    assert etf is not None
    assert chance is not None
    # Centred rows at random have the law of centred means, but other draws: two means of 400 draws each differ by less
    # than 5 of their standard errors. Where it is a formula the two are one number.
    assert etf.low is not None
    assert etf.high is not None
    deviation = (etf.high - etf.low) / (2 * 1.96)
    assert abs(etf_w.value - etf.value) < 5 * deviation * np.sqrt(2 / 400)
    many = chance_levels(101, 12, centred_rows=True)
    assert many["nc2_etf_w"] == many["nc2_etf"]


def test_one_stray_label_costs_nothing() -> None:
    """Neither time nor memory goes with the largest label: K × K numbers of 65,536 classes would be 34 GB."""
    script = """
import resource, numpy as np, ncscan
r = np.random.default_rng(0)
y = np.repeat(np.arange(5), 40)
Z = r.standard_normal((200, 16)) + 3 * r.standard_normal((5, 16))[y]
plain = ncscan.measure(Z, y)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for stray in (65_535, 50_257, 99_999):
    found = ncscan.measure(Z, np.where(np.arange(200) == 7, stray, y))
    assert (found.value.notna().sum() >= plain.value.notna().sum()), found
    near = ncscan.measure(Z, np.where(np.arange(200) == 7, 5, y))
    assert found.value.equals(near.value)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 50_000  # kB


@pytest.fixture
def partial(tmp_path: Path) -> Path:
    """A collapsed network of ten outputs, and data of five of its classes."""
    K = 10
    ckpts = tmp_path / "ckpts"
    ckpts.mkdir()
    state = {"0.weight": torch.eye(K), "1.weight": torch.eye(K), "2.weight": 5 * (torch.eye(K) - 1 / K)}
    torch.save(state, ckpts / "step_1.pt")
    (ckpts / "ncscan.toml").write_text(
        '[model]\nsource = "mlp"\nactivation = "relu"\nlinear_head = 2\n[data]\nsource = "npz:data.npz"\n'
    )
    return tmp_path


def write_data(path: Path, place: list[int], per_class: int = 20, seed: int = 0) -> None:
    y = np.repeat(place, per_class)
    noise = 0.005 * np.random.default_rng(seed).standard_normal((len(y), 10))
    noise = noise[:, np.argsort([*place, *(c for c in range(10) if c not in place)])]  # the same, wherever classes lie
    np.savez(path, x=(np.eye(10)[y] + noise).astype(np.float32), y=y)


def test_a_report_says_first_which_classes_are_lacking(partial: Path) -> None:
    found = []
    for place in (PLACES[0], PLACES[2]):
        write_data(partial / "ckpts" / "data.npz", place)
        write_data(partial / "ckpts" / "test.npz", [c for c in range(10) if c not in place], 6, 1)
        done = ncscan("extract", "ckpts", "--layers", "all", "--test", "npz:ckpts/test.npz", "--force", cwd=partial)
        assert done.returncode == 0, done.stderr
        done = ncscan("report", "--bootstrap", "20", cwd=partial)
        assert done.returncode == 0, done.stderr
        assert "the data has 5 of the network's 10 classes, no samples of" in done.stderr
        assert "30 of 30 samples are of classes that the training data lacks" in done.stderr
        doubt = done.stdout[done.stdout.index("doubtful:") :]
        assert doubt.startswith("doubtful: The data has 5 of the network's 10 classes")
        key = ("split", "layer", "metric", "quantity", "weighting")
        numbers = {tuple(r[name] for name in key): float(r["value"] or "nan") for r in rows(partial)}
        reasons = {tuple(r[name] for name in key): r["reason"] for r in rows(partial)}
        assert numbers["train", "1", "nc3_distance", "", "class"] < 0.01
        assert "reads for all of them" in reasons["train", "0_relu", "nc3_subspace", "", "class"]
        assert reasons["test", "1", "ncc_error", "", ""] == "no sample is of a class that the training set has"
        by_class = rows(partial, "classes.csv")
        train = {int(r["class_index"]) for r in by_class if r["split"] == "train"}
        assert train == set(place)
        of_theory = {r["reason"] for r in rows(partial, "theory.csv") if r["claim"] == "nc1_upper"}
        assert of_theory == {"the data has 5 of the network's 10 classes: it is said of all of them"}
        found.append((numbers, reasons))
    for numbers, reasons in found[1:]:
        assert reasons == found[0][1]
        assert numbers == pytest.approx(found[0][0], rel=1e-3, abs=1e-6, nan_ok=True)


def test_a_spare_output_is_left_out_and_told_once_of_all_checkpoints(partial: Path) -> None:
    write_data(partial / "ckpts" / "data.npz", [*range(9)])
    for step in (2, 3):
        shutil.copy(partial / "ckpts" / "step_1.pt", partial / "ckpts" / f"step_{step}.pt")
    made = ncscan("extract", "ckpts", "--layers", "all", cwd=partial)
    assert made.returncode == 0, made.stderr
    done = ncscan("report", cwd=partial)
    assert done.returncode == 0, done.stderr
    for said in (made.stderr, done.stderr):
        told = [line for line in said.splitlines() if "9 of the network's 10 classes" in line]
        assert [("warning: ckpts/step_1.pt: the", True)] == [
            (line[: line.index(" data has")], line.endswith("(2 more alike)")) for line in told
        ]
    report = json.loads((partial / "ncscan-out" / "report" / "report.json").read_text())
    assert 1 == sum(told.startswith("ckpts/step_1.pt and 2 more: the data has 9") for told in report["warnings"])
    (doubt,) = [doubt for doubt in report["verdict"]["runs"][0]["doubts"] if "no samples of 9" in doubt["sentence"]]
    assert ("lacking classes", "The data has 9") == (doubt["kind"], doubt["sentence"][:14])
    assert "doubtful: The data has 9 of the network's 10 classes, no samples of 9" in done.stdout.replace("\n  ", " ")
    numbers = {(r["layer"], r["metric"]): r["value"] for r in rows(partial)}
    assert float(numbers["1", "nc3_distance"]) < 0.01


def test_a_class_of_one_sample_is_a_doubt(partial: Path) -> None:
    y = np.concatenate([np.repeat(np.arange(9), 12), [9]])
    x = np.eye(10)[y] + 0.005 * np.random.default_rng(0).standard_normal((len(y), 10))
    np.savez(partial / "ckpts" / "data.npz", x=x.astype(np.float32), y=y)
    assert ncscan("extract", "ckpts", cwd=partial).returncode == 0
    done = ncscan("report", cwd=partial)
    assert "there is one sample of class 9: it is its own mean" in done.stderr
    own = {r["metric"]: r for r in rows(partial, "classes.csv") if r["class_index"] == "9" and not r["other_index"]}
    assert own["class_variance"]["value"] == own["ncc_error"]["value"] == ""


def test_theory_of_all_outputs_is_unchanged() -> None:
    Z, y = random_layer(3, 5, 6)
    assert head_stats(lambda: [(0, Z)], y, 3, [(np.eye(3, 5), None)]).n_classes == 3
    assert measured(view_of(Z, y, W=np.eye(3, 5))) == measured(
        LayerView(view_of(Z, y, W=np.eye(3, 5)).stats, classifier=Classifier("head", np.eye(3, 5)), n_outputs=3)
    )
    assert stats_of(Z, y).classes.tolist() == [0, 1, 2]
