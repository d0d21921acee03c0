"""`multiprocessing.popen_forkserver`, the very module: nothing in it shares data."""

import sys
from multiprocessing import popen_forkserver

sys.modules[__name__] = popen_forkserver
