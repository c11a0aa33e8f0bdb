"""Every measure of the table against its paper's formula, and that one break of each formula is seen."""

import ast
import inspect
import sys
import types
from collections.abc import Callable

import pytest
from metric_oracles import ORACLES, check

from ncscan.errors import Undefined
from ncscan.metrics.evaluate import METRICS, LayerView
from ncscan.metrics.view import Value

FUNCTIONS = {metric.name: metric.function for metric in METRICS}


def test_every_measure_has_an_oracle() -> None:
    assert set(ORACLES) == set(FUNCTIONS)


@pytest.mark.parametrize("name", list(ORACLES))
def test_measures_are_the_formulas_of_their_papers(name: str) -> None:
    check(name, FUNCTIONS[name])


BREAKS: tuple[tuple[str, str, str], ...] = (
    ("nc1_pinv", "/ view.stats.n_classes", "* 1"),
    ("nc1_pinv", "np.sum(within / squares)", "np.sum(within * squares)"),
    ("nc1_pinv", "view.weighting", "'class'"),
    ("nc1_trace", "/ stats.n_samples", "/ stats.n_classes"),
    ("nc1_trace", "squares.sum()", "squares.max()"),
    ("nc1_normalized", "(noise + signal)", "signal"),
    ("nc1_normalized", "stats.weights(view.weighting) @", "stats.weights('class') @"),
    ("cdnv", "inverse_squares / 2 / pairs", "inverse_squares / pairs"),
    ("cdnv", "v @ stats.frame.crowding.inverse_squares", "v.sum() * stats.frame.crowding.inverse_squares[0]"),
    ("cdnv", "(stats.n_classes - 1) / 2", "stats.n_classes / 2"),
    ("separation", '"sample"', '"class"'),
    ("separation", "return _noise_to_signal", "return 0.25 * _noise_to_signal"),
    ("vci", '"sample"', '"class"'),
    ("vci", "g / (1 + g)", "g"),
    ("vci", "np.mean(g / (1 + g))", "np.sum(g / (1 + g))"),
    ("vci", "/ stats.n_samples", ""),
    ("nc2_equinorm", "ddof=1", "ddof=0"),
    ("nc2_equinorm", "_centred(view)", "view.stats.coordinates"),
    ("nc2_equiangular", "+ 1 / (K - 1)", "- 1 / (K - 1)"),
    ("nc2_equiangular", "1 / (K - 1)", "1 / K"),
    ("nc2_etf", "np.sqrt(K - 1)", "np.sqrt(K)"),
    ("nc2_etf", "- 1 / K", ""),
    ("nc2_etf", "_centred(view)", "view.stats.means"),
    ("nc2_etf_unit", "etf_distance(centred_directions(view))", "etf_distance(_centred(view))"),
    (
        "nc2_orthogonal",
        "product_distance(stats.means, stats.means,",
        "product_distance(stats.means, stats.means - stats.means.mean(axis=0),",
    ),
    ("nc2_orthogonal", "np.sqrt(K)", "np.sqrt(K - 1)"),
    ("nc2_condition", "s[-1]", "s[1]"),
    ("gnc2_uniformity", "-np.log", "np.log"),
    ("gnc2_uniformity", "n @ (var + (mean - whole) ** 2)", "n @ np.sqrt(var)"),
    ("gnc2_uniformity", "unit, classes = centred_directions(view),", "unit, classes = _centred(view),"),
    ("ncc_error", "- stats.right.sum()", "- 0 * stats.right.sum()"),
    ("nc4_mismatch", "disagreements.sum() / view.stats.n_samples", "1 - disagreements.sum() / view.stats.n_samples"),
    ("feature_condition", "s[-1]", "s[-2]"),
    ("numerical_rank", "(s > _NUMERICAL_RANK * s[0])", "(s > 0.5 * s[0])"),
    ("stable_rank", "values[0] ** 2", "values[0]"),
    ("effective_rank", "p * np.log(p)", "p**2 * np.log(p)"),
    ("effective_rank", "p = s / s.sum()", "p = s**2 / (s**2).sum()"),
    ("participation_ratio", "(s / s[0]) ** 2", "s / s[0]"),
    ("participation_ratio", "share.sum() ** 2", "share.sum()"),
    ("norms", "/ stats.norms.count", "/ (stats.norms.count - 1)"),
    ("norms", "view.weighting", "'class'"),
    ("norms", "stats.n_samples * stats.n_features", "stats.n_samples"),
    ("negativity", "np.sqrt(negative.square / total)", "negative.square / total"),
    ("negativity", "negative.largest / s[0]", "negative.largest / s[-1]"),
    ("nc2_equinorm_w", "equinorm(_frame(view))", "equinorm(_frame(view) - _frame(view).mean(axis=0))"),
    ("nc2_equiangular_w", "equiangular(W)", "equiangular(W - W.mean(axis=0))"),
    ("nc2_etf_w", "etf_distance(_frame(view))", "etf_distance(_frame(view) - _frame(view).mean(axis=0))"),
    ("nc3_distance", "W / np.linalg.norm(W) - M", "W / np.linalg.norm(W) + M"),
    ("nc3_distance", "stats.means - stats.global_mean(view.weighting)", "stats.means"),
    ("nc3_distance_squared", "** 2", "** 1"),
    (
        "nc3_etf",
        "means = W @ stats.basis.T, stats.centred(view.weighting)",
        "means = W @ stats.basis.T, stats.centred('class')",
    ),
    ("nc3_cosine", "/ stats.n_samples", "/ stats.n_classes"),
    ("nc3_cosine", "np.mean(np.einsum", "np.sum(np.einsum"),
    ("nc3_uniform", "np.var(class_cosines(view))", "np.var(class_cosines(view), ddof=1)"),
    ("nc3_uniform", "np.var(", "np.std("),
    ("nc3_uniform", "stats.means - stats.global_mean(view.weighting)\n    _require", "stats.means\n    _require"),
    ("nc3_subspace", "j = min(rank, len(V), stats.n_classes - 1)", "j = min(rank, len(V), stats.n_classes - 2)"),
    ("nc3_subspace", "compute_uv=False).mean()", "compute_uv=False).max()"),
    ("bias_collapse", "logits - logits.mean()", "logits"),
    ("bias_collapse", "+ view.bias", "- view.bias"),
    (
        "bias_collapse_raw",
        "return _length(_central_logits(view))",
        "return _length(view.bias)",
    ),
    ("bias_collapse_raw", "view.weighting", "'class'"),
    ("classifier_row_sum", "np.sqrt(len(W))", "len(W)"),
    ("classifier_row_sum", "W.sum(axis=0)", "W.sum(axis=1)"),
    ("etf_swap_error", "errors.sum() / view.stats.n_samples", "errors.mean() / view.stats.n_samples"),
    ("imbalance", "counts.max() / counts.min()", "counts.min() / counts.max()"),
    ("imbalance", "stats.within / counts", "stats.within"),
    ("imbalance", "np.linalg.norm(vectors, axis=1),", "np.linalg.norm(vectors, axis=1) ** 2,"),
    ("imbalance", "along @ along - n", "along @ along"),
    ("imbalance_w", "along @ along - n", "along @ along"),
    ("imbalance_w", "axis=1).mean()", "axis=1).sum()"),
)
"""A measure, what is in the file of its function, and one thing that would be wrong there."""


@pytest.mark.parametrize(("name", "right", "wrong"), BREAKS, ids=lambda text: text[:40])
def test_one_break_of_a_formula_is_seen(name: str, right: str, wrong: str) -> None:
    function = broken(name, right, wrong)
    with pytest.raises((AssertionError, Undefined)):
        check(name, function)


def test_every_measure_is_broken_once() -> None:
    assert {name for name, _, _ in BREAKS} == set(ORACLES)


def broken(name: str, right: str, wrong: str) -> Callable[[LayerView], Value]:
    """The measure from a copy of its module in which that text, wherever it stands in code, is another."""
    function = FUNCTIONS[name]
    module = sys.modules[function.__module__]
    source = inspect.getsource(module)
    lines = source.splitlines(keepends=True)
    own = next(node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef) and node.name == name)
    head, body, tail = lines[: own.lineno - 1], lines[own.lineno - 1 : own.end_lineno], lines[own.end_lineno :]
    if right in "".join(body):  # in the function itself, else in what it calls
        text = "".join(head) + "".join(body).replace(right, wrong) + "".join(tail)
    else:
        text = source.replace(right, wrong)
    assert text != source, f"{right!r} is not in {module.__name__} any more"
    copy = types.ModuleType(module.__name__)
    exec(compile(text, module.__name__, "exec"), copy.__dict__)  # noqa: S102 - our own source, but for one change
    mutant: Callable[[LayerView], Value] = getattr(copy, name)
    return mutant
