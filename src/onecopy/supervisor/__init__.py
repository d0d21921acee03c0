"""Groups of worker processes that are kept alive."""

from onecopy.supervisor.group import WorkerGroup, supervise
from onecopy.supervisor.records import Exit, Worker

__all__ = ["Exit", "Worker", "WorkerGroup", "supervise"]
