"""`multiprocessing.resource_sharer`, the very module: nothing in it shares data."""

import sys
from multiprocessing import resource_sharer

sys.modules[__name__] = resource_sharer
