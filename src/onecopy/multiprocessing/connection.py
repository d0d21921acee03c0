"""`multiprocessing.connection`, the very module: nothing in it shares data."""

import sys
from multiprocessing import connection

sys.modules[__name__] = connection
