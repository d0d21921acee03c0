"""What pickle raises for an object of a function, by the version of Python."""

import pickle
import sys

UNPICKLABLE: tuple[type[Exception], ...] = (TypeError, AttributeError)
if sys.version_info >= (3, 14):
    UNPICKLABLE += (pickle.PicklingError,)
