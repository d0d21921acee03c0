"""List and dict, shared by any processes. They grow; a death in the middle cannot damage them.

You make one in the default pool (``onecopy.List()``) or in any pool, with or without a name
(``pool.dict(name="settings")``). It is pickled by reference.
"""

from onecopy.containers.dict import Dict
from onecopy.containers.list import List

__all__ = ["Dict", "List"]
