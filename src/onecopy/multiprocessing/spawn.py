"""`multiprocessing.spawn`, the very module: nothing in it shares data."""

import sys
from multiprocessing import spawn

sys.modules[__name__] = spawn
