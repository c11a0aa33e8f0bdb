"""Mutates valid files and texts, and looks at what each reader makes of them: a value, or an NcscanError in one line.

By hand: `python tests/hostile/fuzz.py SECONDS [TARGET]`, so many seconds for each target. Every case follows from its
number alone; `python tests/hostile/fuzz.py --case TARGET NUMBER` runs one again. A case that raises anything else,
takes more memory than MEMORY or more time than WATCHDOG, or kills its process, is a finding.
"""

import argparse
import copy
import gzip
import io
import itertools
import json
import os
import pickle
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

import h5py
import numpy as np
import torch
import torch.distributed.checkpoint.state_dict_saver as state_dict_saver
from dumping import dump_to, samples, traced
from hostile_files import archive, entry, idx, npz, npz_of, safetensors, saved

from ncscan.checkpoints import checkpoint, find
from ncscan.compare.gate_parser import parse
from ncscan.config import read_config
from ncscan.data.dataset import open_dataset
from ncscan.data.sources.mnist_idx import read_idx
from ncscan.dumps.reader import Dump
from ncscan.errors import NcscanError
from ncscan.layer_graph import TapGraph, select
from ncscan.tables.columns import REPORT, REPORT_VERSION, TABLES
from ncscan.tables.report_reader import read_report

MEMORY = 3 * 2**30
"""Bytes that a process may map beyond what it has mapped before the first case."""
WATCHDOG = 30.0
"""Seconds of one case; a machine that is busy with other work takes some of them."""
SHOWN = 20
"""Kinds of findings that are printed."""
LINE = 2_000
"""Characters of an error's line."""

ODD: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 2**31, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**30, 0.5, -0.0, 1e308, float("nan")),
    *(float("inf"), "", "a", "\0", "\ud800", "x" * 20_000, "../..", "0", [], {}, [[]], {"": {}}, [0] * 100, {"a": 1}),
)
MAGIC = (
    *(b"\0", b"\xff", b"\0" * 8, b"\xff" * 8, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"PK\x03\x04", b"PK\x01\x02"),
    *(b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07", b"\x80\x02", b"(", b")", b"[", b"]", b"{", b"}", b'"', b",", b"."),
)


def mutated(draw: random.Random, seeds: list[bytes], tokens: tuple[bytes, ...]) -> bytes:
    """One of the seeds after one to eight changes: bits, tokens, pieces left out, doubled or of another seed."""
    data = bytearray(draw.choice(seeds))
    for _ in range(draw.choice((1, 1, 1, 2, 3, 8))):
        at = draw.randrange(len(data) + 1)
        stop = min(len(data), at + draw.choice((1, 2, 4, 8, 30, 200)))
        match draw.randrange(7):
            case 0:
                data[at:stop] = bytes(byte ^ 1 << draw.randrange(8) for byte in data[at:stop])
            case 1:
                data[at:stop] = draw.randbytes(stop - at)
            case 2:
                data[at:at] = draw.choice(tokens) * draw.choice((1, 1, 2, 100))
            case 3:
                token = draw.choice(tokens)
                data[at : at + len(token)] = token
            case 4:
                del data[at:stop]
            case 5:
                data[at:at] = data[at:stop] * draw.choice((1, 3, 50))
            case 6:
                other = draw.choice(seeds)
                start = draw.randrange(len(other) + 1)
                data[at:stop] = other[start : start + stop - at]
    return bytes(data)


def mutated_json(draw: random.Random, plain: Any) -> Any:
    """The same values with one to three of them replaced, left out, doubled or put elsewhere."""
    plain = copy.deepcopy(plain)
    for _ in range(draw.choice((1, 1, 2, 3))):
        holders = list(_holders(plain))
        holder = draw.choice(holders)
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        if not keys:
            continue
        key = draw.choice(keys)
        match draw.randrange(5):
            case 0:
                del holder[key]
            case 1:
                other = draw.choice(holders)
                holder[key] = copy.deepcopy(other)
            case 2 if isinstance(holder, list):
                holder.insert(key, copy.deepcopy(holder[key]))
            case 3 if isinstance(holder, dict):
                holder[str(draw.choice(ODD))[:50]] = holder[key]
            case _:
                holder[key] = copy.deepcopy(draw.choice(ODD))
    return plain


def _holders(plain: Any) -> Iterator[Any]:
    if isinstance(plain, dict | list):
        yield plain
        for child in plain.values() if isinstance(plain, dict) else plain:
            yield from _holders(child)


class Target(NamedTuple):
    """One reader: how a case is made, and how it is read."""

    make: Callable[[random.Random], Any]
    read: Callable[[Any, Path], object]


def _at(name: str, read: Callable[[Path], object]) -> Callable[[Any, Path], object]:
    def run(data: Any, folder: Path) -> object:
        (folder / name).write_bytes(data)
        return read(folder / name)

    return run


def _torch_zip() -> Target:
    state = {"w": torch.ones(4, 3), "v": torch.ones(4, 3)[1:, ::2], "n": torch.nn.Parameter(torch.ones(2))}
    full = {"state_dict": state, "epoch": 3, "args": {"lr": 0.1, "b": b"ab", "t": (1, (2, None))}, "s": {1, 2}}
    model = torch.nn.Linear(2, 2)
    full["optimizer"] = torch.optim.Adam(model.parameters()).state_dict()
    files = [saved(state), saved(full)]
    for protocol in (3, 4, 5):
        stream = io.BytesIO()
        torch.save(full, stream, pickle_protocol=protocol)
        files.append(stream.getvalue())
    pickles = [bytes(_member(data, "data.pkl")) for data in files]
    tokens = (
        *MAGIC,
        *(b"h\x01", b"q\x01", b"\x85", b"\x86", b"\x87", b"t", b"R", b"b", b"s", b"u", b"a", b"e", b"0", b"1", b"Q"),
        *(
            b"}",
            b"]",
            b")",
            b"N",
            b"K\x01",
            b"J\xff\xff\xff\xff",
            b"\x8a\x09" + b"\xff" * 8 + b"\x7f",
            b"\x93",
            b"\x94",
        ),
        *(b"ccollections\nOrderedDict\n", b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch\nFloatStorage\n"),
        *(b"c_codecs\nencode\n", b"cposix\nsystem\n", b"ctorch\nSize\n", b"\x8f", b"\x90", b"\x91", b"\x81", b"\x92"),
    )

    def make(draw: random.Random) -> bytes:
        if draw.random() < 0.3:
            return mutated(draw, files, MAGIC)
        members = {f"data/{i}": bytes(draw.choice((48, 24, 8, 16))) for i in range(8)}
        return archive(mutated(draw, pickles, tokens), **members)

    return Target(make, _at("a.pt", checkpoint.load))


def _member(data: bytes, name: str) -> memoryview:
    from ncscan.files import zip_archive as zips

    return next(zips.read(data, member) for key, member in zips.members(data).items() if key.endswith("/" + name))


def _pickle() -> Target:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    full = {"model": model, "args": argparse.Namespace(lr=0.1), "best": np.float64(0.5), "optimizer": optimizer}
    full |= {"rng": np.arange(5), "path": Path("a/b"), "s": {1}, "ema": {"w": torch.ones(2, 3)}, "n": np.ones((2, 2))}
    files = []
    for protocol in (2, 3, 4, 5):
        stream = io.BytesIO()
        torch.save(full, stream, pickle_protocol=protocol, _use_new_zipfile_serialization=False)
        files += [stream.getvalue(), pickle.dumps(full, protocol)]
    names = (b"_parameters", b"_buffers", b"_modules", b"param_groups", b"numpy.ndarray", b"_content", b"model")
    tokens = (
        *MAGIC,
        *(b"h\x01", b"q\x01", b"\x85", b"\x86", b"R", b"b", b"s", b"u", b"a", b"e", b"0", b"Q", b"}", b"]", b")"),
        *(b"cnumpy\ndtype\n", b"cnumpy.core.multiarray\nscalar\n", b"cargparse\nNamespace\n)\x81", b"cm\nC\n)\x81"),
        *(b"X%c\0\0\0" % len(name) + name for name in names),
    )
    return Target(lambda draw: mutated(draw, files, tokens), _at("a.pkl", checkpoint.load))


def _safetensors() -> Target:
    header = {"a": entry(0, 8, [2]), "b": entry(8, 24, [2, 2]), "__metadata__": {"step": "3", "lr": "1e-3"}}
    seeds = [safetensors(header, bytes(24)), safetensors({"e": entry(0, 0, [0, 3])})]

    def make(draw: random.Random) -> bytes:
        if draw.random() < 0.4:
            return mutated(draw, seeds, MAGIC)
        return safetensors(json.dumps(mutated_json(draw, header)).encode(), bytes(24))

    return Target(make, _at("a.safetensors", checkpoint.load))


def _shards() -> Target:
    files = {
        f"m-0000{i}-of-00002.safetensors": safetensors({n: entry(0, 8, [2])}, bytes(8)) for i, n in ((1, "a"), (2, "b"))
    }
    index = {"metadata": {"total_size": 16}, "weight_map": dict(zip("ab", files, strict=True))}

    def read(case: dict[str, bytes], folder: Path) -> object:
        for name, data in {**files, **case}.items():
            (folder / name).write_bytes(data)
        return [checkpoint.load(path) for path in find(folder).files]

    def make(draw: random.Random) -> dict[str, bytes]:
        if draw.random() < 0.3:
            return {"m.index.json": mutated(draw, [json.dumps(index).encode()], (*MAGIC, b"../", b"/", b"m-00001-of-"))}
        return {"m.index.json": json.dumps(mutated_json(draw, index)).encode()}

    return Target(make, read)


def _distributed() -> Target:
    with tempfile.TemporaryDirectory() as folder:
        content = {"model": {"w": torch.ones(4, 3), "n": torch.tensor(2)}, "step": 3, "optim": {"w": torch.ones(3)}}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state_dict_saver.save(content, checkpoint_id=folder)
        files = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    names = (b"__0_0.distcp", b"../x", b"model.w", b"offset", b"length", b"relative_path", b"size", b"chunks", b"sizes")
    tokens = (
        *MAGIC,
        *(b"\x8c%c" % len(name) + name for name in names),
        b"K\xff",
        b"J\xff\xff\xff\x7f",
        b"\x85",
        b"\x86",
        b"R",
    )

    def make(draw: random.Random) -> dict[str, bytes]:
        name = ".metadata" if draw.random() < 0.8 else "__0_0.distcp"
        return {name: mutated(draw, [files[name]], tokens)}

    def read(case: dict[str, bytes], folder: Path) -> object:
        for name, data in {**files, **case}.items():
            (folder / name).write_bytes(data)
        return checkpoint.load(folder)

    return Target(make, read)


def _program() -> Target:
    script, exported = io.BytesIO(), io.BytesIO()
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2)).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(model), script)
    torch.export.save(torch.export.export(model, (torch.ones(2, 2),)), exported)
    parts = [_parts(stream.getvalue()) for stream in (script, exported)]
    [table] = (name for name in parts[1] if name.endswith("weights_config.json"))

    def make(draw: random.Random) -> bytes:
        if draw.random() < 0.5:
            [name] = (name for name in parts[0] if name.endswith("/data.pkl"))
            return npz_of(
                {**parts[0], name: mutated(draw, [parts[0][name]], (*MAGIC, b"}", b")\x81", b"R", b"b", b"s"))}, 0
            )
        changed = json.dumps(mutated_json(draw, json.loads(parts[1][table]))).encode()
        return npz_of({**parts[1], table: changed}, 0)

    return Target(make, _at("a.pt2", checkpoint.load))


def _parts(data: bytes) -> dict[str, bytes]:
    from ncscan.files import zip_archive as zips

    return {name: bytes(zips.read(data, member)) for name, member in zips.members(data).items()}


def _adapter() -> Target:
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 8, "rank_pattern": {"b": 2}, "alpha_pattern": {"^a": 3}}
    names = {"base_model.model.a.lora_A.weight": [2, 3], "base_model.model.a.lora_B.weight": [5, 2]}
    spans = {name: 4 * shape[0] * shape[1] for name, shape in names.items()}
    starts = dict(zip(spans, itertools.accumulate(spans.values(), initial=0), strict=False))
    header = {name: entry(starts[name], starts[name] + spans[name], shape) for name, shape in names.items()}

    def make(draw: random.Random) -> tuple[bytes, bytes]:
        shapes = header if draw.random() < 0.8 else mutated_json(draw, header)
        return json.dumps(mutated_json(draw, settings)).encode(), safetensors(json.dumps(shapes).encode(), bytes(64))

    def read(case: tuple[bytes, bytes], folder: Path) -> object:
        (folder / "base.pt").write_bytes(saved({"a.weight": torch.ones(5, 3)}))
        (folder / "adapter_config.json").write_bytes(case[0])
        (folder / "adapter_model.safetensors").write_bytes(case[1])
        return checkpoint.load(folder / "adapter_model.safetensors", base=folder / "base.pt")

    return Target(make, read)


def _npz() -> Target:
    names = np.array(["a", "b"])
    seeds = [
        npz(x=np.ones((4, 3), "f4"), y=[0, 1, 0, 1], class_names=names),
        npz(X_train=np.ones((4, 2, 2)), y=[0, 1] * 2),
    ]
    arrays = {name: np.load(io.BytesIO(seeds[0]))[name] for name in ("x", "y", "class_names")}
    parts = {f"{name}.npy": _npy(array) for name, array in arrays.items()}

    def make(draw: random.Random) -> bytes:
        if draw.random() < 0.3:
            return mutated(draw, seeds, MAGIC)
        part = draw.choice(list(parts))
        tokens = (
            *MAGIC,
            b"'<f4'",
            b"'|O'",
            b"'<U9'",
            b"(4,)",
            b"(",
            b"99999999999",
            b"-1",
            b"True",
            b"'V9'",
            b"'<c16'",
        )
        return npz_of({**parts, part: mutated(draw, [parts[part]], tokens)}, draw.choice((0, 8)))

    return Target(make, _at("a.npz", lambda path: open_dataset(f"npz:{path}")))


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def _idx() -> Target:
    images = idx((4, 2, 3), bytes(range(24)))
    seeds = [images, gzip.compress(images, mtime=0)]

    def read(path: Path) -> object:
        path.with_name("train-labels-idx1-ubyte").write_bytes(idx((4,), bytes([0, 1, 0, 1])))
        return read_idx(path.parent)

    return Target(lambda draw: mutated(draw, seeds, MAGIC), _at("train-images-idx3-ubyte", read))


def _dump() -> Target:
    with tempfile.TemporaryDirectory() as folder:
        dump_to(Path(folder) / "a.h5")
        whole = (Path(folder) / "a.h5").read_bytes()
        with h5py.File(Path(folder) / "a.h5") as file:
            described = {name: json.loads(file[name][()].tobytes()) for name in ("graph", "provenance")}

    def make(draw: random.Random) -> bytes:
        if draw.random() < 0.6:
            return mutated(draw, [whole], (*MAGIC, b"TREE", b"HEAP", b"SNOD", b"FADB"))
        stream = io.BytesIO(whole)
        with h5py.File(stream, "r+") as file:
            if draw.random() < 0.7:
                name = draw.choice(list(described))
                text = json.dumps(mutated_json(draw, described[name])).encode()
                del file[name]
                file[name] = np.frombuffer(text, np.uint8)
            else:
                holders: list[Any] = [file]
                file.visititems(lambda _, each: holders.append(each))
                holder = draw.choice([each for each in holders if len(each.attrs)])
                holder.attrs[draw.choice(list(holder.attrs))] = draw.choice(
                    (-1, 0, 7, 2**40, 0.5, "x", b"bfloat16", [1, 2])
                )
        return stream.getvalue()

    def read(path: Path) -> object:
        with Dump(path) as dump:
            for layer in dump.layers:
                dump.rounding(layer)
                for _ in dump.chunks(layer):
                    pass
            return dump.labels, dump.logits, dump.weights

    return Target(make, _at("a.h5", read))


def _report() -> Target:
    cells = {"text": "a", "whole": 1, "number": 0.5, "flag": True}
    tables = {
        name: {
            "columns": [column for column, _ in columns],
            "rows": [[cells.get(str(kind)) for _, kind in columns]] * 2,
        }
        for name, columns in TABLES.items()
    }
    plain = {"schema": REPORT, "schema_version": REPORT_VERSION, **tables}
    seed = json.dumps(plain).encode()

    def make(draw: random.Random) -> bytes:
        if draw.random() < 0.4:
            return mutated(draw, [seed], (*MAGIC, b"NaN", b"1e999", b"[" * 50, b"9" * 500))
        return json.dumps(mutated_json(draw, plain)).encode()

    return Target(make, _at("report.json", read_report))


def _selector() -> Target:
    found, _ = traced(_network(), samples())
    graph = found.graph
    named = TapGraph(
        tuple(tap.__class__(**{**vars(tap), "aliases": ("a" * 300 + "b",)}) for tap in graph.taps),
        *(graph.maps, graph.links, graph.head, graph.not_executed),
    )
    tokens = (
        *(
            "re:",
            "type:",
            "!",
            "*",
            "?",
            "[",
            "]",
            "a",
            "b",
            "relu",
            "0",
            ".",
            "(",
            ")",
            "(?:",
            "(?=",
            "(?<=a)",
            "(?P<n>",
        ),
        *(
            "+",
            "{2}",
            "{999}",
            "{99999999999}",
            "|",
            "\\1",
            "\\d",
            "$",
            "^",
            "(?i)",
            "[a-z]",
            "[^",
            "(?#",
            "\0",
            "\ud800",
        ),
    )

    def make(draw: random.Random) -> list[str]:
        texts = ("".join(draw.choices(tokens, k=draw.choice((1, 3, 8, 20)))) for _ in range(draw.choice((1, 1, 2))))
        return [draw.choice(("", "re:")) + text for text in texts]

    return Target(make, lambda selectors, _: select(named, selectors))


def _network() -> torch.nn.Module:
    from dumping import network

    return network()


def _gate() -> Target:
    seeds = [b"all(nc1_pinv[layer=head, step=last]) > 0.1", b"nc1* [layer='a''b', run=\"x\"] <= -1e-3", b"any(x)!=1"]
    tokens = (
        *MAGIC,
        b"all(",
        b"any(",
        b"[layer=",
        b"'",
        b"''",
        b'"',
        b">=",
        b"==",
        b"*",
        b"?",
        b"1e999",
        b"9" * 400,
        b"\xc2\xb2",
    )

    def read(text: bytes, _: Path) -> object:
        gate = parse(text.decode("utf-8", "surrogateescape"))
        if parse(str(gate)) != gate:
            raise AssertionError(f"{gate} reads back as another gate")
        return gate.metric.fits()("a" * 1000)

    return Target(lambda draw: mutated(draw, seeds, tokens), read)


def _config() -> Target:
    seed = b"""[model]\nsource = "mlp"\nlinear_head = 1\n[data]\nsource = "npz:d.npz"\nnormalize = "0.1,0.2"\n[train]
lr = 0.1\nmomentum = 0.9\nseed = 3\n[run]\ngroup = "a"\n[report]\nfail_if = ["nc1_pinv > 0.1"]\n"""
    tokens = (
        *(
            *MAGIC,
            b"[a.b]",
            b"[[a]]",
            b"a.b.c = 1\n",
            b"inf",
            b"nan",
            b"0x",
            b"1e9",
            b"9" * 5000,
            b"[" * 2000,
            b"{a=" * 900,
        ),
        *(b"'''", b'"""', b"\\u0000", b"\\ud800", b"1979-05-27", b"true", b"\r", b"#", b"a." * 2000, b"-"),
    )
    return Target(lambda draw: mutated(draw, [seed], tokens), _at("ncscan.toml", lambda path: read_config(path.parent)))


TARGETS: dict[str, Callable[[], Target]] = {
    "torch-zip": _torch_zip,
    "pickle": _pickle,
    "safetensors": _safetensors,
    "shards": _shards,
    "distributed": _distributed,
    "program": _program,
    "adapter": _adapter,
    "npz": _npz,
    "idx": _idx,
    "dump": _dump,
    "report": _report,
    "selector": _selector,
    "gate": _gate,
    "config": _config,
}


def draw(name: str, number: int) -> random.Random:
    """The chances of one case."""
    return random.Random(f"{name} {number}")  # noqa: S311 - nothing secret


def run_case(target: Target, name: str, number: int, folder: Path) -> str:
    """What is wrong with how a case is read; empty when nothing is."""
    case = target.make(draw(name, number))
    try:
        target.read(case, folder)
    except NcscanError as error:
        text = str(error)
        if "ended the process" in text:
            return text
        return "" if "\n" not in text and len(text) < LINE else f"no short line: {len(text)} characters, {text[:200]!a}"
    except BaseException as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {str(error)[:200]!a} at {Path(place.filename).name}:{place.lineno}"
    return ""


def _work(target: Target, name: str, first: int, last: int, until: float, at: Any, findings: Any) -> None:
    warnings.simplefilter("error")
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY, mapped + MEMORY))
    with tempfile.TemporaryDirectory() as folder:
        for number in range(first, last):
            if time.monotonic() > until:
                return
            at.value = number
            if problem := run_case(target, name, number, Path(folder)):
                findings.put((number, problem))


def fuzz(name: str, seconds: float, most: int = 2**40) -> tuple[int, list[tuple[int, str]]]:
    """The number of cases that were run, and (number, problem) of the findings."""
    context, target = get_context("fork"), TARGETS[name]()
    found: list[tuple[int, str]] = []
    until, at = time.monotonic() + seconds, context.Value("q", 0)
    first = 0
    while time.monotonic() < until and first < most:
        findings = context.SimpleQueue()
        worker = context.Process(target=_work, args=(target, name, first, most, until, at, findings))
        worker.start()
        seen, since = -1, time.monotonic()
        while worker.is_alive():
            worker.join(0.2)
            while not findings.empty():  # a full pipe would stop it
                found.append(findings.get())
            if at.value != seen:
                seen, since = at.value, time.monotonic()
            if time.monotonic() - since > WATCHDOG and worker.pid is not None:
                os.kill(worker.pid, signal.SIGKILL)
                found.append((at.value, f"takes more than {WATCHDOG:g} seconds"))
                worker.join()
        while not findings.empty():
            found.append(findings.get())
        if worker.exitcode not in (0, -signal.SIGKILL):
            found.append((at.value, f"ends its process with {worker.exitcode}"))
        first = at.value + 1
    return first, found


def main(arguments: list[str]) -> int:
    if arguments[0] == "--case":
        with tempfile.TemporaryDirectory() as folder:
            target = TARGETS[arguments[1]]()
            print(repr(target.make(draw(arguments[1], int(arguments[2]))))[:3000])
            target.read(target.make(draw(arguments[1], int(arguments[2]))), Path(folder))
        return 0
    n_findings = 0
    for name in arguments[1:] or TARGETS:
        n_cases, found = fuzz(name, float(arguments[0]))
        print(f"{name}: {n_cases:,} cases, {len(found)} findings", flush=True)
        kinds = {
            problem.partition(":")[0] + problem.rpartition(" at ")[2][:60]: (number, problem)
            for number, problem in found
        }
        for number, problem in itertools.islice(kinds.values(), SHOWN):
            print(f"  case {number}: {problem}", flush=True)
        n_findings += len(found)
    return min(n_findings, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
