"""Tables of (date, number with gaps, text), and what the calls do with them.

The numbers are quarters, so that their sum is the same in whatever order they are added. Every
tenth is missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

# 24 bytes a row.
ROW = np.dtype([("date", "M8[s]"), ("val", "f8"), ("text", "S8")])
NAMES = (b"carrier", b"alpha", b"bravo", b"charlie")
START = np.datetime64("2013-01-01T00:00:00")
# Rows that are made, and summed, at a time: what that takes besides the table stays small.
CHUNK = 1 << 16


def record_table(rows: int) -> np.recarray[Any, Any]:
    """A recarray of 24 bytes a row, filled where it lies."""
    table = np.recarray((rows,), ROW)
    names = np.array(NAMES, "S8")
    for start in range(0, rows, CHUNK):
        part = table[start : start + CHUNK]
        number = np.arange(start, start + len(part))
        part["date"] = START + number.astype("m8[s]")
        part["val"] = number % 1000 / 4
        part["val"][number % 10 == 9] = np.nan
        part["text"] = names[number % len(names)]
    return table


def data_frame(rows: int) -> pd.DataFrame:
    """The same as pandas has it: 8-byte columns, and text as pandas keeps it by default."""
    import pandas as pd

    number = np.arange(rows)
    value = number % 1000 / 4
    value[number % 10 == 9] = np.nan
    names = [name.decode() for name in NAMES]
    kinds = pd.Series(pd.Categorical.from_codes(number % len(names), names))
    return pd.DataFrame(
        {"date": START + number.astype("m8[s]"), "val": value, "text": kinds.astype("str")}
    )


def sum_of_values(rows: int) -> float:
    """What `nansum` must find in a table of so many rows."""
    number = np.arange(1000)
    present = np.where(number % 10 == 9, 0, number)
    return float(rows // 1000 * present.sum() + present[: rows % 1000].sum()) / 4


def nansum(table: Any) -> float:
    """The article's task: the sum of a column, NaN left out."""
    return float(np.nansum(table["val"]))


def frugal_nansum(table: Any) -> float:
    """The same without large intermediate arrays, to look at what the table itself takes."""
    values = np.asarray(table["val"])
    return sum(nansum({"val": values[at : at + CHUNK]}) for at in range(0, len(values), CHUNK))
