"""What this process shares: the pool, the settings, and the way to the holder."""

from __future__ import annotations

import json
import logging
import os
import threading
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import ref

import ray
from ray._private.worker import global_worker

from onecopy._core import membership
from onecopy.pool import Pool
from onecopy.ray.counts import counts

if TYPE_CHECKING:
    from onecopy._core.membership import PoolHandle

__all__ = ["VARIABLE", "Settings", "Sharing", "holder_name", "in_band", "sharing"]

VARIABLE = "ONECOPY_RAY"  # the settings of a job, for its workers
NAMESPACE = "onecopy"
_PATIENCE = 30  # seconds that a sender waits for the holder, before it sends bytes

_logger: logging.Logger = logging.getLogger("onecopy.ray")


class Settings(NamedTuple):
    """What `init` was called with.

    Attributes
    ----------
    handle : PoolHandle
        The pool.
    threshold : int
        The smallest array that travels by place.
    born : bool
        Whether results of numpy in workers are made in the pool.
    """

    handle: PoolHandle
    threshold: int
    born: bool

    def dump(self) -> str:
        """Return them as a text, for an environment variable."""
        return json.dumps([[self.handle[0].hex(), *self.handle[1:]], self.threshold, self.born])

    @classmethod
    def load(cls, text: str) -> Settings:
        """Return the settings from `dump`."""
        (identity, *rest), threshold, born = json.loads(text)
        handle: Any = (bytes.fromhex(identity), *rest)
        return cls(handle, threshold, born)


def holder_name(pool: bytes) -> str:
    """Return the name of the holder of a pool, by its id."""
    return f"onecopy-{pool.hex()}"


def in_band() -> bool:
    """Tell whether Ray pickles one of its objects now.

    Otherwise it is code of a user that calls Ray's cloudpickle, or the closure of a function. Ray
    would count a ticket in there for ever.
    """
    return bool(
        global_worker.connected
        and global_worker.get_serialization_context().is_in_band_serialization()
    )


class _Sent(NamedTuple):
    """What was sent from this process: its ticket, and the process of the holder."""

    owner: ref[Any]
    job: Any
    ticket: Any
    pid: int

    def valid(self) -> bool:
        """Tell whether the holder that gave the ticket still lives."""
        try:
            os.kill(self.pid, 0)
        except OSError:
            return False
        return True


class Sharing:
    """The pool and the holder of this process."""

    def __init__(self) -> None:
        self.pool: Pool | None = None
        self.settings: Settings | None = None
        self._holders: dict[tuple[Any, bytes], Any] = {}  # by job and pool; None: there is none
        self._sent: dict[int, _Sent] = {}  # by the identity of the owner

    def start(self, settings: Settings) -> Pool:
        """Join the pool, or raise as `membership.join`."""
        pool = Pool.of(membership.join(settings.handle))
        self.pool, self.settings = pool, settings
        return pool

    def stop(self) -> None:
        """Send bytes from now on."""
        self.pool = None
        self._sent.clear()

    def usable(self) -> Pool | None:
        """Return the pool if arrays of it shall travel by place."""
        pool = self.pool
        return None if pool is None or pool.closed else pool

    def holder(self, pool: bytes) -> Any:
        """Return the holder of a pool in this job, by the id of the pool. None: there is none."""
        key = global_worker.current_job_id, pool
        if key not in self._holders:
            try:
                found = ray.get_actor(holder_name(pool), NAMESPACE)
            except ValueError:
                found = None
            self._holders[key] = found
        return self._holders[key]

    def knows(self, pool: bytes, holder: Any) -> None:
        """Note the holder that this process has made."""
        self._holders[global_worker.current_job_id, pool] = holder

    def ticket(self, owner: object, pool: bytes, place: Any, pickled: bytes = b"") -> Any:
        """Return a ticket for the block of `owner`. None: there is none; send bytes.

        Ray does not count references in arguments between pickling and submitting: it relies on
        the caller, which has the argument. So the ticket lives as long as `owner` does in this
        process. Its next message has the same ticket.
        """
        key, job = id(owner), global_worker.current_job_id
        known = self._sent.get(key)
        if known is None or known.job != job or known.owner() is not owner or not known.valid():
            answer = self._ask(pool, place, pickled)
            if answer is None:
                counts.refused += 1
                return None
            forget = self._sent.pop
            new = _Sent(ref(owner, lambda _: forget(key, None)), job, *answer)
            if self._sent.get(key) is known:  # no other thread was faster
                self._sent[key] = new
            known = self._sent.get(key, new)
        return known.ticket

    def _ask(self, pool: bytes, place: Any, pickled: bytes) -> tuple[Any, int] | None:
        """Have the holder hold something.

        The caller pickles for Ray now, and Ray notes in the thread what the pickle refers to. A
        call pickles, too. So another thread makes it.
        """
        got: list[tuple[Any, int]] = []

        def ask() -> None:
            holder = self.holder(pool)
            if holder is None:
                return
            try:
                # This reference must be there when the ticket comes: otherwise Ray does not count
                # the ticket. `ray.get` would warn in an asynchronous actor: it sees no threads.
                answer = holder.hold.remote(place, pickled)
                got.append(answer.future().result(timeout=_PATIENCE))
            except Exception as error:  # noqa: BLE001 - Ray has many, and it can send the bytes
                _logger.warning(
                    "an object travels as bytes: the holder does not hold it: %s", error
                )

        thread = threading.Thread(target=ask, name="onecopy-ray", daemon=True)
        thread.start()
        thread.join()
        return got[0] if got else None

    def fetch(self, pool: bytes, place: Any) -> Any:
        """Return the bytes of a place, from the host that has them. None: there is no holder.

        The caller unpickles for Ray now, and owns a lock that this call needs, too. So no other
        thread makes it.
        """
        holder = self.holder(pool)
        return None if holder is None else ray.get(holder.fetch.remote(place)).memory


sharing: Sharing = Sharing()


def _forked() -> None:
    # A forked child cannot use Ray.
    sharing.stop()


os.register_at_fork(after_in_child=_forked)
