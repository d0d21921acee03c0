"""What happens in schedulers, workers and nannies: `dask_setup` is called by ``--preload``."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import psutil

from onecopy import default
from onecopy.born import born_in_pool
from onecopy.dask import comms, logs, serializers
from onecopy.dask.membership import membership
from onecopy.dask.memory import counting_once, process_memory
from onecopy.dask.moving import Mover
from onecopy.dask.versions import can_be_used
from onecopy.errors import OneCopyError

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import Nanny, Worker

__all__ = ["dask_setup", "install", "set_up_worker", "uninstall"]

_logger: logging.Logger = logging.getLogger("onecopy.dask")

_OURS = "_onecopy_mover"
_installed = False


def install() -> bool:
    """Have new comms of this process use the pool; tell whether this distributed can."""
    global _installed  # noqa: PLW0603 - of the process
    if not _installed:
        if not can_be_used():
            return False
        serializers.install()
        comms.install()
        logs.install()
        _installed = True
    return True


def uninstall() -> None:
    """Have new comms of this process be Dask's own."""
    global _installed  # noqa: PLW0603 - of the process
    if _installed:
        comms.uninstall()
        logs.uninstall()
        _installed = False


async def dask_setup(server: Any) -> None:
    """Prepare a scheduler, worker or nanny; Dask calls this for ``--preload onecopy.dask``.

    Parameters
    ----------
    server : Scheduler, Worker or Nanny
        The server that starts.
    """
    from distributed import Nanny, Worker

    if not install():
        return
    membership.join()
    if isinstance(server, Worker):
        set_up_worker(server)
    elif isinstance(server, Nanny):
        set_up_nanny(server)


def set_up_worker(worker: Worker) -> None:
    """Have a worker move values into the pool, and count its memory once per host."""
    pool = membership.pool
    if pool is None or hasattr(worker, _OURS):
        return
    default.adopt(pool.member)  # what a task makes by `oc.empty` lies in the pool that travels
    if membership.settings.born:
        _make_results_in(pool)
    setattr(worker, _OURS, Mover(worker))
    monitor = worker.monitor
    monitor.get_process_memory = counting_once(monitor.proc.pid, monitor.get_process_memory)
    worker.rpc.collect()  # comms that were opened before


def _make_results_in(pool: Any) -> None:
    try:
        born_in_pool(membership.threshold, pool)
    except (OneCopyError, ValueError, OSError) as error:
        _logger.warning("results are not made in the pool: %s", error)


def set_up_nanny(nanny: Nanny) -> None:
    """Have a nanny count the memory of its worker once per host, before it ends the worker."""
    monitoring = nanny.periodic_callbacks.get("memory_monitor")
    if monitoring is not None:
        monitoring.callback = _monitor_of(nanny, monitoring.callback)


def _monitor_of(nanny: Nanny, original: Callable[[], None]) -> Callable[[], None]:
    def memory_monitor() -> None:
        manager: Any = nanny.memory_manager
        try:
            pid = nanny.process.process.pid
            memory = process_memory(pid, psutil.Process(pid).memory_info().rss)
            if memory <= manager.memory_limit * manager.memory_terminate_fraction:
                return
        except (AttributeError, TypeError, ProcessLookupError, psutil.Error):
            pass  # there is no worker, or it is not known
        original()

    return memory_monitor
