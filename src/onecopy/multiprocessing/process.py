"""`multiprocessing.process`, the very module: nothing in it shares data."""

import sys
from multiprocessing import process

sys.modules[__name__] = process
