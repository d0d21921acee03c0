"""`multiprocessing.forkserver`, the very module: nothing in it shares data."""

import sys
from multiprocessing import forkserver

sys.modules[__name__] = forkserver
