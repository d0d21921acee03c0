"""A large table, grouped by workers that read it in place: ``python group_by.py [GIGABYTES]``."""

import sys
import time

import numpy as np
import pandas as pd

import onecopy as oc


def summarize(part: pd.DataFrame) -> pd.DataFrame:
    return part.groupby("shop")["price"].agg(["size", "sum", "max"])


if __name__ == "__main__":
    rows = int(float([*sys.argv, "2"][1]) * 1e9) // 16
    random = np.random.default_rng(7)
    with oc.Pool.create(size=rows * 16 + (256 << 20)) as pool, oc.Executor(pool=pool) as executor:
        shop, price = pool.empty(rows, "i8"), pool.empty(rows, "f8")
        shop[:] = random.integers(0, 1000, rows)
        random.random(out=price)
        table = pd.DataFrame({"shop": shop, "price": price}, copy=False)  # it stays in the pool
        began = time.perf_counter()
        parts = [table.iloc[row : row + 1_000_000] for row in range(0, rows, 1_000_000)]
        total = pd.concat(executor.map(summarize, parts)).groupby("shop")
        total = total.agg({"size": "sum", "sum": "sum", "max": "max"})
        print(total.head(3), f"{rows:,} rows: {time.perf_counter() - began:.1f} s", sep="\n")
