"""What goes into a page as text: arrays, JSON, scripts, and the policy that lets exactly those scripts run.

In: numpy arrays, tables, plain values. Out: text that cannot be mistaken for markup. page.js reads it again.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int
from markupsafe import Markup

from ncscan.wording import visible


def floats(array: np.ndarray) -> str:
    """Return numbers as base64 of little-endian float32; what is too large for it is its largest."""
    with np.errstate(over="ignore"):
        small = array.astype("<f4")
    largest = np.finfo(np.float32).max
    return base64.b64encode(np.clip(small, -largest, largest).tobytes()).decode()


def shorts(array: np.ndarray, scale: float) -> str:
    """Return numbers in ± scale as base64 of 16-bit whole numbers; −32768 stands for none."""
    whole = np.where(np.isnan(array), -32768, np.rint(np.nan_to_num(array) / (scale or 1.0) * 32767))
    return base64.b64encode(whole.astype("<i2").tobytes()).decode()


def stretches(codes: Int[np.ndarray, "s p"]) -> list[int]:
    """Return where codes are not −1, row by row: first, length, code, and again."""
    flat = codes.ravel()
    starts = np.flatnonzero(np.diff(flat, prepend=-2))
    lengths = np.diff(np.append(starts, len(flat)))
    return [int(x) for s, n in zip(starts, lengths, strict=True) if flat[s] >= 0 for x in (s, n, flat[s])]


def coded(
    table: pd.DataFrame, runs: Mapping[str, int], texts: Sequence[str], values: Sequence[str], flag: str = ""
) -> dict[str, Any]:
    """Return columns in short form.

    Texts become numbers of their words, values float32, a flag 1, 0 or −1 where it is neither.
    """
    words: dict[str, int] = {}
    columns: dict[str, Any] = {"run": [runs[str(run)] for run in table["run"]]}
    for name in texts:
        columns[name] = [words.setdefault(visible(str(text)), len(words)) for text in table[name]]
    packed = {name: floats(table[name].to_numpy(np.float64)) for name in values}
    flags = {flag: [-1 if pd.isna(each) else int(each) for each in table[flag]]} if flag else {}
    return {"texts": columns, "values": packed, "flags": flags, "words": list(words)}


def inline_json(value: Any) -> Markup:
    """Return JSON between script tags: nothing in it can end the tag, or start a comment or another one."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for mark in "<>&\u2028\u2029":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return Markup(text)  # noqa: S704 - no markup is left in it


def inline_script(source: str) -> Markup:
    """Return our own code between script tags; ValueError when it could end the tag."""
    if re.search(r"<(!--|/?script)", source, re.IGNORECASE):
        raise ValueError("a script that holds a script tag cannot stand in a page")
    return Markup(source.replace("\r\n", "\n"))  # noqa: S704 - written by us


def policy(scripts: Sequence[str]) -> str:
    """Return a content security policy under which these scripts run, no other does, and nothing is loaded."""
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return f"default-src 'none'; style-src 'unsafe-inline'; script-src {allowed}"
