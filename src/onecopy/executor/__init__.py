"""Calls in worker processes, with arguments and results in shared memory."""

from onecopy.executor.executor import Executor

__all__ = ["Executor"]
