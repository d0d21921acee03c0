"""A stream: every subscriber gets every message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, TypeAlias

from onecopy._core.arguments import Elsewhere, choice, integer, without_elsewhere
from onecopy._core.current import default_member
from onecopy._core.kinds import Kind
from onecopy._core.lookup import check_matches, open_or_create
from onecopy._core.shared import Closable, rebuild
from onecopy._core.typevars import T
from onecopy._native import StreamBase, SubscriptionBase, own_methods
from onecopy._typed.later import bind, described, typed_by
from onecopy.errors import OneCopyError

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from onecopy._aio.channels import AioStream, AioSubscription
    from onecopy._codec.copy_mode import CopyMode
    from onecopy._core.until_made import Wait
    from onecopy._native import Hold, Member
    from onecopy._typed.plan import Typed

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
_EXISTS = 1, 0  # the arguments that an existing stream does not need


@own_methods
class Subscription(SubscriptionBase[T]):
    """The object by which a process receives from a stream; `Stream.subscribe` makes it.

    It is an iterator. A loop over it waits for each message. The loop ends when the stream was shut
    down and all messages are read, or when the subscription is closed. It is also a context
    manager, which closes it. A subscription belongs to the process that made it: it cannot be
    pickled, and a forked child must subscribe itself.

    Notes
    -----
    When a process dies, its subscriptions end: a lossless stream does not wait for it.

    Examples
    --------
    >>> pool = oc.Pool("studio", size="64MiB")
    >>> stream = pool.stream("newest", policy="latest")
    >>> subscription = stream.subscribe()
    >>> for number in range(3):
    ...     stream.publish(number)
    >>> subscription.get(timeout=10), subscription.missed
    (2, 2)
    >>> with stream.subscribe() as another:  # closed at the end of the block
    ...     another.get()
    2
    >>> stream.shutdown()
    >>> list(subscription)
    []
    >>> subscription.close()
    """

    if not TYPE_CHECKING:
        recv = Elsewhere("subscription.get()")
        get_nowait = Elsewhere("subscription.get(timeout=0)")
        __dir__ = without_elsewhere

    def __init__(self) -> None:
        raise TypeError("a Subscription is made by Stream.subscribe, not by calling the class")

    @property
    def aio(self) -> AioSubscription[T]:
        """`get` as a coroutine, and ``async for obj in subscription.aio``; see docs/asyncio.md."""
        from onecopy._aio.channels import AioSubscription

        return AioSubscription(self)

    def __enter__(self) -> Self:
        """Return the subscription."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def __repr__(self) -> str:
        try:
            state = "closed" if self.closed else f"{self.missed} missed"
        except OneCopyError:
            state = "closed"
        return f"<onecopy.Subscription, {state}>"

    def __reduce__(self) -> NoReturn:
        """Raise: a subscription cannot be pickled."""
        raise TypeError(
            "a subscription belongs to the process that made it, so it cannot be pickled or "
            "copied: send the stream, and call its subscribe() in the other process"
        )


@own_methods
class Stream(Closable, StreamBase[T]):
    """A stream of objects to any number of subscribers, in this and other processes.

    ``Stream(depth, policy)`` makes a stream in the default pool. `Pool.stream` makes or opens a
    stream in any pool. A stream is pickled by reference.

    Parameters
    ----------
    depth : int, optional
        How many messages the stream keeps, with their arrays and frames. Default: 16, and 2 with
        the policy "latest".
    policy : {"lossy", "lossless", "latest"}, optional
        What happens to a subscriber that falls more than `depth` messages behind.

        lossy
            It misses the oldest messages. `Subscription.missed` counts them.
        lossless
            The publisher waits for it, as long as the subscriber's process lives.
        latest
            `Subscription.get` always returns the newest message. Skipped messages count as missed.

    Raises
    ------
    ValueError
        There is no such policy, or the depth is not between 1 and 1,048,576.
    PoolFull
        There is no room for the stream.

    Examples
    --------
    >>> pool = oc.Pool("studio", size="64MiB")
    >>> stream = pool.stream("pictures", depth=8)
    >>> first, second = stream.subscribe(), stream.subscribe()
    >>> stream.publish({"number": 0, "picture": pool.zeros((480, 640), np.uint8)})
    >>> first.get()["number"], second.get()["picture"].shape  # one picture, no copy
    (0, (480, 640))
    >>> stream.latest()["number"], stream.subscribers, stream.published
    (0, 2, 1)
    >>> stream.shutdown()  # the loops of all subscribers end
    >>> stream.detach()  # this process has it no more; other processes keep it
    >>> pool.stream("pictures").close()  # the same; calls of this object raise Closed
    """

    _shown_as = "Stream"  # also if it is of a subclass
    _typed: Typed | None = None  # the type that this process has passed
    if not TYPE_CHECKING:
        put = Elsewhere("stream.publish(obj)")
        get = Elsewhere("stream.subscribe().get(), or stream.latest()")
        __dir__ = without_elsewhere

    def __init__(self, depth: int | None = None, policy: Policy = DEFAULT_POLICY) -> None:
        index = _checked_policy(policy)
        depth = default_depth(index) if depth is None else _checked_depth(depth)
        self._attach(None, default_member(), depth, index, None)

    def _attach(self, hold: Hold | None, member: Member, *state: Any) -> None:
        depth, policy, typed = state or (*_EXISTS, None)
        schema = None if typed is None or hold is not None else typed.text
        StreamBase.__init__(self, hold, member, depth, policy, schema)
        bind("stream", self._name, self, typed)
        if typed is not None:
            self._typed = typed

    def _state(self) -> tuple[Any, ...]:
        return () if self._typed is None else (*_EXISTS, self._typed)

    def _opener(self) -> tuple[Any, ...]:
        return (_rebuild,)  # it arrives as a stream also if the class is a subclass

    def _describe(self) -> str:
        return f", {self.policy}, depth {self.depth}"

    @property
    def schema(self) -> str | None:
        """The type of the messages as text, or None if the stream takes any object.

        It is the type that `Pool.stream` was given by the process that made the stream: for example
        ``"Frame(id: int, image: uint8[480, 640, 3])"``.
        """
        return described(self)

    @property
    def aio(self) -> AioStream[T]:
        """`publish` as a coroutine: ``await stream.aio.publish(obj)``; see docs/asyncio.md."""
        from onecopy._aio.channels import AioStream

        return AioStream(self)

    @property
    def policy(self) -> Policy:  # type: ignore[override]  # the core has numbers for them
        """What happens to a subscriber that falls behind: "lossy", "lossless" or "latest"."""
        return POLICIES[super().policy]

    def subscribe(self, history: int = 0, copy: CopyMode = None) -> Subscription[T]:
        """Start to receive messages.

        Parameters
        ----------
        history : int, optional
            How many earlier messages are received first, oldest first. There are at most `depth` of
            them, or fewer if fewer were published. 0: the first message is the next one that is
            published. With the policy "latest" the first message is always the newest one.
        copy : {None, False, True, "on_write"}, optional
            How arrays are received, in a loop over the subscription and by `Subscription.get`
            without its own `copy`. "on_write": writable and private; a page is copied when you
            write to it. True: writable and private; all arrays are copied at once. Default:
            read-only, in place.

        Returns
        -------
        Subscription
            A subscription of this process. It ends when it is closed, or when the process ends.

        Raises
        ------
        ValueError
            `history` is negative, or `copy` is not one of these values.
        OneCopyError
            The stream has 64 subscriptions already.
        Closed
            The stream was closed in this process.
        """
        history = integer("history", history)
        if history < 0:
            raise ValueError(f"history={history}: it is a number of messages, 0 or more")
        return self._subscribe(Subscription, min(history, _DEEPEST), copy)

    def close(self) -> None:
        """Release the stream in this process, as `Queue.close` and `Frames.close` do.

        Later calls of this object raise `Closed`. Closing twice does nothing. Other processes keep
        the stream. Subscriptions of this process continue, too.

        If this process has published through this object, `close` also shuts the stream down, as
        the end of a writer closes a pipe: subscribers in every process read the remaining messages,
        and then get `ShutDown`. `shutdown` does this without closing.
        """
        if self._has_published:
            self.shutdown()
        self.detach()

    def _repr_html_(self) -> str | None:
        """Return a table for notebooks, with the newest message, as a picture if it has one."""
        from onecopy._core.cards import card, preview

        try:
            rows = [
                ("policy", self.policy),
                ("depth", f"{self.depth:,}"),
                ("published", f"{self.published:,}"),
                ("subscribers", f"{self.subscribers:,}"),
            ]
        except OneCopyError:
            return None
        try:
            newest = preview(self.latest())
        except Exception:  # noqa: BLE001 - there is none yet, or this process cannot rebuild it
            newest = ""
        return card(self._label(), rows, newest)


def open_stream(
    member: Member,
    name: str | None,
    depth: int | None,
    policy: str | None,
    type: Any = None,  # noqa: A002 - the parameter of `Pool.stream`
    wait: Wait = False,
) -> Stream:
    """Make or open a stream; see `Pool.stream`."""
    if depth is not None:
        depth = _checked_depth(depth)
    index = _checked_policy(DEFAULT_POLICY if policy is None else policy)
    typed = typed_by(type)

    def make(hold: Hold | None) -> Stream:
        fresh = default_depth(index) if depth is None else depth
        stream: Stream = Stream._open(hold, member, name, fresh, index, typed)
        if hold is not None:
            check_matches("stream", name, "depth", depth, stream.depth)
            check_matches("stream", name, "policy", policy, stream.policy)
        return stream

    return open_or_create(member, Kind.STREAM, name, make, wait=wait)


def default_depth(policy: int) -> int:
    """Return how many messages a stream keeps by default.

    With the policy "latest" a stream needs only the newest message, and one that is being written.
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


def _rebuild(*place: Any) -> Stream:
    return rebuild(Stream, *place)
