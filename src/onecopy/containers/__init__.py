"""List and dict, shared by any processes: they grow, and a death in the middle leaves them whole.

Each is made in the default pool (``onecopy.List()``) or in any pool, with or without a name
(``pool.dict(name="settings")``); it is pickled by reference.
"""

from onecopy.containers.dict import Dict
from onecopy.containers.list import List

__all__ = ["Dict", "List"]
