"""Interpret a pickle as data: nothing that it names is imported, called, or given an attribute.

In: the bytes of a pickle. Out: its content as dicts, lists, tuples, plain values, descriptions of tensors, and records
of all else. torch's own reader of weights calls functions (`_codecs.encode`, which doubles a text as often as the file
asks for), sets attributes of what it builds (`items` of a dict) and hashes keys whose parts are shared (2^90 steps in
1 kB). Here a function is a row of `CALLS`, what has no row becomes an inert `Record`, and every object costs at least a
byte of the file.
"""

import pickletools
import warnings
from collections.abc import Mapping
from typing import Any

from ncscan.pickles.calls import MAX_OPS, called, named, storage_of
from ncscan.pickles.values import BadPickle, Context, Named, Record, set_items

MAX_NAME = 1000
"""Characters of a name that would be imported."""


def interpret(data: bytes, context: Context, start: int = 0) -> tuple[object, int]:
    """Return what the pickle that begins at `start` holds, and where it ends.

    Args:
        data: bytes with a pickle of protocol 2 to 5 in them.
        context: what is counted and kept while reading; it may have read other pickles of the same file.
        start: where the pickle begins.

    Raises: BadPickle when it is no complete pickle, names what can only be meant to harm, or takes too much.

    >>> content, _ = interpret(b"\\x80\\x02cargparse\\nNamespace\\n)\\x81}X\\x02\\x00\\x00\\x00lrK\\x01sb.", Context())
    >>> content.name, content.state
    ('argparse.Namespace', {'lr': 1})
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in texts of protocol 0, which are refused
            return _run(data[start:] if start else data, context, start)
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        if isinstance(error, BadPickle):
            raise
        # Python's words about integers of thousands of digits end with what a programmer can do.
        words = str(error).partition(" for integer string")[0] or type(error).__name__
        raise BadPickle(f"holds a damaged pickle ({words:.100})") from error


def _run(data: bytes, context: Context, start: int) -> tuple[object, int]:
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
        elif name == "BYTEARRAY8":
            stack.append(bytes(argument))
        elif name == "EMPTY_SET":
            stack.append(Record(_SET))
        elif name == "MARK":
            outer.append(stack)
            stack = []
        elif name in ("TUPLE", "LIST", "DICT", "FROZENSET", "POP_MARK"):
            items, stack = stack, outer.pop()
            stack += _closed(name, items, context)
        elif name in ("APPENDS", "ADDITEMS", "SETITEMS"):
            items, stack = stack, outer.pop()
            (set_items if name == "SETITEMS" else _append)(stack[-1], items, context)
        elif name in ("APPEND", "SETITEM"):
            items = _last(stack, 1 if name == "APPEND" else 2)
            del stack[-len(items) :]
            (set_items if name == "SETITEM" else _append)(stack[-1], items, context)
        elif name == "GLOBAL":
            stack.append(named(_joined(*argument.split(" ", 1)), context))
        elif name == "STACK_GLOBAL":
            stack[-2:] = [named(_joined(*_last(stack, 2)), context)]
        elif name in ("REDUCE", "NEWOBJ"):
            stack[-2:] = [called(_last(stack, 2), context)]
        elif name == "NEWOBJ_EX":  # with arguments by name, which come last
            stack[-3:] = [called([stack[-3], (*_last(stack, 3)[1], stack[-1])], context)]
        elif name == "BINPERSID":
            stack.append(storage_of(stack.pop(), context))
        elif name == "BUILD":
            state = stack.pop()
            _build(stack[-1], state)
        elif name == "POP":
            stack.pop()
        elif name == "STOP":
            return stack.pop(), start + (place or 0) + 1
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


def _closed(name: str, items: list[Any], context: Context) -> list[Any]:
    """Return what the values since the last mark become: a container, or nothing."""
    if name == "TUPLE":
        return [tuple(items)]
    if name == "LIST":
        return [items]
    if name == "DICT":
        set_items(made := dict[Any, Any](), items, context)
        return [made]
    return [Record(_SET, items=items)] if name == "FROZENSET" else []


def _append(target: object, items: list[Any], _context: Context) -> None:
    kept = target.items if isinstance(target, Record) else target
    if not isinstance(kept, list):
        raise BadPickle("appends to what is no list")
    kept += items


def _build(target: object, state: object) -> None:
    """Keep the state of a record; attributes of a dict (versions of its modules), a list or a tensor are not needed."""
    if isinstance(target, Record):
        if target.state is not None:
            raise BadPickle(f"sets the state of one object twice ({target.name!a:.60})")
        target.state = state
    elif isinstance(target, Named):
        raise BadPickle(f"changes {target.name!a:.60}, which it would import")


_SET = "builtins.set"
_CONSTANTS: Mapping[str, object] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_GIVEN = frozenset(
    (
        *("BININT", "BININT1", "BININT2", "BINFLOAT", "LONG1", "LONG4"),
        *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "SHORT_BINSTRING", "BINSTRING"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    )
)
"""The steps whose argument is the value."""
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
"""The steps that make a tuple of so many values."""
