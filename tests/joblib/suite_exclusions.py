"""The tests of joblib that do not apply, and the reasons.

A name is a test, with all its parameters or with some: ``test`` or ``test[a-b]``.
"""

_FILES = "asks whether arguments are files that joblib has mapped; they are in a pool instead"

EXCLUDED = {
    "test_auto_memmap_on_arrays_from_generator[onecopy]": _FILES,
    "test_memmapping_leaks[onecopy]": _FILES,
}
