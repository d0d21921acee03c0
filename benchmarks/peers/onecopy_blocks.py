"""onecopy: a pool for each channel, blocks that are handed over, and ways to wait."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import onecopy
from benchmarks.peers.base import MESSAGE_DEPTH, new_name

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 1 << 20
# Blocks that a giver has, and hands over in turn.
HANDOFF_BLOCKS = 4


class OwnPool:
    """A pool for one channel. Members are not given objects but open it by its name."""

    def __init__(self, size: int = 64 * MIB) -> None:
        self.name = new_name()
        self.pool: Any = onecopy.Pool.create(self.name, size=size)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "pool"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.pool = onecopy.Pool.open(self.name)

    def close(self) -> None:
        with contextlib.suppress(onecopy.PoolNotFound):
            self.pool.unlink()
        self.pool.close()


class ArrayHandoff(OwnPool):
    """Arrays that live in the pool: `queue.put(array)`, `queue.get()`, drop it."""

    def __init__(self, nbytes: int, pool_size: int = 0) -> None:
        self.nbytes = nbytes
        super().__init__(pool_size or 64 * MIB + HANDOFF_BLOCKS * (nbytes + nbytes // 8))

    def queue(self) -> Any:
        return self.pool.queue("blocks", maxsize=MESSAGE_DEPTH)

    def giver(self) -> Callable[[int], None]:
        put = self.queue().put
        blocks = [self.pool.empty((self.nbytes,), "uint8") for _ in range(HANDOFF_BLOCKS)]

        def give(number: int) -> None:
            put(blocks[number % HANDOFF_BLOCKS])

        return give

    def taker(self) -> Callable[[], int]:
        get = self.queue().get

        def take() -> int:
            return get().nbytes  # and the array is dropped

        return take


class RefHandoff(ArrayHandoff):
    """The same with `Ref` objects, for a consumer that passes them on without looking inside."""

    def giver(self) -> Callable[[int], None]:
        put = self.queue().put
        refs = [
            self.pool.put(self.pool.empty((self.nbytes,), "uint8")) for _ in range(HANDOFF_BLOCKS)
        ]

        def give(number: int) -> None:
            put(refs[number % HANDOFF_BLOCKS])

        return give

    def taker(self) -> Callable[[], int]:
        get = self.queue().get

        def take() -> int:
            ref = get()
            nbytes: int = ref.nbytes
            ref.release()
            return nbytes

        return take


class Idle(OwnPool):
    """Waiters of three kinds: on an empty queue, on a frame cache lent out, on a silent stream."""

    def __init__(self) -> None:
        super().__init__()
        frames = self.frames()
        self.lent: Any = [frames.acquire(timeout=5.0) for _ in range(frames.count)]

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in super().__getstate__().items() if key != "lent"}

    def frames(self) -> Any:
        return self.pool.frames("camera", shape=(64, 64), dtype="uint8", count=2)

    def waiter(self, number: int) -> Callable[[], object]:
        if number % 3 == 0:
            return self.pool.queue("jobs", maxsize=16).get
        if number % 3 == 1:
            return self.frames().acquire
        return self.pool.stream("events", depth=16, policy="lossy").subscribe().get

    def close(self) -> None:
        self.lent = None
        super().close()
