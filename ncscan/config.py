"""Read the settings of each run from its ncscan.toml and the command line, and validate them once.

In: folders and flags. Out: `RunConfig`, one for each run: everything that the stages need and a checkpoint
does not record. Only this file reads an ncscan.toml.

An ncscan.toml may come from a stranger, with the checkpoints. So it can point at files and name settings, but
code that it names (`module:function`) counts only when the user says so.
"""

import math
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ncscan import files
from ncscan.errors import UsageError
from ncscan.ordering import GivenOrder, parse_order
from ncscan.sources import DATA_SOURCES, MODEL_SOURCES, SourceForm, choices, form_of
from ncscan.wording import listed

CONFIG_NAME = "ncscan.toml"
MAX_CONFIG = 2**14
"""Bytes of an ncscan.toml; a long one takes a page."""
MAX_TEXT = 1000
"""Characters of a text in it."""
MAX_CLASS_ORDER = 2**24
"""Bytes of a file of classes."""

Setting = None | bool | int | float | str
Normalisation = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation, one number each or one a channel."""

SECTIONS: Mapping[str, tuple[str, ...]] = {
    "model": ("source", "activation", "linear_head", "state", "weights", "prefix", "rename", "base", "logits"),
    "data": ("source", "normalize", "class_order", "test", "ood"),
    "train": (
        "loss",
        "loss_scale",
        "optimizer",
        "lr",
        "momentum",
        "dampening",
        "weight_decay",
        "batch_size",
        "schedule",
        "steps",
        "seed",
    ),
    "run": ("group", "order"),
    "report": ("fail_if",),
    "diff": ("fail_if",),
}
"""Every section and key of an ncscan.toml; anything else is a mistake and is reported."""


GATED = ("report", "diff")
"""The sections that may give the conditions under which the command of this name fails."""


@dataclass(frozen=True)
class SourceSpec:
    """The origin of a model or a data set, and the folder that relative paths and modules in it start from."""

    spec: str
    form: SourceForm
    base: Path
    trusted: bool
    """True when the user typed it; False when a file gave it."""

    @property
    def is_code(self) -> bool:
        """Return whether it names code, `module:function`, rather than a file or a built-in model."""
        return self.form.is_code


@dataclass(frozen=True)
class RunConfig:
    """One run: a folder of checkpoints of one training, and the settings that its ncscan.toml and the flags give it."""

    folder: Path
    model: SourceSpec | None = None
    activation: str | None = None
    linear_head: int | None = None
    state: str | None = None
    """The keys of the state in a checkpoint that is meant."""
    weights: str | None = None
    """`raw` or `ema`: which weights are meant where a checkpoint has both."""
    prefix: str | None = None
    """What the names of the model's tensors begin with in a checkpoint."""
    rename: tuple[tuple[str, str], ...] = ()
    """Beginnings of names that are replaced."""
    base: Path | None = None
    """The checkpoint that LoRA adapters change."""
    logits: str | None = None
    """The tensor of the output that holds the logits, by key or tap; None to find out."""
    data: SourceSpec | None = None
    normalize: Normalisation | None = None
    class_order: tuple[str, ...] = ()
    """The data's classes, by name or number, in the order of the network's outputs; empty where it is the same."""
    test: SourceSpec | None = None
    ood: SourceSpec | None = None
    train: Mapping[str, Setting] = field(default_factory=dict)
    group: str = ""
    order: GivenOrder | None = None
    """The order of the checkpoints, where notes and names do not tell it."""
    fail_if: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The gates of `report` and of `diff`, as they were written."""


def nearest_config(path: Path) -> Path | None:
    """Return the nearest folder with an ncscan.toml: that of a file, the folder itself, or one above it."""
    folder = path if path.is_dir() else path.parent
    for candidate in (folder, *folder.parents):
        # Whatever it is: a pipe or a folder in its place is an error, not a reason to look further up.
        if os.path.lexists(candidate / CONFIG_NAME):
            return candidate
    return None


def read_config(folder: Path) -> RunConfig:
    """Return the settings in the ncscan.toml of a folder; an empty RunConfig where there is none.

    Raises UsageError when it is not TOML, or holds something that ncscan does not know.
    """
    path = folder / CONFIG_NAME
    if not os.path.lexists(path):
        return RunConfig(folder)
    try:
        plain = tomllib.loads(files.read(path, UsageError, MAX_CONFIG).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # of numbers and brackets without end, too
        what = "nested too deep" if isinstance(error, RecursionError) else f"{error!s:.200}"
        raise UsageError(f"{path}: not valid TOML: {what}") from error
    for section, keys in plain.items():
        if section not in SECTIONS or not isinstance(keys, dict):
            raise UsageError(f"{path}: unknown section [{section:.60}]; there are {listed(list(SECTIONS))}")
        for key in keys:
            if key not in SECTIONS[section]:
                raise UsageError(
                    f"{path}: unknown key {key:.60} in [{section}]; there are {listed(list(SECTIONS[section]))}"
                )

    def get(section: str, key: str, *kinds: type) -> Any:
        value = plain.get(section, {}).get(key)
        # bool is an int to Python, but never a number to a user
        if value is not None and (not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)):
            wanted = " or ".join(kind.__name__ for kind in kinds)
            raise UsageError(f"{path}: {key} in [{section}] must be of type {wanted}, not {_short(value)}")
        if isinstance(value, int | float) and not (
            abs(value) < 2**63 if isinstance(value, int) else math.isfinite(value)
        ):
            raise UsageError(f"{path}: {key} in [{section}] must be a finite number, not {_short(value)}")
        if isinstance(value, str) and len(value) > MAX_TEXT:
            raise UsageError(
                f"{path}: {key} in [{section}] has {len(value):,} characters; at most {MAX_TEXT:,} are read"
            )
        return value

    linear_head = get("model", "linear_head", int)
    if linear_head is not None and linear_head < 1:
        raise UsageError(f"{path}: linear_head in [model] must be 1 or more, not {linear_head}")
    normalize, logits = get("data", "normalize", str), get("model", "logits", str, int)
    return RunConfig(
        folder=folder,
        model=_model(get("model", "source", str), folder, f"{path}: [model] source", trusted=False),
        activation=get("model", "activation", str),
        linear_head=linear_head,
        state=get("model", "state", str),
        weights=parse_weights(get("model", "weights", str), f"{path}: [model] weights"),
        prefix=get("model", "prefix", str),
        base=None if (base := get("model", "base", str)) is None else folder / base,
        rename=parse_renames(_texts(get("model", "rename", list), "rename in [model]", path), f"{path}: rename"),
        logits=None if logits is None else str(logits),
        data=_data(get("data", "source", str), folder, f"{path}: [data] source", trusted=False),
        normalize=None if normalize is None else parse_normalisation(normalize, str(path)),
        class_order=_class_order(get("data", "class_order", str, list), folder, f"{path}: class_order in [data]"),
        test=_data(get("data", "test", str), folder, f"{path}: [data] test", trusted=False),
        ood=_data(get("data", "ood", str), folder, f"{path}: [data] ood", trusted=False),
        train={key: get("train", key, str, int, float, bool) for key in plain.get("train", {})},
        group=get("run", "group", str) or "",
        order=parse_order(get("run", "order", str), folder, f"{path}: order in [run]"),
        fail_if={
            section: gates
            for section in GATED
            if (gates := _texts(get(section, "fail_if", list), f"fail_if in [{section}]", path))
        },
    )


def with_flags(
    config: RunConfig,
    *,
    model: str | None = None,
    data: str | None = None,
    normalize: str | None = None,
    class_order: str | None = None,
    test: str | None = None,
    ood: str | None = None,
    state: str | None = None,
    weights: str | None = None,
    prefix: str | None = None,
    base: Path | None = None,
    rename: Sequence[str] = (),
    logits: str | None = None,
    order: str | None = None,
    trust_code: bool = False,
) -> RunConfig:
    """Return the same run with the settings of the command line before those of the file.

    Raises UsageError when the file names code and the user did not allow it to run.
    """
    here = Path.cwd()
    merged = replace(
        config,
        model=_model(model, here, "--model", trusted=True) or config.model,
        logits=logits if logits is not None else config.logits,
        data=_data(data, here, "--data", trusted=True) or config.data,
        normalize=parse_normalisation(normalize, "--normalize") if normalize is not None else config.normalize,
        class_order=_class_order(class_order, here, "--class-order") or config.class_order,
        test=_data(test, here, "--test", trusted=True) or config.test,
        ood=_data(ood, here, "--ood", trusted=True) or config.ood,
        state=state if state is not None else config.state,
        weights=parse_weights(weights, "--weights") if weights is not None else config.weights,
        prefix=prefix if prefix is not None else config.prefix,
        base=base if base is not None else config.base,
        rename=parse_renames(rename, "--rename") or config.rename,
        order=parse_order(order, here, "--order") or config.order,
    )
    sources = (("model", "model"), ("data", "data"), ("data", "test"), ("data", "ood"))
    for section, flag in sources:
        source: SourceSpec | None = getattr(merged, flag)
        if source is not None and source.is_code and not source.trusted and not trust_code:
            raise UsageError(
                f"{config.folder / CONFIG_NAME}: [{section}] names code to run, {source.spec}; "
                f"pass --trust-code if you trust this folder, or name your own with --{flag}"
            )
    return merged


def parse_normalisation(text: str, where: str) -> Normalisation:
    """Parse `MEAN,STD`, several channels divided by slashes.

    >>> parse_normalisation("0.1307,0.3081", "--normalize")
    ((0.1307,), (0.3081,))
    >>> parse_normalisation("0.5/0.4,0.2/0.1", "--normalize")
    ((0.5, 0.4), (0.2, 0.1))
    """
    try:
        mean, std = (tuple(float(number) for number in part.split("/")) for part in text.split(","))
    except ValueError:
        mean, std = (), ()
    if not mean or len(mean) != len(std) or not all(0 < s < math.inf for s in std) or not all(map(math.isfinite, mean)):
        raise UsageError(
            f"{where}: normalize must read MEAN,STD, channels divided by slashes "
            f"(0.13,0.31 or 0.5/0.4/0.4,0.2/0.2/0.3), STD above 0, not {_short(text)}"
        )
    return mean, std


def _class_order(given: str | list[Any] | None, folder: Path, where: str) -> tuple[str, ...]:
    """Return names or numbers of classes: of a list, of `a,b,c`, or of a file with one a line."""
    if given is None:
        return ()
    if isinstance(given, list):
        if odd := [each for each in given if isinstance(each, bool) or not isinstance(each, str | int)]:
            raise UsageError(f"{where} must be a list of names or numbers, and has {_short(odd[0])}")
        found = [str(each) for each in given]
    elif not given.strip() or ("," in given and not os.path.lexists(folder / given)):
        found = given.split(",")
    else:
        text = files.read(folder / given, UsageError, MAX_CLASS_ORDER).decode("utf-8-sig", "replace")
        found = text.splitlines() if "\n" in text.strip() else text.split(",")
    order = tuple(each.strip() for each in found if each.strip())
    if not order:
        raise UsageError(f"{where} names no class: give them as a,b,c, or a file with one a line")
    return order


def parse_weights(text: str | None, where: str) -> str | None:
    """Return which weights are meant; UsageError when it is neither `raw` nor `ema`."""
    if text not in (None, "raw", "ema"):
        raise UsageError(f"{where}: must be raw or ema, not {_short(text)}")
    return text


def parse_renames(texts: Sequence[str], where: str) -> tuple[tuple[str, str], ...]:
    """Return pairs of beginnings of names; UsageError when a text is no pair.

    >>> parse_renames(["fc.→head.", "old.->"], "--rename")
    (('fc.', 'head.'), ('old.', ''))
    """
    pairs = []
    for text in texts:
        old, arrow, new = text.replace("->", "→").partition("→")
        if not arrow or not old.strip():
            raise UsageError(f"{where}: must read OLD→NEW (or OLD->NEW), beginnings of names, not {_short(text)}")
        pairs.append((old.strip(), new.strip()))
    return tuple(pairs)


def _texts(values: list[Any] | None, what: str, path: Path) -> tuple[str, ...]:
    """Return a list of texts."""
    for value in values or ():
        if not isinstance(value, str):
            raise UsageError(f"{path}: {what} must be a list of texts, and has {_short(value)}")
    return tuple(values or ())


def _model(spec: str | None, base: Path, where: str, *, trusted: bool) -> SourceSpec | None:
    return _source("model", MODEL_SOURCES, spec, base, where, trusted=trusted)


def _data(spec: str | None, base: Path, where: str, *, trusted: bool) -> SourceSpec | None:
    return _source("data", DATA_SOURCES, spec, base, where, trusted=trusted)


def _source(
    what: str, forms: tuple[SourceForm, ...], spec: str | None, base: Path, where: str, *, trusted: bool
) -> SourceSpec | None:
    if spec is None:
        return None
    form = form_of(spec, forms)
    if form is None:
        raise UsageError(f"{where}: the {what} must be {choices(forms)}, not {_short(spec)}")
    return SourceSpec(spec, form, base, trusted)


def _short(value: object) -> str:
    """Return a value of a file for a message: its type where it is no plain one, cut where it is long."""
    if isinstance(value, int) and abs(value) >= 2**63:
        return "an integer beyond 64 bits"
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "a table"
    return f"{value!r:.80}" + ("…" if isinstance(value, str) and len(value) > 80 else "")
