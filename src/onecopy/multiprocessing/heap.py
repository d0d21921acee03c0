"""`multiprocessing.heap`, the very module: the standard library's own heap, which onecopy does not use."""

import sys
from multiprocessing import heap

sys.modules[__name__] = heap
