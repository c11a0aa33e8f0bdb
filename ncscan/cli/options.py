"""Define the options of the command line: name, values and help text of each.

In: nothing. Out: annotations that the commands take, and the closed lists among them.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ncscan.sources import DATA_SOURCES, MODEL_SOURCES, choices

MOST = 1_000_000
"""The largest number of resamples, permutations or samples of a batch."""
MOST_THREADS = 1024


class Reduction(StrEnum):
    """A way in which a feature map becomes a vector."""

    auto = "auto"
    mean = "mean"
    flatten = "flatten"
    cls = "cls"
    last = "last"
    max = "max"


class StoredAs(StrEnum):
    """The precision of the activations in a dump."""

    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"


class WeightsKind(StrEnum):
    """A kind of weights that a checkpoint can hold beside others."""

    raw = "raw"
    ema = "ema"


class FigureForm(StrEnum):
    """The form in which a figure is written."""

    svg = "svg"
    pdf = "pdf"
    png = "png"


class TableFormat(StrEnum):
    """The form in which the tables of a report are written."""

    csv = "csv"
    parquet = "parquet"


Checkpoints = Annotated[
    list[Path], typer.Argument(metavar="CKPTS...", help="Checkpoint files, or folders of them.", show_default=False)
]
Out = Annotated[Path, typer.Option("--out", help="Folder for everything that is written.")]
Layers = Annotated[
    list[str],
    typer.Option(
        "--layers",
        help="Which layers: all, every, input, penultimate, head, output, a glob, re:…, type:…, !… to leave out; "
        "repeatable.",
    ),
]
Model = Annotated[
    str | None,
    typer.Option("--model", metavar="SOURCE", help=f"{choices(MODEL_SOURCES)}; the function returns the nn.Module."),
]
Data = Annotated[
    str | None,
    typer.Option("--data", metavar="SPEC", help=f"The training set: {choices(DATA_SOURCES)}."),
]
Test = Annotated[
    str | None,
    typer.Option("--test", metavar="SPEC", help="A held-out split (of idx:DIR its t10k files), measured beside it."),
]
Ood = Annotated[
    str | None,
    typer.Option("--ood", metavar="SPEC", help="Data that belongs to none of the classes, measured beside it."),
]
Normalize = Annotated[
    str | None,
    typer.Option("--normalize", metavar="MEAN,STD", help="As in training; channels divided by slashes."),
]
ClassOrder = Annotated[
    str | None,
    typer.Option(
        "--class-order",
        metavar="A,B,…|FILE",
        help="The data's classes in the order of the network's outputs, by number or name; a file has one a line.",
        show_default=False,
    ),
]
State = Annotated[
    str | None,
    typer.Option(
        "--state",
        metavar="KEY",
        help="Which state of a checkpoint: student, or model.encoder; backbone,head are parts of one network.",
        show_default=False,
    ),
]
WeightsOption = Annotated[
    WeightsKind | None, typer.Option("--weights", help="Weights as trained, or averages of them.", show_default=False)
]
Base = Annotated[
    Path | None,
    typer.Option(
        "--base",
        metavar="PATH",
        help="The checkpoint that LoRA adapters change: each is merged with it.",
        show_default=False,
    ),
]
Prefix = Annotated[
    str | None,
    typer.Option(
        "--prefix", metavar="TEXT", help="Take only tensors whose names begin with it, without it.", show_default=False
    ),
]
Rename = Annotated[
    list[str],
    typer.Option(
        "--rename", metavar="OLD→NEW", help="Replace the beginning of tensors' names; repeatable.", show_default=False
    ),
]
Order = Annotated[
    str | None,
    typer.Option(
        "--order",
        metavar="name|mtime|FILE",
        help="The order of a run where nothing tells it: of names, of times of change, or of the lines of a file.",
        show_default=False,
    ),
]
TrustCode = Annotated[bool, typer.Option("--trust-code", help="Run code that an ncscan.toml names (module:function).")]
AllowPartial = Annotated[
    bool, typer.Option("--allow-partial", help="Load what fits of a checkpoint that does not fill the model.")
]
Logits = Annotated[
    str | None,
    typer.Option(
        "--logits",
        metavar="NAME",
        help="Which tensor holds the logits: a key or index of the model's output, or a layer; found by default.",
    ),
]
ReductionOption = Annotated[
    Reduction,
    typer.Option(
        "--reduction",
        help="How a feature map becomes a vector; auto: the token that the head reads, else the mean.",
    ),
]
StoredAsOption = Annotated[
    StoredAs | None, typer.Option("--dtype", help="Precision of the stored activations; by default as computed.")
]
FailIf = Annotated[
    list[str],
    typer.Option(
        "--fail-if",
        metavar="GATE",
        help="Exit with 3 when it holds: 'nc1_pinv[layer=head, step=last] > 0.1'; also all(…) and any(…); repeatable.",
    ),
]
AllowUnfinished = Annotated[
    bool, typer.Option("--allow-unfinished", help="Let gates pass while dumps are unfinished beside those measured.")
]
Bootstrap = Annotated[
    int,
    typer.Option(
        "--bootstrap", metavar="B", min=0, max=MOST, help="Resamples for 95 % intervals; 1000 give two digits."
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1, help="Of resamples and permutations.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
BatchSize = Annotated[int | None, typer.Option("--batch-size", min=1, max=MOST, help="Samples in one batch.")]
Threads = Annotated[int | None, typer.Option("--threads", min=1, max=MOST_THREADS, help="Threads for arithmetic.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Troubles only.")]
Traceback = Annotated[
    bool, typer.Option("--traceback", help="Show each skipped input, and the traceback of what was raised.")
]
Dumps = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="[DUMPS]...", help="Dumps, or folders of them; those under --out by default.", show_default=False
    ),
]
Permutations = Annotated[
    int,
    typer.Option(
        "--permutations", metavar="P", min=0, max=MOST, help="Permuted labels for baselines: none, or 20 and more."
    ),
]
Conventions = Annotated[
    list[str],
    typer.Option(
        "--convention",
        help="Also the numbers of a paper's figures under its own names: papyan, zhu, jacot, rangamani, he-su.",
    ),
]
Figure = Annotated[
    list[str],
    typer.Option(
        "--figure",
        metavar="NAME",
        help="A figure laid out as in a paper: jacot-1, jacot-2, jacot-3, rangamani-1, papyan; or charts, those of "
        "the page; repeatable.",
    ),
]
Figures = Annotated[
    FigureForm | None,
    typer.Option("--figures", help="Figures as files of this kind; without --figure those of the page."),
]
Animation = Annotated[
    str,
    typer.Option(
        "--animation",
        metavar="FILE.gif",
        help="Class means, samples and classifier on their way to the simplex; a bare name goes to the report.",
        show_default=False,
    ),
]
Classes = Annotated[
    str,
    typer.Option(
        "--classes",
        metavar="A,B,C[,D]",
        help="Names or numbers of the classes that are pictured; the first ones by default.",
        show_default=False,
    ),
]
Formats = Annotated[
    list[TableFormat], typer.Option("--format", help="How the tables are written: csv, parquet; repeatable.")
]
AsJson = Annotated[
    bool, typer.Option("--json", help="On stdout one JSON document and nothing else: what the runs come to.")
]
