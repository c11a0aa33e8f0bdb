"""Read names of checkpoints: which of their numbers count training, and what else their words say.

In: a name, with its folders. Out: numbers with what they count. A number counts where a word names it: never a metric
(`acc97.25`), a setting (`lr0.1`), a precision (`fp16`), a model (`resnet18`), a date or its minutes.
"""

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

Counted = Literal["step", "epoch", "number"]
"""What a number in a name counts: updates, epochs, or checkpoints in a unit that the name does not tell."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


STEPS = _words("step steps gstep globalstep iter iters iteration iterations itr it update updates nupdates")
EPOCHS = _words("epoch epochs ep eps e")
CHECKPOINTS = _words(
    "checkpoint checkpoints ckpt ckpts chkpt chkpnt cp snapshot snapshots snap save saved weights model net "
    "network state round cycle tick kimg kimgs tokens samples examples"
)
"""Words before the number of a checkpoint, or before a count of training in a unit of its own."""
DECIMALS = _words(
    "acc accuracy loss err error f top map ap miou iou bleu wer psnr score metric auc recall precision r hits lr "
    "wd mom momentum decay alpha beta gamma eps dropout drop temp tau smoothing"
)
"""Words before metrics and settings, whose numbers may go on after a separator: `top1-76`, `loss_0_31`."""
SETTINGS = _words(
    "seed seeds fold folds split bs batch batchsize b width depth dim dims k n d h w c p s v version ver rank gpu "
    "gpus node shard part of run runs trial exp experiment job id patch size px crop layer layers head heads fp "
    "bf int float half bit bits q t warmup world cls classes stage phase task m"
)
AVERAGES = _words("ema swa swag avg average averaged averaging polyak soup")
"""Words for weights made of those of several checkpoints."""
ENDS = _words("last final latest newest")
BESTS = _words("best")
STARTS = _words("init initial initialization pretrained untrained")
MOST = 10**15
"""The largest number that can count training; longer ones are hashes."""

_ENDINGS = re.compile(r"(?<=[^/])(\.([a-z_]{1,14}|h5|t7|pt2))+$", re.I)
_DATE = re.compile(
    r"(?<!\d)(19|20)\d\d[-_.]?(0[1-9]|1[0-2])[-_.]?(0[1-9]|[12]\d|3[01])"
    r"([T_ -]{0,2}([01]\d|2[0-3])[-_:h.]?[0-5]\d([-_:m.]?[0-5]\d)?s?)?(?!\d)"
)
_NUMBER = re.compile(r"(?<!\d)(?<!\d\.)(\d+(?:\.\d+)?(?:e[+-]?\d+)?)([km]?)(?![a-z0-9]|\.\d)", re.I)
_BEFORE = re.compile(r"([a-z]+)([^a-z]*)$", re.I)
_AFTER = re.compile(r"[_ -]?(epochs?|ep|steps?|iters?|iterations?|updates?)(?![a-z0-9]|[_=. -]*\d)", re.I)
_COUNT_AND_WORD = re.compile(r"(?<![a-z0-9.])(\d+)(epochs?|ep|steps?|iters?|iterations?|updates?)(?![a-z0-9])", re.I)
_UNITS = {"": 1, "k": 1_000, "m": 1_000_000}


class NameNumber(NamedTuple):
    """A number in a name that counts training, or may."""

    value: int
    counts: Counted
    slot: str
    """Where it stands: two names of one run that are made alike have it in the same slot."""
    named: bool
    """Whether a word names it; else nothing in the name speaks against it."""
    padded: bool
    """Whether it is written with leading zeros, as counters are."""


def numbers_in(name: str) -> list[NameNumber]:
    """Return the numbers of a name that count training or may, those of the farthest folder first.

    >>> [(n.value, n.counts) for n in numbers_in("epoch=03-step=400-val_loss=0.31.ckpt")]
    [(3, 'epoch'), (400, 'step')]
    >>> [(n.value, n.counts) for n in numbers_in("step1000/mp_rank_00_model.pt")]
    [(1000, 'step')]
    >>> numbers_in("2024-05-01_12-30_resnet18_fp16_lr0.1_acc97_top1-76.pt")
    []
    >>> [n.value for n in numbers_in("net_e11_lr0.1.pt") + numbers_in("ckpt_10k.pt") + numbers_in("model_1e4.pt")]
    [11, 10000, 10000]
    """
    parts = without_ending(name).split("/")
    # A folder is counted from the file on: what lies above differs between machines, not between checkpoints.
    return [number for place, part in enumerate(parts) for number in _in_part(part, len(parts) - place)]


def _in_part(part: str, depth: int) -> Iterator[NameNumber]:
    """Yield the numbers in the name of a file or of a folder."""
    part = _COUNT_AND_WORD.sub(r"\1_\2", _DATE.sub("", part))
    seen: dict[str, int] = {}
    end, previous = 0, ""
    for match in _NUMBER.finditer(part):
        between = part[end : match.start()]
        before = _BEFORE.search(between)
        # A number right after another one belongs to the same word: `checkpoint_12_30000`, `top1-76`.
        word = before[1].lower() if before else previous
        attached = before is not None and not before[2]
        follows = before is None and end > 0
        end, previous = match.end(), word
        counted = _counted(word, attached=attached, follows=follows, alone=part == match[0])
        after = _AFTER.match(part, match.end())
        if after and not (counted and counted[0] != "number"):
            word = after[1].lower()
            counted = _counted(word, attached=False, follows=False, alone=False)
        value = _value(match[1], match[2].lower())
        if counted is None or value is None:
            continue
        counts, named = counted
        slot = f"{depth}:{word if counts == 'number' else counts}"
        seen[slot] = seen.get(slot, 0) + 1
        yield NameNumber(value, counts, f"{slot}:{seen[slot]}", named, padded=len(match[1]) > 2 and match[1][0] == "0")


def _counted(word: str, *, attached: bool, follows: bool, alone: bool) -> tuple[Counted, bool] | None:
    """Return what a number after a word counts, and whether the word names it; None where it counts no training."""
    if word in EPOCHS and (attached or len(word) > 1) and not follows:
        return "epoch", True
    if word in STEPS and not follows:
        return "step", True
    if word in CHECKPOINTS or alone:
        return "number", True
    if word in DECIMALS or (word in SETTINGS and not follows):
        return None
    return None if attached else ("number", False)  # resnet18 is a model


def _value(text: str, unit: str) -> int | None:
    """Return the whole number that is written, `10k` and `1e4` understood; None where it is none."""
    if len(text) > 18:
        return None
    if text.isdigit():
        value: float = int(text) * _UNITS[unit]
    elif unit or "e" in text.lower():
        try:
            value = float(text) * _UNITS[unit]
        except OverflowError:
            return None
    else:
        return None
    return int(value) if value < MOST and value == int(value) else None


def counts_in(name: str) -> tuple[int | None, int | None, int | None]:
    """Return the step, the epoch and the number that words of a name tell, each the nearest to its end.

    >>> counts_in("epoch_2/step_100.pt"), counts_in("checkpoint-500/pytorch_model.bin")
    ((100, 2, 100), (None, None, 500))
    """
    named = [number for number in numbers_in(name) if number.named]
    step, epoch = (next((n.value for n in reversed(named) if n.counts == what), None) for what in ("step", "epoch"))
    return step, epoch, named[-1].value if named else None


def words_of(name: str) -> frozenset[str]:
    """Return the words of a name and its folders.

    >>> sorted(words_of("best/model_EMA.pth.tar"))
    ['best', 'ema', 'model']
    """
    return frozenset(re.findall("[a-z]+", without_ending(name).lower()))


def without_ending(name: str) -> str:
    """Return a name without what tells its format.

    >>> without_ending("run/last.v2.pth.tar")
    'run/last.v2'
    """
    return _ENDINGS.sub("", name)


def natural(text: str) -> list[tuple[int, str]]:
    """Return a sorting key that puts 9 before 10.

    >>> sorted(["step_10.pt", "step_9.pt"], key=natural)
    ['step_9.pt', 'step_10.pt']
    """
    parts = re.split(r"([0-9]+)", text)
    # The text itself comes last, so that 07 and 7 have one order too.
    return [(int(p[-18:]), "") if i % 2 else (-1, p) for i, p in enumerate(parts)] + [(-1, text)]
