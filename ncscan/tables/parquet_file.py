"""The tables of a report as Parquet: the same rows as the CSV files, with their types, and text as it was.

In: a conformed table. Out: bytes. Needs pyarrow, which is an extra: where it is missing, a command that wants Parquet
ends before anything is measured.
"""

import importlib.util
from io import BytesIO

import pandas as pd

from ncscan.errors import UsageError
from ncscan.tables.columns import TEXT


def require_parquet() -> None:
    """Raise UsageError when pyarrow is not installed."""
    if importlib.util.find_spec("pyarrow") is None:
        raise UsageError("--format parquet needs pyarrow, which is not installed: pip install 'ncscan[parquet]'")


def parquet_bytes(frame: pd.DataFrame) -> bytes:
    """Return a table as a Parquet file, the same bytes for the same table and the same pyarrow.

    Text is UTF-8 and empty where it is missing, whole numbers are int64, flags bool, numbers double; what is missing of
    those is null. Nothing here can start a formula, so text is not guarded as in a CSV file.
    """
    # A column of text that has no rows must still be one of text.
    texts = {str(name): "string" for name in frame.columns if frame[name].dtype == TEXT}
    file = BytesIO()
    frame.astype(texts).to_parquet(file, engine="pyarrow", index=False)
    return file.getvalue()
