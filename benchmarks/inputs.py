"""Tables of (date, number with gaps, text), and the functions of the calls.

The numbers are quarters, so their sum does not depend on the order. Every tenth number is missing.
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
# Rows that are made and summed at a time, so that this needs little memory besides the table.
CHUNK = 1 << 16


def record_table(rows: int) -> np.recarray[Any, Any]:
    """Make a recarray of 24 bytes per row. It is filled in place."""
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
    """Make the same table for pandas: 8-byte columns, and text in the default dtype of pandas."""
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
    """Return the correct result of `nansum` for a number of rows."""
    number = np.arange(1000)
    present = np.where(number % 10 == 9, 0, number)
    return float(rows // 1000 * present.sum() + present[: rows % 1000].sum()) / 4


def nansum(table: Any) -> float:
    """Return the sum of a column without NaN. This is the task of the calls."""
    return float(np.nansum(table["val"]))


def frugal_nansum(table: Any) -> float:
    """The same without large intermediate arrays, to measure the memory of the table itself."""
    values = np.asarray(table["val"])
    return sum(nansum({"val": values[at : at + CHUNK]}) for at in range(0, len(values), CHUNK))
