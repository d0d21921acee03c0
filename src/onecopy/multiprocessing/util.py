"""`multiprocessing.util`, the very module: nothing in it shares data."""

import sys
from multiprocessing import util

sys.modules[__name__] = util
