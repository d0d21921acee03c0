"""`multiprocessing.resource_tracker`, the very module: nothing in it shares data."""

import sys
from multiprocessing import resource_tracker

sys.modules[__name__] = resource_tracker
