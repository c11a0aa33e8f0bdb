"""The pickle of a torch.save file, read by an interpreter that imports, calls and hashes nothing of the file's.

In: the bytes of a pickle. Out: its content as dicts, lists, tuples, plain values and tensors, and the names of all else
that it would import. torch's own reader of weights calls functions (`_codecs.encode`, which doubles a text as often as
the file asks for), sets attributes of what it builds (`items` of a dict) and hashes keys whose parts are shared (2^90
steps in 1 kB). Here a function is a row of `CALLS`, what has no row becomes an inert `Named`, attributes are never set,
and every object costs at least a byte of the file.
"""

import pickletools
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from ncscan.checkpoints.formats.pickle_calls import MAX_OPS, called, named, storage_of
from ncscan.checkpoints.formats.pickle_values import BadPickle, Context, Named, View, set_items

MAX_BYTES = 32 * 2**20
"""A pickle describes tensors, their bytes lie elsewhere: 10,000 tensors with their Adam states take 4 MB."""
MAX_NAME = 1000
"""Characters of a name that would be imported."""


def read(data: bytes, tensor: Callable[[View], object]) -> tuple[object, tuple[str, ...]]:
    """Return what a pickle holds, and the names that it would import beyond what tensors and plain values need, sorted.

    Bytes, sets, complex numbers and devices, which nobody asks a checkpoint for, are `Named` like what is foreign.

    Args:
        data: the pickle, of protocol 2 to 5.
        tensor: makes a tensor of its description, or raises BadPickle.

    Raises: BadPickle when it is no complete pickle of torch.save's kind, or takes too much.

    >>> read(b"\\x80\\x02cposix\\nsystem\\n(X\\x02\\x00\\x00\\x00lstR.", lambda view: view)
    (Named(name='posix.system'), ('posix.system',))
    """
    if len(data) > MAX_BYTES:
        raise BadPickle(f"describes its tensors in {len(data):,} bytes, far more than any state_dict needs")
    context = Context(tensor)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in texts of protocol 0, which are refused
            content, end = _run(data, context)
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        if isinstance(error, BadPickle):
            raise
        # Python's words about integers of thousands of digits end with what a programmer can do.
        words = str(error).partition(" for integer string")[0] or type(error).__name__
        raise BadPickle(f"holds a damaged pickle ({words:.100})") from error
    if end != len(data):
        raise BadPickle("holds a pickle with something behind its end")
    return content, tuple(sorted(context.foreign))


def _run(data: bytes, context: Context) -> tuple[object, int]:
    """Return the content of a pickle, and where it ends. One loop without calls handles what comes often."""
    stack: list[Any] = []
    outer: list[list[Any]] = []
    memo: dict[int, Any] = {}
    argument: Any
    for count, (op, argument, place) in enumerate(pickletools.genops(data)):
        name = op.name
        if count > MAX_OPS:
            raise BadPickle(f"describes its tensors in more than {MAX_OPS:,} steps")
        if name in _GIVEN:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if argument is None else argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name in _TUPLES:
            stack[-_TUPLES[name] :] = [tuple(_last(stack, _TUPLES[name]))]
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name == "MARK":
            outer.append(stack)
            stack = []
        elif name == "TUPLE":
            items, stack = stack, outer.pop()
            stack.append(tuple(items))
        elif name in ("APPENDS", "ADDITEMS", "SETITEMS"):
            items, stack = stack, outer.pop()
            (set_items if name == "SETITEMS" else _append)(stack[-1], items, context)
        elif name in ("APPEND", "SETITEM"):
            items = _last(stack, 1 if name == "APPEND" else 2)
            del stack[-len(items) :]
            (set_items if name == "SETITEM" else _append)(stack[-1], items, context)
        elif name == "GLOBAL":
            stack.append(named(argument.replace(" ", "."), context))
        elif name == "STACK_GLOBAL":
            stack[-2:] = [named(_joined(*_last(stack, 2)), context)]
        elif name in ("REDUCE", "NEWOBJ"):
            stack[-2:] = [called(_last(stack, 2), context)]
        elif name == "NEWOBJ_EX":  # with arguments by name, which nothing in CALLS takes
            stack[-3:] = [called(_last(stack, 3)[:2], context)]
        elif name == "BINPERSID":
            stack.append(storage_of(stack.pop(), context))
        elif name in ("BUILD", "POP"):
            # Attributes are nobody's business here: those of a state_dict are versions of its modules.
            stack.pop()
        elif name in ("FROZENSET", "POP_MARK"):
            stack = outer.pop()
            if name == "FROZENSET":
                stack.append(_SET)
        elif name == "STOP":
            return stack.pop(), (place or 0) + 1
        elif name not in ("PROTO", "FRAME"):
            raise BadPickle(f"uses the pickle step {name}, which torch.save does not write")
    raise BadPickle("holds a pickle that does not end")


def _last(stack: list[Any], count: int) -> list[Any]:
    if count > len(stack):
        raise IndexError("pop from an empty stack")
    return stack[-count:]


def _joined(module: object, name: object) -> str:
    if not isinstance(module, str) or not isinstance(name, str):
        raise BadPickle("imports what has no name")
    if len(module) + len(name) > MAX_NAME:
        raise BadPickle(f"imports a name of {len(module) + len(name):,} characters")
    return f"{module}.{name}"


def _append(target: object, items: list[Any], _context: Context) -> None:
    if isinstance(target, list):
        target += items
    elif not isinstance(target, Named):
        raise BadPickle("appends to what is no list")


_SET, _BYTES = Named("builtins.set"), Named("builtins.bytes")
_CONSTANTS: Mapping[str, object] = {
    "NONE": None,
    "NEWTRUE": True,
    "NEWFALSE": False,
    "EMPTY_TUPLE": (),
    "EMPTY_SET": _SET,
    **dict.fromkeys(("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"), _BYTES),
}
_GIVEN = frozenset(
    (
        *("BININT", "BININT1", "BININT2", "BINFLOAT", "LONG1", "LONG4"),
        *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "SHORT_BINSTRING", "BINSTRING"),
    )
)
"""The steps whose argument is the value."""
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
