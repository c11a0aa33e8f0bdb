"""What a pickle would do, told without doing it.

In: the bytes of a pickle. Out: the names it would import, or BadPickle. Nothing is imported, called or built here.
torch's own weights-only unpickler does the loading; this looks first, because that one stops at the first refused
name (we want all of them), allows more than a checkpoint needs (`bytearray(10**12)`), and hashes dictionary keys
with a recursion that a 200,000-deep tuple turns into a crash of the process.
"""

import pickletools
import re

MAX_BYTES = 32 * 2**20
"""A pickle describes tensors, their bytes lie elsewhere: 10,000 tensors with their Adam states take 4 MB."""
MAX_OPS = 4_000_000
MAX_DEPTH = 100

_PUSH = (
    *("NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"),
    *("SHORT_BINSTRING", "GLOBAL", "EMPTY_TUPLE", "EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET"),
)
_POP = {"APPEND": 1, "SETITEM": 2, "BUILD": 1}
_CALL = {"REDUCE": 2, "NEWOBJ": 2, "BINPERSID": 1}
_TUPLE = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}

_NEEDED = re.compile(
    r"""collections\.(OrderedDict|Counter)
    | (builtins|__builtin__)\.(set|complex)
    | _codecs\.encode
    | torch\.(Size|Tensor|device)
    | torch\._tensor\.(Tensor|_rebuild_from_type_v2)
    | torch\.nn\.parameter\.Parameter
    | torch\._utils\.(_rebuild_tensor|_rebuild_tensor_v2|_rebuild_tensor_v3|_rebuild_parameter(_with_state)?)
    | torch\.storage\.UntypedStorage
    | torch\.(Float|Double|Half|BFloat16|Long|Int|Short|Char|Byte|Bool|ComplexFloat|ComplexDouble)Storage
    | torch\.(bool|u?int\d+|b?float\d\w*|complex\d+)""",
    re.VERBOSE,
)
"""What dense tensors, their containers and plain values need, and nothing else."""


class BadPickle(ValueError):  # noqa: N818 - the sibling of BadArchive
    """A pickle that must not be loaded; its text says why and stands after the file's name."""


def foreign_names(data: bytes) -> tuple[str, ...]:
    """The names that a pickle would import beyond what tensors and plain values need, sorted.

    Raises: BadPickle when it is no complete pickle of torch.save's kind, or is too large or too deeply nested.

    >>> foreign_names(b"\\x80\\x02cposix\\nsystem\\n(X\\x02\\x00\\x00\\x00lstR.")
    ('posix.system',)
    """
    if len(data) > MAX_BYTES:
        raise BadPickle(f"describes its tensors in {len(data):,} bytes, far more than any state_dict needs")
    names: set[str] = set()
    depths: list[int] = []  # the unpickler's stack, every value replaced by how deep its tuples go
    outer: list[list[int]] = []
    memo: dict[object, int] = {}
    try:
        for count, (op, argument, _) in enumerate(pickletools.genops(data)):
            name = op.name
            if count > MAX_OPS:
                raise BadPickle(f"describes its tensors in more than {MAX_OPS:,} steps")
            if name == "GLOBAL":
                names.add(str(argument).replace(" ", "."))
            if name in _PUSH:
                depths.append(0)
            elif name in ("BINGET", "LONG_BINGET"):
                depths.append(memo[argument])
            elif name in ("BINPUT", "LONG_BINPUT"):
                memo[argument] = depths[-1]
            elif name == "MARK":
                outer.append(depths)
                depths = []
            elif name == "TUPLE":
                items, depths = depths, outer.pop()
                depths.append(1 + max(items, default=0))
            elif name in ("APPENDS", "SETITEMS"):
                depths = outer.pop()
            elif name in _TUPLE:
                items = depths[-_TUPLE[name] :]
                del depths[-_TUPLE[name] :]
                depths.append(1 + max(items))
            elif name in _POP:
                del depths[-_POP[name] :]
            elif name in _CALL:
                del depths[-_CALL[name] :]
                depths.append(0)
            elif name not in ("PROTO", "STOP"):
                raise BadPickle(f"uses the pickle step {name}, which torch.save does not write by default")
            if depths and depths[-1] > MAX_DEPTH:
                raise BadPickle(f"nests tuples deeper than {MAX_DEPTH}")
    except (ValueError, IndexError, KeyError) as error:
        if isinstance(error, BadPickle):
            raise
        raise BadPickle(f"holds a damaged pickle ({error})") from error
    return tuple(sorted(name for name in names if not _NEEDED.fullmatch(name)))
