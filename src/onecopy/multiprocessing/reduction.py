"""`multiprocessing.reduction`, the very module: nothing in it shares data."""

import sys
from multiprocessing import reduction

sys.modules[__name__] = reduction
