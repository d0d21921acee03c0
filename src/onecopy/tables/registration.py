"""Registers the modules of this package as the code for the types of other libraries.

The package `onecopy` imports this module. The modules that are named here are imported later, when
the program has loaded the library and sends something.
"""

from __future__ import annotations

from onecopy._codec.registry import register

register("pyarrow", reducers=f"{__package__}.arrow", tables=True)
register(
    "pandas",
    reducers=f"{__package__}.pandas_columns",
    built=f"{__package__}.pandas_frames",
    builders={1: "frame_of", 2: "range_of", 3: "index_of", 4: "text_index_of"},
    tables=True,
)
register("polars", reducers=f"{__package__}.polars_frames", tables=True)
register("torch", reducers=f"{__package__}.tensors")
