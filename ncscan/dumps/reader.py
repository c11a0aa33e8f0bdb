"""Read a dump, the one HDF5 file of a checkpoint.

In: a path. Out: `Dump`, with all that a report needs: neither the model nor the data. With writer.py, which writes the
same schema, the only file that knows it; docs/dump-format.md documents it.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from ncscan import files
from ncscan.activations import Gradients, Layer, Provenance
from ncscan.dumps import hdf5, row_tables
from ncscan.dumps.agreement import DescribedDump, Stored, disagreements
from ncscan.dumps.checksums import CHECKSUMS
from ncscan.dumps.description import STORED_AS, from_plain
from ncscan.errors import DumpError, RefusedPlan
from ncscan.layer_graph import TapGraph

FORMAT = "ncscan dump"
FORMAT_VERSION = max(CHECKSUMS)
"""The version that is written; older ones that have a checksum are read."""
LOGITS = "logits"
GRADIENTS = "gradients"
ROUNDING = "rounding"
DOUBTS = "doubts"
MAX_DOUBTS, MAX_DOUBT = 8, 1000
"""Lines that are kept of what was doubtful, and characters of each."""
MAX_DESCRIPTION = 2**26
"""Bytes of a graph or a provenance: 10,000 layers and 100,000 class names take a quarter of it."""
HOW = ("device", "batch_size", "versions")
"""Fields of the provenance that tell how a dump was computed; all others tell what was asked for."""


class Dump:
    """A dump, open for reading.

    Args:
        path: where it is.
        unfinished: whether it may lack the mark of completeness: for the one who is writing it.

    Raises:
        DumpError: when it is damaged, unfinished, of another version, or no dump at all.
    """

    def __init__(self, path: Path, *, unfinished: bool = False) -> None:
        self.path = path
        self._file = hdf5.open_safely(path, unfinished=unfinished)
        try:
            with hdf5.explained(path, "reading its description"):
                self._read_description(unfinished=unfinished)
        except BaseException:
            self.close()
            raise

    def _read_description(self, *, unfinished: bool) -> None:
        if "format" not in self._file.attrs or hdf5.attribute(self._file, "format") != FORMAT:
            raise DumpError(f"{self.path} is no dump of ncscan")
        version = hdf5.attribute(self._file, "format_version")
        if not isinstance(version, int) or version not in CHECKSUMS:
            raise DumpError(
                f"{self.path} has format version {version}; this ncscan reads {' and '.join(map(str, CHECKSUMS))}"
            )
        self.format_version = version
        self.n_samples, self.rows_written = self._count("n_samples"), self._count("rows_written")
        if not unfinished and self._count("rows_complete") != self.n_samples:
            raise DumpError(f"{self.path} is unfinished: run the same extract again, it goes on where it stopped")
        self.provenance = from_plain(Provenance, self._json("provenance"))
        self.graph = from_plain(TapGraph, self._json("graph"))
        self.gradients = self._gradients() if GRADIENTS in self._file else None
        """The numbers that took gradients, where they were asked for."""
        told = str(hdf5.attribute(self._file, DOUBTS)) if DOUBTS in self._file.attrs else ""
        self.doubts = tuple(line[:MAX_DOUBT] for line in told.split("\n", MAX_DOUBTS)[:MAX_DOUBTS] if line)
        """What was doubtful about the replay, in lines of text."""
        self.layers = tuple(self._layer(index) for index in range(self._count("n_layers")))
        names = [LOGITS, *(activations(layer.index) for layer in self.layers)]
        block, checksum = max(1, self._count("batch_rows")), CHECKSUMS[version]
        self.tables = row_tables.find(self._file, names, self.n_samples, block, checksum)
        """Holds the logits' rows, then those of each layer."""
        described = DescribedDump(self.provenance, self.graph, self.layers, self.gradients, self.n_samples)
        for sentence in disagreements(described, self._stored()):
            raise DumpError(f"{self.path}: damaged or made by hand: {sentence}; extract it again")

    def _stored(self) -> Stored:
        """Return what the file holds, by shape and type; nothing of it is read."""
        logits, *activations = (table.values for table in self.tables)
        maps = [
            {
                name: (self._dtype(found), found.dtype, tuple(found.shape))
                for name in ("weight", "bias")
                if name in group and (found := hdf5.dataset(group, name)) is not None
            }
            for index in range(len(self.graph.maps))
            for group in [hdf5.group(self._file, f"maps/{index:04}")]
        ]
        ids = hdf5.dataset(self._file, "sample_ids")
        return Stored(
            logits=(self._dtype(logits), logits.dtype, tuple(logits.shape)),
            activations=tuple((values.dtype, tuple(values.shape)) for values in activations),
            maps=tuple(maps),
            sample_ids=(ids.dtype, tuple(ids.shape)),
        )

    def __enter__(self) -> "Dump":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    @cached_property
    def labels(self) -> Int64[np.ndarray, "N"]:
        """Return the class of each sample."""
        labels = hdf5.read_array(hdf5.dataset(self._file, "labels"))
        if labels.shape != (self.n_samples,) or labels.dtype != np.int64:
            raise DumpError(f"{self.path}: {labels.shape} labels of {labels.dtype} for {self.n_samples} samples")
        if labels.min() < 0 or labels.max() >= len(self.provenance.class_names):
            raise DumpError(f"{self.path}: a label is outside 0 … {len(self.provenance.class_names) - 1}")
        return labels

    @cached_property
    def logits(self) -> np.ndarray:
        """Return the outputs of the network, (N, K)."""
        table = self.tables[0]
        dtype = self._dtype(table.values)
        return np.concatenate([_decoded(read, dtype) for _, read in row_tables.read(table)])

    @cached_property
    def weights(self) -> dict[str, tuple[np.ndarray, np.ndarray | None]]:
        """Return weight and bias of each linear map, by its name."""
        return {m.name: self._weights(i) for i, m in enumerate(self.graph.maps) if f"maps/{i:04}" in self._file}

    def chunks(self, layer: Layer) -> Iterator[tuple[int, np.ndarray]]:
        """Return (first row, features (n, d)) in the order of the labels; bfloat16 comes as float32, exactly."""
        return ((start, _decoded(read, layer.dtype)) for start, read in row_tables.read(self.tables[1 + layer.index]))

    def _count(self, name: str) -> int:
        value = hdf5.attribute(self._file, name)
        if not isinstance(value, int) or value < 0:
            raise DumpError(f"{self.path}: {name} is {value!a}, not a count")
        return value

    def _json(self, name: str) -> dict[str, Any]:
        plain = files.parse_json(hdf5.read_array(hdf5.dataset(self._file, name), MAX_DESCRIPTION).tobytes())
        if not isinstance(plain, dict):
            raise DumpError(f"{self.path}: {name} is not an object")
        return plain

    def rounding(self, layer: Layer) -> Float64[np.ndarray, "d"] | None:
        """Return the mean squared rounding of each feature in the forward pass, where it was measured."""
        group = hdf5.group(self._file, f"layers/{layer.index:04}")
        if ROUNDING not in group:
            return None
        found = hdf5.read_array(hdf5.dataset(group, ROUNDING))
        if (
            found.shape != (layer.n_features,)
            or found.dtype != np.float64
            or not ((found >= 0) & np.isfinite(found)).all()
        ):
            raise DumpError(f"{self.path}: the rounding of layer {layer.tap.name!a} is not one number ≥ 0 a feature")
        return found

    def _gradients(self) -> Gradients:
        found = from_plain(Gradients, self._json(GRADIENTS))
        for row in found.rows:
            if (row.value is None) == (not row.reason) or (row.value is not None and not math.isfinite(row.value)):
                raise DumpError(f"{self.path}: {row.metric!a:.80} is {row.value!a} because {row.reason!a:.80}")
        return found

    def _layer(self, index: int) -> Layer:
        group = hdf5.group(self._file, f"layers/{index:04}")
        facts = {name: hdf5.attribute(group, name) for name in ("tap", "reduction", "dtype", "n_features")}
        if facts["dtype"] not in STORED_AS:
            raise DumpError(f"{self.path}: layer {index} is stored as {facts['dtype']!a}, which is not known")
        number = facts["tap"]
        if not isinstance(number, int) or not 0 <= number < len(self.graph.taps):
            raise DumpError(f"{self.path}: layer {index} is tap {number!a} of {len(self.graph.taps)}")
        tap = self.graph.taps[number]
        return Layer(index, tap, str(facts["reduction"]), str(facts["dtype"]), int(facts["n_features"]))

    def _dtype(self, source: hdf5.Dataset) -> str:
        return str(hdf5.attribute(source, "dtype"))

    def _weights(self, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        group = hdf5.group(self._file, f"maps/{index:04}")
        weight, bias = (hdf5.dataset(group, name) if name in group else None for name in ("weight", "bias"))
        if weight is None:
            raise DumpError(f"{self.path}: map {index} has no weight")
        values = [None if s is None else _decoded(hdf5.read_array(s), self._dtype(s)) for s in (weight, bias)]
        assert values[0] is not None  # noqa: S101
        return values[0], values[1]


def finished(
    path: Path, provenance: Provenance, graph: TapGraph, *, gradients: int | None = None, force: bool = False
) -> bool:
    """Return whether a complete dump of what is asked for is there already.

    Complete is what carries the mark and as many rows as it gives, in every dataset; that a file exists proves nothing.
    The traced pass must be the same too: the code of a model can change under one name. A dump that lacks the
    gradients of as many samples as are asked for is not finished; one that has them although nobody asks is.

    Raises:
        RefusedPlan: when something else stands there, and `force` does not allow it to be overwritten.
    """
    try:
        if not path.exists():
            return False
    except OSError as error:
        raise RefusedPlan(f"{path!s:.300}: cannot be written: {error.strerror}; choose another --out") from error
    try:
        with Dump(path) as dump:
            there, traced, measured = dump.provenance, dump.graph, dump.gradients
    except DumpError as error:
        if force:
            return False
        raise RefusedPlan(f"{error}; --force overwrites it") from error
    ours, theirs = _request(provenance), _request(there)
    differing = [f"{name} {theirs[name]:.60} and not {ours[name]:.60}" for name in ours if ours[name] != theirs[name]]
    if plain_json(asdict(traced)) != plain_json(asdict(graph)):
        differing.append("another forward pass")
    if gradients is not None and measured is not None and measured.n_samples != gradients:
        differing.append(f"gradients of {measured.n_samples} samples and not {gradients}")
    if differing and not force:
        raise RefusedPlan(
            f"{path} is a dump of other settings ({'; '.join(differing)}); "
            "choose another --out, or replace it with --force"
        )
    return not differing and (gradients is None or measured is not None)


def plain_json(plain: Any) -> str:
    """Return the one text of plain values: equal exactly when they are."""
    return json.dumps(plain, sort_keys=True)


def activations(index: int) -> str:
    """Return where in the file a layer's rows are."""
    return f"layers/{index:04}/activations"


def _request(provenance: Provenance) -> dict[str, str]:
    """Return what was asked for as JSON texts: a NaN in a note equals itself there, and a list a tuple."""
    return {name: plain_json(value) for name, value in asdict(provenance).items() if name not in HOW}


def _decoded(stored: np.ndarray, dtype: str) -> np.ndarray:
    """Return stored values as numbers: a bfloat16 is the upper half of a float32."""
    if dtype != "bfloat16":
        return stored
    return (stored.astype(np.uint32) << 16).view(np.float32)
