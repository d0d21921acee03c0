"""`init`, and what each worker does."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from onecopy import default
from onecopy._core import membership
from onecopy._core.sizes import parse_size
from onecopy.born import born_in_pool
from onecopy.errors import OneCopyError, Untrusted
from onecopy.pool import Pool
from onecopy.ray import serializers
from onecopy.ray.holder import Holder
from onecopy.ray.sharing import NAMESPACE, VARIABLE, Settings, holder_name, sharing
from onecopy.ray.versions import can_be_used

if TYPE_CHECKING:
    from typing import SupportsIndex

__all__ = ["enabled", "init", "setup"]

_logger: logging.Logger = logging.getLogger("onecopy.ray")

_HOOK = "worker_process_setup_hook"
_SETUP = "onecopy.ray.setup"


def init(
    *args: Any,
    threshold: SupportsIndex | str = "1MiB",
    pool: Pool | None = None,
    born: bool = False,
    **options: Any,
) -> Any:
    """Call `ray.init`, and let arrays of a pool travel through Ray by their places.

    It is for the driver. An array travels by place if it lies in the pool, in tasks, actors,
    `ray.put` and `ray.get`. Receivers on the same host map it, and nothing is copied. Other hosts
    fetch its bytes. Other arrays, and all else, travel as in plain Ray. `Ref` and `SharedArray`
    keep their objects alive when they travel through Ray.

    Parameters
    ----------
    *args, **options
        For `ray.init`. If the `runtime_env` has a ``worker_process_setup_hook``, that one has to
        call `setup`.
    threshold : int or str, optional
        The smallest array that travels by place: bytes, or a size such as ``"4MiB"``.
    pool : Pool, optional
        The pool. Default: the default pool. It becomes the default pool of each process of the job
        that has none. So what workers make by `onecopy.empty` lies in it.
    born : bool, optional
        Whether results of numpy in workers are made in the pool; see `onecopy.born_in_pool`.

    Returns
    -------
    object
        What `ray.init` returns.

    Raises
    ------
    ValueError, TypeError
        An argument is not valid.
    PermissionError, Untrusted
        The pool is open for reading only, or other users may write it.
    OneCopyError, OSError
        The default pool cannot be made.

    Warns
    -----
    UntestedVersionWarning
        This version of Ray was not tested. Ray is started without onecopy.

    Notes
    -----
    An array that was sent is read-only in its sender, as every array of a pool.

    The array lives as long as Ray has a reference to an object with it, or a process has the array.
    An actor, the holder, holds it meanwhile. It ends with the driver's job.
    """
    smallest = parse_size(threshold, "threshold")
    if pool is not None and not isinstance(pool, Pool):
        raise TypeError(f"pool must be a onecopy.Pool, not {type(pool).__name__}")
    sharing.stop()
    if not can_be_used():
        return ray.init(*args, **options)
    runtime_env = dict(options.pop("runtime_env", None) or {})
    chosen = default.default_pool() if pool is None else pool
    _check(chosen)
    settings = Settings(membership.handle_of(chosen.member), smallest, bool(born))
    runtime_env.setdefault(_HOOK, _SETUP)
    runtime_env["env_vars"] = {**runtime_env.get("env_vars", {}), VARIABLE: settings.dump()}
    context = ray.init(*args, runtime_env=runtime_env, **options)
    sharing.start(settings)
    default.adopt(chosen.member)
    sharing.knows(chosen.id, _holder(chosen, settings))
    serializers.install()
    return context


def _check(pool: Pool) -> None:
    if pool.readonly:
        raise PermissionError(
            f"{pool!r} is open for reading only, so no array can be made in it. Open it for "
            "writing, or give another pool: onecopy.ray.init(pool=Pool.create())"
        )
    if pool.member.others_may_write:
        raise Untrusted(
            f"other users may write {pool!r}, and could change what travels. Give a pool of this "
            "user alone: onecopy.ray.init(pool=Pool.create())"
        )


def _holder(pool: Pool, settings: Settings) -> Any:
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor: Any = ray.remote(num_cpus=0, max_restarts=-1)(Holder)
    return actor.options(
        name=holder_name(pool.id), namespace=NAMESPACE, scheduling_strategy=here
    ).remote(settings.handle)


def setup() -> None:
    """Do what a worker does when it starts: join the pool, and send its arrays by place.

    `init` gives this to Ray as the ``worker_process_setup_hook``. Call it in your own hook, if you
    have one. In a job that was not started by `init`, and on a host that does not see the pool, it
    does nothing.
    """
    text = os.environ.get(VARIABLE)
    if not text or not can_be_used():
        return
    try:
        settings = Settings.load(text)
        pool = sharing.start(settings)
        default.adopt(pool.member)
        if settings.born:
            born_in_pool(settings.threshold, pool)
    except (OneCopyError, OSError, ValueError, TypeError, MemoryError) as error:
        sharing.stop()
        _logger.info("arrays of this process travel as in plain Ray: %s", error)
        return
    serializers.install()


def enabled() -> bool:
    """Tell whether arrays of the pool travel by place when this process sends them."""
    return sharing.usable() is not None
