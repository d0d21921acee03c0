"""Managers (placeholder until the part arrives)."""

import sys
from multiprocessing import managers

sys.modules[__name__] = managers
