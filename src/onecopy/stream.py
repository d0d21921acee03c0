"""A stream: every subscriber sees every message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, TypeAlias

from onecopy._core.arguments import Elsewhere, choice, integer, without_elsewhere
from onecopy._core.current import default_member
from onecopy._core.keepalive import keep_for_child
from onecopy._core.kinds import Kind
from onecopy._core.lookup import check_matches, open_or_create
from onecopy._core.membership import handle_of, join
from onecopy._core.typevars import T
from onecopy._native import StreamBase, SubscriptionBase, own_methods
from onecopy.errors import OneCopyError

if TYPE_CHECKING:
    from typing import Self

    from onecopy._codec.copy_mode import CopyMode
    from onecopy._core.membership import PoolHandle
    from onecopy._native import Hold, Member
    from onecopy.pool import Pool

__all__ = [
    "DEFAULT_DEPTH",
    "DEFAULT_POLICY",
    "POLICIES",
    "Policy",
    "Stream",
    "Subscription",
    "open_stream",
]

Policy: TypeAlias = 'Literal["lossy", "lossless", "latest"]'
POLICIES: Final[tuple[Policy, ...]] = ("lossy", "lossless", "latest")
DEFAULT_DEPTH = 16
DEFAULT_POLICY: Final = "lossy"
_DEEPEST = 1 << 20


@own_methods
class Subscription(SubscriptionBase[T]):
    """What a process reads a stream with; made by `Stream.subscribe`.

    It is an iterator: a loop over it waits for each message, and ends when the stream was shut down
    and everything is read, or when the subscription is closed. It belongs to the process that made
    it: it cannot be pickled, and a forked child subscribes by itself.

    Notes
    -----
    A process that dies ends its subscriptions: a lossless stream does not wait for it.
    """

    if not TYPE_CHECKING:
        recv = Elsewhere("subscription.get()")
        get_nowait = Elsewhere("subscription.get(timeout=0)")
        __dir__ = without_elsewhere

    def __init__(self) -> None:
        raise TypeError("a Subscription is made by Stream.subscribe, not by calling the class")

    def __reduce__(self) -> NoReturn:
        """Refuse."""
        raise TypeError(
            "the subscription belongs to the process that made it, so it is neither pickled nor "
            "copied: send the stream, and subscribe again there"
        )


@own_methods
class Stream(StreamBase[T]):
    """A stream of objects to any number of subscribers, in this and other processes.

    ``Stream(depth, policy)`` makes one in the default pool; `Pool.stream` makes or opens one in any
    pool. It is pickled by reference.

    Parameters
    ----------
    depth : int, optional
        Messages that the stream keeps, and with them the arrays and frames in them. Default: 16,
        and 2 with the policy "latest".
    policy : {"lossy", "lossless", "latest"}, optional
        What happens to a subscriber that falls more than `depth` messages behind.

        lossy
            It misses the oldest ones; `Subscription.missed` counts them.
        lossless
            The publisher waits for it, as long as its process lives.
        latest
            `Subscription.get` always gives the newest message; those skipped count as missed.

    Raises
    ------
    ValueError
        There is no such policy, or the depth is not between 1 and 1,048,576.
    PoolFull
        There is no room for the stream.
    """

    _name: str | None = None
    if not TYPE_CHECKING:
        put = Elsewhere("stream.publish(obj)")
        get = Elsewhere("stream.subscribe().get(), or stream.latest()")
        __dir__ = without_elsewhere

    def __init__(self, depth: int | None = None, policy: Policy = DEFAULT_POLICY) -> None:
        index = _checked_policy(policy)
        depth = default_depth(index) if depth is None else _checked_depth(depth)
        super().__init__(None, default_member(), depth, index)

    @property
    def name(self) -> str | None:
        """The name by which `Pool.stream` opens it; None: it has none."""
        return self._name

    @property
    def policy(self) -> Policy:  # type: ignore[override]  # the core has numbers for them
        """What happens to a subscriber that falls behind: "lossy", "lossless" or "latest"."""
        return POLICIES[super().policy]

    def subscribe(self, history: int = 0, copy: CopyMode = None) -> Subscription[T]:
        """Begin to receive.

        Parameters
        ----------
        history : int, optional
            How many messages that were published before are received first, oldest first: at most
            `depth`, fewer if there are not so many. 0: the first message is the next one that is
            published. With the policy "latest" the first message is the newest one in any case.
        copy : {None, False, True, "on_write"}, optional
            How arrays are had, in a loop over the subscription and by `Subscription.get` that is
            told nothing else. "on_write": writable and private, and a page is copied when it is
            written. True: writable and private, and all of them are copied at once. Default:
            read-only, where they lie.

        Returns
        -------
        Subscription
            Of this process. It ends when it is closed or its process ends.

        Raises
        ------
        ValueError
            `history` is negative; `copy` is none of these.
        OneCopyError
            64 subscriptions are there already.
        ShutDown, OneCopyError
            The stream was closed in this process.
        """
        history = integer("history", history)
        if history < 0:
            raise ValueError(f"history={history}: it is a number of messages, 0 or more")
        return self._subscribe(Subscription, min(history, _DEEPEST), copy)

    def close(self) -> None:
        """Be done with the stream in this process, as `Queue.close` and `Frames.close`.

        Further calls of this object raise `Closed`. Closing twice does nothing. Other processes go
        on, and subscriptions of this process too.

        If this process has published through this object, nothing more comes: subscribers, in every
        process, read what is there and then get `ShutDown`, as readers of a pipe see its end.
        `shutdown` says so without closing.
        """
        if self._has_published:
            self.shutdown()
        self.detach()

    def __enter__(self) -> Self:
        """Use the stream in a block, and close it in this process at the end."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the stream in this process."""
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by reference."""
        keep_for_child(self)
        return _rebuild, (handle_of(self.member), self.handle, self._name)

    def __repr__(self) -> str:
        name = "" if self._name is None else f" {self._name!r}"
        try:
            return f"<onecopy.Stream{name}, {self.policy}, depth {self.depth}>"
        except OneCopyError:
            return f"<onecopy.Stream{name}, closed>"


def open_stream(pool: Pool, name: str | None, depth: int | None, policy: str | None) -> Stream:
    """Make or open a stream; see `Pool.stream`."""
    if depth is not None:
        depth = _checked_depth(depth)
    index = _checked_policy(DEFAULT_POLICY if policy is None else policy)
    member = pool.member

    def make(hold: Hold | None) -> Stream:
        fresh = default_depth(index) if depth is None else depth
        stream = _make(member, hold, fresh, index, name)
        if hold is not None:
            check_matches("stream", name, "depth", depth, stream.depth)
            check_matches("stream", name, "policy", policy, stream.policy)
        return stream

    return open_or_create(member, Kind.STREAM, name, make)


def default_depth(policy: int) -> int:
    """Tell how many messages a stream keeps if nobody says it.

    A stream of the newest message needs no more than that one, and one that is being written.
    """
    return 2 if POLICIES[policy] == "latest" else DEFAULT_DEPTH


def _checked_depth(depth: object) -> int:
    hint = f"write policy={depth!r}" if depth in POLICIES else ""
    number = integer("depth", depth, hint)
    if not 1 <= number <= _DEEPEST:
        raise ValueError(f"depth={number}: it must be between 1 and {_DEEPEST:,}")
    return number


def _checked_policy(policy: object) -> int:
    return choice("policy", policy, POLICIES)


def _make(member: Member, hold: Hold | None, depth: int, policy: int, name: str | None) -> Stream:
    stream = Stream.__new__(Stream)
    StreamBase.__init__(stream, hold, member, depth, policy)
    stream._name = name
    return stream


def _rebuild(pool: PoolHandle, handle: int, name: str | None) -> Stream:
    member = join(pool)
    return _make(member, member.hold(handle), 1, 0, name)
