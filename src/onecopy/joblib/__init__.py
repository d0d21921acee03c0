"""A backend for joblib in which inputs and results are shared instead of copied.

Importing this module registers it:

>>> import joblib, onecopy.joblib  # doctest: +SKIP
>>> with joblib.parallel_config(backend="onecopy", n_jobs=-1):  # doctest: +SKIP
...     joblib.Parallel()(joblib.delayed(summarize)(table, key) for key in keys)
...     GridSearchCV(estimator, grid).fit(X, y)

What is large in arguments (arrays, tables, buffers) is written into a pool once and read there by
all workers; results come back the same way. Both are read-only where they arrive;
`onecopy.writable_copy` makes a private copy.
"""

from __future__ import annotations

try:
    import joblib
except ImportError as _error:
    raise ImportError(
        "onecopy.joblib is a backend for joblib, which is not installed: pip install 'joblib>=1.4'"
    ) from _error

from onecopy.joblib.backend import OneCopyBackend
from onecopy.joblib.workers import shutdown

__all__ = ["OneCopyBackend", "shutdown"]

joblib.register_parallel_backend("onecopy", OneCopyBackend)
