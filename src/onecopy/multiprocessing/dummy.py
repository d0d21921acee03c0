"""`multiprocessing.dummy`, the very module: nothing in it shares data."""

import sys
from multiprocessing import dummy

sys.modules[__name__] = dummy
