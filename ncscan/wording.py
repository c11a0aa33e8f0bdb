"""Numbers and strangers' texts as people read them: in the terminal, on the pages and in figures."""

import math
import re
import unicodedata
from collections.abc import Sequence


def number(value: float) -> str:
    """Return a number to read: three digits, and an exponent only where it is needed.

    >>> [number(v) for v in (0.0, 1.0, 0.01234, 0.5, 12345.6, 1.23e-7, -3e8)]
    ['0', '1', '0.0123', '0.500', '12346', '1.2e−7', '−3e8']
    """
    size = abs(value)
    if size < 1e5 and value == int(value):
        text = str(int(value))
    elif 1e-3 <= size < 1e5:
        text = f"{value:.{max(0, 2 - math.floor(math.log10(size)))}f}"
    else:
        mantissa, exponent = f"{value:.1e}".split("e")
        text = f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    return text.replace("-", "−")


def percent(share: float) -> str:
    """Return a share of one as a percentage that does not round something down to nothing.

    >>> percent(0.0), percent(0.00004), percent(0.123)
    ('0 %', 'under 0.1 %', '12.3 %')
    """
    if 0 < share < 0.001:
        return "under 0.1 %"
    return f"{100 * share:.1f}".removesuffix(".0") + " %"


def listed(items: Sequence[str], last_word: str = "and") -> str:
    """Return the items as `a, b and c`.

    >>> listed([]), listed(["NC1"]), listed(["NC1", "NC2", "NC4"]), listed(["mlp", "module:function"], "or")
    ('', 'NC1', 'NC1, NC2 and NC4', 'mlp or module:function')
    """
    *head, last = items or [""]
    return f"{', '.join(head)} {last_word} {last}" if head else last


def listed_up_to(most: int, items: Sequence[str]) -> str:
    """Return the first items, made visible, and how many more there are.

    >>> listed_up_to(2, ["fc1", "fc2"]), listed_up_to(2, ["fc1", "fc2", "fc3", "fc4"])
    ('fc1, fc2', 'fc1, fc2 and 2 more')
    """
    shown = ", ".join(visible(item) for item in items[:most])
    return f"{shown} and {len(items) - most} more" if len(items) > most else shown


def alike(text: str, name: str = "") -> str:
    """Return what two texts of one kind have in common: neither their numbers nor the input that they name.

    Args:
        text: a reason or a doubt.
        name: of the input; a path that ends in it, or contains it, is left out.

    >>> alike("/runs/a/step_5.pt: fills 3 of 6 tensors", "step_5.pt"), alike("accuracy 9.5%, not 98.0%")
    ('… fills # of # tensors', 'accuracy #%, not #%')
    """
    bare = re.sub(rf"\S*{re.escape(name)}\S*", "…", text) if name else text
    return re.sub(r"\d[\d.,]*(?<![.,])", "#", bare)


def visible(text: str) -> str:
    r"""Return a stranger's text with the unseen made visible: control characters, direction marks, half characters.

    XML and HTML cannot hold some of them at all, and others reorder the text around them.

    >>> visible("fc\x00\u202e1")
    'fc␀�1'
    """
    if text.isprintable():
        return text
    return "".join(map(_visible_character, text))


def _visible_character(character: str) -> str:
    if character < " ":
        return chr(0x2400 + ord(character))
    return "\N{REPLACEMENT CHARACTER}" if unicodedata.category(character)[0] == "C" else character
