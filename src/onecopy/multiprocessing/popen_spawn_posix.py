"""`multiprocessing.popen_spawn_posix`, the very module: nothing in it shares data."""

import sys
from multiprocessing import popen_spawn_posix

sys.modules[__name__] = popen_spawn_posix
