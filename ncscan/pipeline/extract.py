"""Checkpoints → dumps: each one loaded, traced, replayed over its data set and kept, layer by layer.

In: targets and flags. Out: one dump per checkpoint, and facts.
"""

from collections.abc import Collection, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from ncscan.activations import (
    Batch,
    CrossCheck,
    Gradients,
    Provenance,
    Repeated,
    arithmetic_floor,
    on_device,
    require_repeatable,
    watch,
)
from ncscan.dumps import DUMP_SUFFIX, Dump, DumpFacts, finished, remove_partial, write_dump
from ncscan.errors import ModelError, RefusedPlan, named
from ncscan.files import write_whole
from ncscan.layer_graph import Tap
from ncscan.metrics.gradients import Objective, measure_gradients
from ncscan.ordering import NOT_KNOWN
from ncscan.pipeline.deciding import logits_in_words, reduction_doubt, token_in_words
from ncscan.pipeline.events import Advanced, Doubted, Finished, OnEvent, Outcome, Remarked, writing
from ncscan.pipeline.fit import LISTED_CLASSES, ORDER_FILE, renumbered, still_doubted, summed_up
from ncscan.pipeline.load import TRACED_SAMPLES, Flags, Loaded, Target, load, require_sources
from ncscan.pipeline.run_orders import in_order
from ncscan.splits import TRAINING
from ncscan.version import __version__
from ncscan.wording import listed_up_to, percent

SAME_LOGITS = 1e-2
"""The allowed share of the largest: devices and batch sizes round differently, another model differs by far more."""
NOT_FILLED = "the checkpoint does not fill"
"""The words by which a report knows this doubt among others."""
MUCH_LEFT = 0.1
"""The share of a checkpoint's numbers that a loss, metric states and counters may take."""
MAX_UNUSED = 100
"""Names of tensors without a place in the model that a dump remembers."""
PACKAGES = ("torch", "numpy", "h5py")
"""The packages whose versions a dump remembers: they decide its bytes."""


def extract(targets: Sequence[Target], flags: Flags, out: Path, on_event: OnEvent) -> Outcome:
    """Replay the data set through every checkpoint and keep each layer's activations below `out`.

    A checkpoint that cannot be used is skipped, and so are all of a run without model or data.

    Raises: RefusedPlan when the disk cannot hold the dumps, UsageError when every checkpoint is refused for one
    mistake of the command; what is complete by then stays, and the same call goes on from there.
    """
    with writing(out):
        outcome = Outcome()
    usable: dict[tuple[str, str], bool] = {}
    done: list[tuple[Provenance, Finished]] = []
    inert: dict[str, set[str]] = {}
    try:
        for number, target in enumerate(targets):
            if (each := (target.run, target.split)) not in usable:
                # What no checkpoint of a run can do without is said once.
                usable[each] = False
                with outcome.guarding(f"{target.run} (all its checkpoints, {target.split})", on_event):
                    require_sources(target)
                    usable[each] = True
            if usable[each]:
                with outcome.counting(target.label, on_event):
                    loaded = load(target, flags)
                    inert.setdefault(target.run, set()).update(loaded.checkpoint.inert)
                    provenance = _provenance(loaded, flags)
                    done.append(
                        (provenance, _extract_one(loaded, provenance, flags, out, len(targets) - number, on_event))
                    )
                    on_event(done[-1][1])
    finally:
        for run, names in inert.items():
            if names:
                on_event(Remarked(run, _as_data(names)))
        order = in_order([provenance for provenance, _ in done])
        for name, doubt in still_doubted(done, order.places).items():
            on_event(Doubted(name, doubt))
        for doubt in order.doubts:
            if NOT_KNOWN in doubt:  # the times of files are known now, and to no report
                on_event(Remarked(*doubt.split(": ", 1)))
    outcome.require_some()
    return outcome


def dump_of(target: Target, out: Path) -> Path:
    """Return where the dump of a checkpoint is kept below a folder."""
    suffix = DUMP_SUFFIX if target.split == TRAINING else f".{target.split}{DUMP_SUFFIX}"
    return out / target.run / (target.name + suffix)


def _as_data(names: Collection[str]) -> str:
    """Return a line on the objects in checkpoints of which only data was read."""
    kinds = listed_up_to(6, sorted(names))
    return f"its checkpoints also hold objects of {kinds}; they were read as data, nothing of them was run"


def _extract_one(
    loaded: Loaded, provenance: Provenance, flags: Flags, out: Path, left: int, on_event: OnEvent
) -> Finished:
    target = loaded.target
    path = dump_of(target, out)
    # What was minimised was the loss of the training set: of no other do gradients say anything here.
    wanted = flags.gradients is not None and target.split == TRAINING
    n_gradients = min(flags.gradients or 0, loaded.dataset.n_samples) if wanted else None
    kept = finished(path, provenance, loaded.trace.graph, gradients=n_gradients, force=flags.force) and _is_unchanged(
        path, loaded, force=flags.force
    )
    if kept:
        remove_partial(path)
        became = ", complete before"
    else:
        loaded.size.check(path, dumps=left)
        taps = [layer.tap for layer, _ in loaded.size.layers]
        repeated = Repeated()
        if target.split == TRAINING:
            repeated = require_repeatable(loaded.model.module, loaded.dataset, loaded.trace, taps, loaded.device)
        # Before the rows: a dump is described and laid out before its first row comes.
        gradients = None if n_gradients is None else _gradients(loaded, n_gradients)
        with writing(path.parent):
            facts = _keep(path, provenance, loaded, gradients, repeated, flags, on_event)
        became = f"; begun anew: {facts.begun_anew}" if facts.begun_anew else ""
    with Dump(path) as dump:
        layers = f"{len(dump.layers)} layers, {path.stat().st_size / 1e6:,.1f} MB"
        said = [logits_in_words(loaded.trace), token_in_words(loaded.trace, loaded.reduction)]
        details = "; ".join([_fit(provenance), *filter(None, said), f"{layers}{became}"])
        _keep_order(dump, out / target.run / ORDER_FILE)
        return summed_up(dump, details)


def _keep_order(dump: Dump, path: Path) -> None:
    """Write the order of classes that was found into a file where there are too many for a line."""
    if dump.provenance.split == TRAINING and (found := renumbered(dump)) and len(found.outputs) > LISTED_CLASSES:
        with writing(path.parent):
            write_whole(path, "".join(f"{label}\n" for label in found.order).encode())


def _is_unchanged(path: Path, loaded: Loaded, *, force: bool) -> bool:
    """Return whether the model still gives the logits of a dump.

    Its code can change under one name and one traced pass.

    Raises: RefusedPlan when it does not, and `force` does not allow the dump to be replaced.
    """
    with watch(loaded.model.module, loaded.trace, (), lambda _index, _value: None) as forward, torch.no_grad():
        now = forward(on_device(loaded.dataset.batch(0, TRACED_SAMPLES), loaded.device)).double().cpu().numpy()
    with Dump(path) as dump:
        then = np.asarray(dump.logits[:TRACED_SAMPLES], np.float64)
    size = np.abs(np.nan_to_num(then)).max()
    if np.allclose(now, then, rtol=0, atol=SAME_LOGITS * size, equal_nan=True):
        return True
    if force:
        return False
    raise RefusedPlan(
        f"{path} holds other logits than the model gives now: its code has changed; "
        "choose another --out, or replace it with --force"
    )


def _gradients(loaded: Loaded, n_samples: int) -> Gradients:
    return measure_gradients(
        loaded.model.module,
        loaded.trace,
        loaded.dataset,
        Objective(loaded.target.config.train, loaded.checkpoint.notes, loaded.checkpoint.step),
        n_samples=n_samples,
        device=loaded.device,
        batch_size=loaded.batch_size,
    )


def _keep(
    path: Path,
    provenance: Provenance,
    loaded: Loaded,
    gradients: Gradients | None,
    repeated: Repeated,
    flags: Flags,
    on_event: OnEvent,
) -> DumpFacts:
    """Write the dump, with what is doubtful about the replay. Of a model that is refused in it nothing is left."""
    taps = [layer.tap for layer, _ in loaded.size.layers]
    # Some batches are replayed in another order beside, so that a model that is no function of its sample is noticed.
    checked = CrossCheck(
        loaded.model.module,
        loaded.dataset,
        loaded.trace,
        taps,
        reduction=loaded.reduction,
        device=loaded.device,
        batch_size=loaded.batch_size,
        changes=repeated.changes,
    )

    def batches(start: int) -> Iterator[Batch]:
        try:
            for batch in checked.batches(start):
                yield batch
                on_event(Advanced(loaded.target.label, batch.start + len(batch.logits), loaded.dataset.n_samples))
        except OSError as error:  # of the model's own code: the disk that is written to did not raise it
            raise ModelError(f"the forward pass failed: {named(error)}") from error

    about = _unfilled(loaded), reduction_doubt(loaded.trace, taps, flags.reduction), _left_over(loaded)
    try:
        return write_dump(
            path,
            provenance,
            loaded.trace,
            taps,
            loaded.dataset.labels,
            batches,
            gradients=gradients,
            rounding=_rounding(loaded, taps, flags),
            doubts=lambda: list(filter(None, (*about, repeated.doubt, *checked.doubts))),
            compress=flags.compress,
        )
    except ModelError:
        remove_partial(path)
        raise


def _unfilled(loaded: Loaded) -> str:
    """Return a doubt where the checkpoint does not fill the model: what reads the rest has the values it began with."""
    model = loaded.model
    if not model.unmatched:
        return ""
    count = f"{model.total - model.matched} of {model.total} tensors of the model"
    which = listed_up_to(3, model.unmatched)
    return f"{NOT_FILLED} {count} ({which}): numbers of what reads them are of an untrained network"


def _left_over(loaded: Loaded) -> str:
    """Return a doubt where much of the checkpoint has no place in the model: it may be a part of the network alone."""
    model = loaded.model
    if model.unused_share <= MUCH_LEFT:
        return ""
    count = f"{len(model.unused)} tensors ({percent(model.unused_share)} of its numbers)"
    left = f"the checkpoint holds {count} that the model has no place for: {listed_up_to(3, model.unused)}"
    return f"{left}; is the model the whole network?"


def _rounding(loaded: Loaded, taps: Sequence[Tap], flags: Flags) -> dict[str, np.ndarray]:
    """Return what the forward pass rounds, by tap.

    For a model that does not run in float64 it is nothing: floors are of storage.
    """
    if loaded.target.split != TRAINING:
        return {}
    try:
        found = arithmetic_floor(
            loaded.model.module,
            loaded.dataset,
            loaded.trace,
            taps,
            reduction=loaded.reduction,
            device=loaded.device,
        )
    except Exception:  # the model's own code may raise anything in float64
        return {}
    return {name: noise for name, noise in found.items() if np.isfinite(noise).all()}


def _fit(provenance: Provenance) -> str:
    """Return how the checkpoint's names fitted the model's, in words."""
    share = f"{provenance.matched} of {provenance.total} tensors ({provenance.matched / provenance.total:.0%})"
    prefixes = ", ".join(f"{theirs or '(none)'} → {ours or '(none)'}" for theirs, ours in provenance.prefix_map)
    others = provenance.notes.get("other_states")
    left = f", state {provenance.state} (the file also has {others!s:.200})" if others else ""
    left += f", not used: {listed_up_to(3, provenance.unused)}" if provenance.unused else ""
    return f"{share}, prefix {prefixes}{left}" if prefixes else share + left


def _provenance(loaded: Loaded, flags: Flags) -> Provenance:
    target, checkpoint, model, dataset = loaded.target, loaded.checkpoint, loaded.model, loaded.dataset
    # Of the file, of the model that was filled, of the data, of the replay, of the environment.
    return Provenance(
        run=target.run,
        group=target.config.group or target.run,
        checkpoint=target.name,
        checkpoint_sha256=checkpoint.sha256,
        tensors_sha256=checkpoint.tensors_sha256,
        checkpoint_format=checkpoint.format,
        step=checkpoint.step,
        epoch=checkpoint.epoch,
        file_number=checkpoint.file_number,
        notes=checkpoint.notes,
        model_source=model.source,
        activation=target.config.activation or "",
        linear_head=target.config.linear_head,
        prefix_map=model.prefix_map,
        matched=model.matched,
        total=model.total,
        unmatched=model.unmatched,
        stored_dtype=model.stored_dtype,
        compute_dtype=model.compute_dtype,
        dataset=dataset.spec,
        dataset_fingerprint=dataset.fingerprint,
        split=target.split,
        class_names=dataset.class_names,
        selectors=flags.layers,
        reduction=loaded.reduction,
        dtype=flags.dtype or "as computed",
        device=loaded.device.type,
        batch_size=loaded.batch_size,
        versions={"ncscan": __version__, **{package: version(package) for package in PACKAGES}},
        train=target.config.train,
        state=checkpoint.wrapper,
        prefix=target.config.prefix or "",
        rename=target.config.rename,
        unused=model.unused[:MAX_UNUSED],
        order_by=target.config.order.by if target.config.order else "",
        order=target.order,
        class_order=dataset.class_order,
    )
