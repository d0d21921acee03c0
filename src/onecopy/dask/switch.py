"""`enable`, `disable` and `attach`."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Literal

from onecopy.dask import sides
from onecopy.dask.membership import membership
from onecopy.dask.settings import Settings, preload

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["attach", "disable", "enable", "enabled"]


def enable(
    size: int | str | None = None,
    *,
    pool: str | None = None,
    threshold: int | str = "1MiB",
    writable: Literal["private", "readonly"] = "private",
    born: bool = False,
) -> bool:
    """Share large data between the processes of clusters that this process makes from now on.

    Call it before the cluster is made. Processes on other hosts, and processes without onecopy,
    get bytes, as without this call.

    Parameters
    ----------
    size : int or str, optional
        Bytes of the pool on each host, or a text like ``"8GiB"``. Memory is used when it is needed.
        Default: half of the free shared memory.
    pool : str, optional
        The name of the pool. Default: a new one. For processes that are started by hand: the name
        that they have in ``DASK_ONECOPY__POOL``, whose default is "dask".
    threshold : int or str, optional
        The smallest buffer that is shared.
    writable : {"private", "readonly"}, optional
        How tasks and the client get shared data. ``"private"``: writable; a page is copied when it
        is written, and no other process sees that. ``"readonly"``: no page is ever copied,
        but functions written for plain Dask may expect to write.
    born : bool, optional
        Whether results of numpy in workers are made in the pool; see `onecopy.born_in_pool`.

    Returns
    -------
    bool
        False: this version of distributed was not tested, and Dask works as without onecopy.

    Raises
    ------
    PoolFull
        The machine does not have that much memory.
    OneCopyError
        A pool of that name exists with another size.
    ValueError, TypeError
        An argument is not valid.

    Warns
    -----
    UntestedVersionWarning
        See *Returns*.
    """
    name = pool or f"dask-{uuid.uuid4().hex[:12]}"
    wanted = Settings(name, size, threshold, writable, born).checked()
    if not sides.install():
        return False
    membership.leave()
    wanted.store()
    membership.open()
    preload(on=True)
    return True


def disable() -> None:
    """Have new clusters and connections of this process be Dask's own. Data stays valid."""
    preload(on=False)
    sides.uninstall()
    membership.leave()


def enabled() -> bool:
    """Tell whether this process shares large data with processes of the same pool."""
    return membership.pool is not None


def attach(
    client: Client,
    size: int | str | None = None,
    *,
    pool: str | None = None,
    threshold: int | str = "1MiB",
    writable: Literal["private", "readonly"] = "private",
    born: bool = False,
) -> bool:
    """Share large data in a cluster that runs already. The parameters are those of `enable`.

    Workers that join later do the same. Connections that exist for long (of the scheduler to each
    worker, and to this client) stay as they are: arguments of `submit` and `scatter` through the
    scheduler still travel as bytes. `enable` before the cluster is made has no such gap.

    Parameters
    ----------
    client : Client
        Not asynchronous.
    size, pool, threshold, writable, born
        As for `enable`.

    Returns
    -------
    bool
        As for `enable`, for this process. Workers with another version warn in their logs.

    Raises
    ------
    OneCopyError, ValueError, TypeError
        As for `enable`.
    """
    if not enable(size, pool=pool, threshold=threshold, writable=writable, born=born):
        return False
    chosen = membership.settings._asdict()
    client.register_plugin(_plugin(chosen))
    client.run_on_scheduler(_on_scheduler, chosen)
    client.run(_on_worker)
    client.sync(_forget_comms, client)
    return True


def _plugin(chosen: dict[str, Any]) -> Any:
    from distributed import WorkerPlugin

    class OneCopy(WorkerPlugin):  # type: ignore[misc]
        """Sets up each worker, also those that join later."""

        name = "onecopy"
        idempotent = True

        def __init__(self, chosen: dict[str, Any]) -> None:
            self.chosen = chosen

        def setup(self, worker: Any) -> None:
            from onecopy.dask import sides
            from onecopy.dask.membership import membership
            from onecopy.dask.settings import Settings

            Settings(**self.chosen).store()
            if sides.install():
                membership.join()
                sides.set_up_worker(worker)

    return OneCopy(chosen)


def _on_scheduler(chosen: dict[str, Any], dask_scheduler: Any = None) -> None:
    Settings(**chosen).store()
    if sides.install():
        membership.join()
        dask_scheduler.rpc.collect()


def _on_worker(dask_worker: Any = None) -> None:
    dask_worker.rpc.collect()


async def _forget_comms(client: Any) -> None:
    client.rpc.collect()
