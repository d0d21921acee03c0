"""`multiprocessing.heap`, the very module; onecopy does not use it."""

import sys
from multiprocessing import heap

sys.modules[__name__] = heap
