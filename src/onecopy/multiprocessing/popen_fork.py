"""`multiprocessing.popen_fork`, the very module: nothing in it shares data."""

import sys
from multiprocessing import popen_fork

sys.modules[__name__] = popen_fork
