"""The backend as joblib sees it."""

from __future__ import annotations

import math
import threading
import warnings
from concurrent.futures import CancelledError
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import TYPE_CHECKING, Any

import joblib.parallel
from joblib.parallel import (
    AutoBatchingMixin,
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
)

from onecopy._core.places import MOST_PROCESSES
from onecopy.default import default_pool
from onecopy.joblib.workers import WorkerSpec, acquire

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from onecopy.joblib.workers import WorkerPool
    from onecopy.pool import Pool

__all__ = ["OneCopyBackend"]

_IDLE = 300.0  # seconds, as joblib's own backend has it
_SHARE_ABOVE = 1 << 20  # bytes, as above
# What Parallel tells every backend: about files that hold arrays (there are none here), and more.
_UNUSED = {"context", "temp_folder", "verbose"}
_PRIVATE = {"c", None}  # modes of joblib in which a worker may write what it gets, for itself


class OneCopyBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]  # no types
    """Run joblib's calls in worker processes that share arguments and results.

    Chosen by name, ``joblib.parallel_config(backend="onecopy")``, or given as an object. Batches,
    nested calls, and the number of threads in workers are as in joblib's own backend (loky).

    Parameters
    ----------
    **options
        By keyword, here, in `joblib.parallel_config` or in `joblib.Parallel`:

        max_nbytes : int, str or None
            Arrays of more bytes are shared, and read-only for the receiver; smaller ones are
            copied, and may be written. None: no array is shared. Default: "1M".
        mmap_mode : str or None
            "c" or None: shared arrays may be written by the receiver, for itself; what it writes
            into is copied, page by page. Other modes: they are read-only. Default: "r".
        inner_max_num_threads : int
            Threads of OpenMP, BLAS and the like per worker. Default: the processors, divided.
        pool : Pool
            Where arguments and results lie. Default: the default pool.
        initializer : callable
            Called in each worker when it begins, with `initargs`.
        initargs : tuple
            See `initializer`.
        idle_worker_timeout : float
            Seconds after which workers without calls end. Default: 300.

    Notes
    -----
    ``temp_folder`` is accepted and has no effect: there are no files. For the same reason what a
    worker writes with ``mmap_mode="r+"`` into a file that joblib makes has no equivalent.

    A call raises, besides what the called function raises: `BrokenProcessPool` if a worker dies
    (the next call gets new workers), `TimeoutError`, `PoolFull` if there is no room for an argument
    or, for a minute, for a result.
    """

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._workers: WorkerPool | None = None

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Tell how many calls run at once.

        Parameters
        ----------
        n_jobs : int or None
            As given to joblib: -1 for all processors, -2 for all but one; None for one. There are
            at most 511 workers, as a pool has room for no more.

        Returns
        -------
        int
            One where there can be no worker processes: in a daemonic process, and below threads.

        Raises
        ------
        ValueError
            It is 0.
        """
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        processes = joblib.parallel.mp
        if processes is None or n_jobs is None:  # None: JOBLIB_MULTIPROCESSING=0
            return 1
        reason = None
        if processes.current_process().daemon:
            reason = "started in a daemonic process"
        elif not (self.in_main_thread() or self.nesting_level == 0):
            reason = "nested below threads"
        if reason is not None:
            if n_jobs != 1:
                warnings.warn(
                    f"onecopy-backed parallel loops cannot be {reason}, setting n_jobs=1",
                    stacklevel=3,
                )
            return 1
        if n_jobs > 0:
            return n_jobs
        processors: int = joblib.cpu_count()
        return min(max(processors + 1 + n_jobs, 1), MOST_PROCESSES - 1)

    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        prefer: str | None = None,  # noqa: ARG002 - joblib has checked it
        require: str | None = None,  # noqa: ARG002 - as above
        **options: Any,
    ) -> int:
        """Get workers for a call of joblib's, and tell how many.

        Raises
        ------
        FallbackToBackend
            One is enough: this process.
        TypeError
            There is no such option.
        ValueError
            There are more workers than the pool has places for.
        PoolFull, OSError
            There is no room for the queues; from making the default pool.
        """
        n_jobs = self.effective_n_jobs(n_jobs)
        if n_jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        options = {**getattr(self, "backend_kwargs", {}), **options}
        self._workers = acquire(self._spec(n_jobs, **options))
        self.parallel = parallel
        return n_jobs

    def _spec(
        self,
        workers: int,
        *,
        pool: Pool | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        max_nbytes: int | None = _SHARE_ABOVE,
        mmap_mode: str | None = "r",
        idle_worker_timeout: float | None = None,
        **unused: Any,
    ) -> WorkerSpec:
        unknown = sorted(set(unused) - _UNUSED)
        if unknown:
            raise TypeError(
                f"the backend 'onecopy' has no option {', '.join(map(repr, unknown))}; it has "
                "'max_nbytes', 'mmap_mode', 'inner_max_num_threads', 'pool', 'initializer', "
                "'initargs' and 'idle_worker_timeout'"
            )
        return WorkerSpec(
            workers,
            self._prepare_worker_env(n_jobs=workers),
            default_pool() if pool is None else pool,
            initializer,
            initargs,
            math.inf if max_nbytes is None else max_nbytes,
            _IDLE if idle_worker_timeout is None else idle_worker_timeout,
            "on_write" if mmap_mode in _PRIVATE else None,
        )

    def submit(
        self, func: Callable[[], Any], callback: Callable[[Future[Any]], object] | None = None
    ) -> Future[Any]:
        """Hand out a batch of calls.

        Parameters
        ----------
        func : BatchedCalls
            The batch.
        callback : callable, optional
            Called with the future, in another thread, when it is done.

        Returns
        -------
        Future
            Of the list of results.
        """
        if self._workers is None:
            raise RuntimeError("this Parallel object has released its workers")
        future = self._workers.executor.submit(func)
        if callback is not None:
            future.add_done_callback(partial(_tell, callback))
        return future

    apply_async = submit  # its name up to joblib 1.4

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """Give the results of a batch, or raise what it raised."""
        try:
            return out.result()
        except CancelledError:
            raise RuntimeError(
                "the call was cancelled: the workers of this Parallel object were ended (by "
                "onecopy.joblib.shutdown, or by the end of the process)"
            ) from None

    def terminate(self) -> None:
        """Leave the workers to later calls."""
        workers, self._workers = self._workers, None
        if workers is not None:
            workers.leave()
        self.reset_batch_stats()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Kill the workers, and with them what was handed out.

        Parameters
        ----------
        ensure_ready : bool
            Whether to get new ones.
        """
        workers, self._workers = self._workers, None
        if workers is not None:
            workers.kill()
        if ensure_ready:
            self.configure(self.parallel.n_jobs, self.parallel, **self.parallel._backend_kwargs)


def _tell(callback: Callable[[Future[Any]], object], future: Future[Any]) -> None:
    if future.cancelled() or isinstance(future.exception(), BrokenProcessPool):
        # This may be called under the executor's lock, which a thread that is dispatching waits for
        # while it has joblib's, which the callback wants.
        threading.Thread(target=callback, args=(future,), name="onecopy-joblib-callback").start()
    else:
        callback(future)
