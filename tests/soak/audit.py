"""The account of a round: what was put, what arrived, and what has no explanation."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .ledger import Entry

_EVER = 1 << 62


@dataclass
class Counts:
    """The result of a soak. `WRONG` names the counts that must be 0."""

    rounds: int = 0
    processes: int = 0
    kills: int = 0
    stops: int = 0
    messages: int = 0  # that arrived from the queue
    excused: int = 0  # that were taken by a process that was killed before it could report it
    redelivered: int = 0
    broadcasts: int = 0  # that arrived at subscribers
    visits: int = 0
    additions: int = 0  # under the lock
    corrupt: int = 0
    lost: int = 0
    duplicated: int = 0
    disordered: int = 0
    leaked_bytes: int = 0
    leaked_files: int = 0
    invalid: int = 0  # findings of validate()
    failed: int = 0  # processes that did not end as they were asked to
    longest_stall: float = 0.0  # milliseconds
    stalled_in: str = ""
    notes: list[str] = field(default_factory=list)

    WRONG = (
        "corrupt",
        "lost",
        "duplicated",
        "disordered",
        "leaked_bytes",
        "leaked_files",
        "invalid",
        "failed",
    )

    def accuse(self, what: str, text: str, how_many: int = 1) -> None:
        """Count an error, and describe it."""
        setattr(self, what, getattr(self, what) + how_many)
        self.notes.append(f"{what}: {text}")

    @property
    def good(self) -> bool:
        """Tell whether nothing is wrong."""
        return not any(getattr(self, what) for what in self.WRONG)

    def table(self) -> str:
        """Return the counts as text, one on each line."""
        lines = []
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, float):
                value = f"{value:.1f} ms"
            if not isinstance(value, list):
                lines.append(f"  {each.name.replace('_', ' '):15} {value}")
        return "\n".join(lines)


class Account(NamedTuple):
    """What one process wrote, and when it was killed (None: it ended by itself).

    It did nothing after `killed`, and may have been dead from `doomed` on (None: from `killed` on):
    the killer itself may lose its core between the signal and its look at the clock.
    """

    role: str
    identity: int
    entries: list[Entry]
    killed: int | None
    doomed: int | None = None


class Pauses:
    """The times in which a process was stopped."""

    def __init__(self, intervals: Iterable[tuple[int, int]]) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in sorted(intervals):
            if self._ends and start <= self._ends[-1]:
                self._ends[-1] = max(self._ends[-1], end)
            else:
                self._starts.append(start)
                self._ends.append(end)

    def without(self, start: int, end: int) -> int:
        """Return the length of an interval, without the pauses in it."""
        length = end - start
        for index in range(bisect_left(self._ends, start), bisect_right(self._starts, end)):
            length -= max(0, min(end, self._ends[index]) - max(start, self._starts[index]))
        return length


def audit(counts: Counts, accounts: list[Account], pauses: Pauses, *, redeliver: bool) -> None:
    """Add a round to the counts. The queue must have been drained by one of the accounts."""
    for account in accounts:
        if account.role in {"producer", "publisher", "visitor", "locker"}:
            _stalls_of_steps(counts, account, pauses)
    _Queue(accounts).judge(counts, pauses, redeliver=redeliver)
    _judge_streams(counts, accounts)
    counts.visits += _happened(accounts, "visitor")
    counts.additions += _happened(accounts, "locker")


def additions(accounts: list[Account]) -> tuple[int, int]:
    """Return the smallest and the greatest number that lockers can have added."""
    lockers = [a for a in accounts if a.role == "locker"]
    begun = sum(sum(e.kind == "?" for e in a.entries) for a in lockers)
    return _happened(accounts, "locker"), begun


def _happened(accounts: list[Account], role: str) -> int:
    return sum(sum(e.kind == "!" for e in a.entries) for a in accounts if a.role == role)


def _stall(counts: Counts, nanoseconds: int, where: str) -> None:
    if nanoseconds / 1e6 > counts.longest_stall:
        counts.longest_stall, counts.stalled_in = nanoseconds / 1e6, where


def _stalls_of_steps(counts: Counts, account: Account, pauses: Pauses) -> None:
    begun: dict[int, int] = {}
    for entry in account.entries:
        if entry.kind == "?":
            begun[entry.numbers[0]] = entry.time
        elif entry.kind == "!":
            took = pauses.without(begun[entry.numbers[0]], entry.time)
            _stall(counts, took, f"{account.role} {account.identity}, step {entry.numbers[0]}")


# ------------------------------------------------------------------------------------------- queues


class _Question(NamedTuple):
    """A worker was killed after it asked, and before it reported what it got."""

    most: int
    asked: int
    killed: int


class _Taken(NamedTuple):
    worker: int
    asked: int
    got: int
    flagged: bool


class _Queue:
    def __init__(self, accounts: list[Account]) -> None:
        self.begun: dict[tuple[int, int], int] = {}  # message: when
        self.put: dict[tuple[int, int], int] = {}
        self.refused: set[tuple[int, int]] = set()
        self.taken: dict[tuple[int, int], list[_Taken]] = defaultdict(list)
        self.finishing: dict[tuple[int, int], list[int]] = defaultdict(list)  # message: workers
        self.finished: dict[tuple[int, int], list[int]] = defaultdict(list)  # message: when
        self.open: list[_Question] = []
        self.killed = {a.identity: a.killed for a in accounts}
        self.doomed = {a.identity: a.killed if a.doomed is None else a.doomed for a in accounts}
        self.disordered: list[str] = []
        for account in accounts:
            if account.role == "producer":
                self._read_producer(account)
            elif account.role == "worker":
                self._read_worker(account)

    def _read_producer(self, account: Account) -> None:
        for kind, numbers, when in account.entries:
            message = account.identity, numbers[0]
            if kind == "?":
                self.begun[message] = when
            elif kind == "!":
                self.put[message] = when
            else:
                self.refused.add(message)

    def _read_worker(self, account: Account) -> None:
        question: tuple[int, int] | None = None
        newest: dict[int, int] = {}
        for kind, numbers, when in account.entries:
            if kind == "?":
                question = numbers[0], when
            elif kind == ".":
                question = None
            elif kind == "g":
                producer, number, again = numbers
                assert question is not None
                self.taken[producer, number].append(
                    _Taken(account.identity, question[1], when, bool(again))
                )
                if not again and newest.get(producer, -1) >= number:
                    self.disordered.append(
                        f"worker {account.identity} got {number} of producer {producer} after "
                        f"{newest[producer]}"
                    )
                newest[producer] = max(number, newest.get(producer, -1))
            elif kind == "~":
                self.finishing[numbers[0], numbers[1]].append(account.identity)
            elif kind == "=":
                self.finished[numbers[0], numbers[1]].append(when)
        if question is not None and account.killed is not None:
            self.open.append(_Question(question[0], question[1], account.killed))

    def judge(self, counts: Counts, pauses: Pauses, *, redeliver: bool) -> None:
        for text in self.disordered:
            counts.accuse("disordered", text)
        for message, taken in self.taken.items():
            counts.messages += 1
            counts.redelivered += any(t.flagged for t in taken)
            if message not in self.begun or message in self.refused:
                what = "was refused" if message in self.begun else "was never put"
                counts.accuse("corrupt", f"message {message} arrived and {what}")
                continue
            if message in self.put and not taken[0].flagged:
                came = max(taken[0].asked, self.put[message])
                took = pauses.without(came, max(came, taken[0].got))
                _stall(counts, took, f"worker {taken[0].worker}, message {message}")
            if len(taken) > 1:
                self._judge_repeated(counts, message, sorted(taken, key=lambda t: t.got))
        if redeliver:
            for message in self.put.keys() - self.finished.keys():
                # Killed between "I finish" and "I finished": it may have finished the message last.
                if not any(self.killed.get(w) for w in self.finishing[message]):
                    counts.accuse("lost", f"message {message} was put and never finished")
        else:
            self._judge_missing(counts)

    def _judge_repeated(
        self, counts: Counts, message: tuple[int, int], taken: list[_Taken]
    ) -> None:
        for before, after in pairwise(taken):
            doomed = self.doomed.get(before.worker)
            if not after.flagged:
                counts.accuse("duplicated", f"message {message} came twice without the flag")
            elif doomed is None or doomed > after.got:
                counts.accuse("duplicated", f"message {message} came again while its taker lived")
        if any(done < taken[-1].asked for done in self.finished.get(message, [])):
            counts.accuse("duplicated", f"message {message} came again after it was finished")

    def _judge_missing(self, counts: Counts) -> None:
        missing = sorted(self.put.keys() - self.taken.keys())
        windows = [self._window(message) for message in missing]
        places = [question for question in self.open for _ in range(question.most)]
        reach = [
            [at for at, q in enumerate(places) if q.asked <= latest and earliest <= q.killed]
            for earliest, latest in windows
        ]
        owner: dict[int, int] = {}
        for index, message in enumerate(missing):
            if _augment(index, reach, owner, set()):
                counts.excused += 1
            else:
                counts.accuse("lost", f"message {message} was put and nobody can have it")

    def _window(self, message: tuple[int, int]) -> tuple[int, int]:
        """Return the earliest and the latest time at which the message can have left the queue."""
        producer, number = message
        earliest, latest = self.begun[message], _EVER
        for (who, other), taken in self.taken.items():
            if who == producer and other < number:
                earliest = max(earliest, taken[0].asked)
            elif who == producer and other > number:
                latest = min(latest, taken[0].got)
        return earliest, latest


def _augment(message: int, reach: list[list[int]], owner: dict[int, int], seen: set[int]) -> bool:
    """Find a place for a message; those that have one may have to move (Kuhn's algorithm)."""
    for place in reach[message]:
        if place in seen:
            continue
        seen.add(place)
        if place not in owner or _augment(owner[place], reach, owner, seen):
            owner[place] = message
            return True
    return False


# ------------------------------------------------------------------------------------------ streams


def _judge_streams(counts: Counts, accounts: list[Account]) -> None:
    published: dict[int, list[int]] = {}
    for account in accounts:
        if account.role == "publisher":
            published[account.identity] = [e.numbers[0] for e in account.entries if e.kind == "!"]
    begun = {
        (a.identity, e.numbers[0])
        for a in accounts
        if a.role == "publisher"
        for e in a.entries
        if e.kind == "?"
    }
    for account in accounts:
        if account.role == "subscriber":
            for lossless, received, missed in _subscriptions(account):
                _judge_subscription(counts, account, begun, published, lossless, received, missed)


def _subscriptions(account: Account):
    """Return (lossless, messages, missed or None) for each subscription."""
    lossless, received = False, []
    for entry in account.entries:
        if entry.kind == "?":
            lossless, received = bool(entry.numbers[0]), []
        elif entry.kind == "g":
            received.append(entry.numbers[:2])
        elif entry.kind == "m":
            yield lossless, received, entry.numbers[0]
            received = []
    if received:
        yield lossless, received, None


def _judge_subscription(
    counts: Counts,
    account: Account,
    begun: set[tuple[int, int]],
    published: dict[int, list[int]],
    lossless: bool,
    received: list[tuple[int, int]],
    missed: int | None,
) -> None:
    counts.broadcasts += len(received)
    by_publisher: dict[int, list[int]] = defaultdict(list)
    for publisher, number in received:
        if (publisher, number) not in begun or number % 2 == lossless:
            counts.accuse("corrupt", f"({publisher}, {number}) is not of this stream")
        by_publisher[publisher].append(number)
    gaps = []
    for publisher, numbers in by_publisher.items():
        if len(set(numbers)) < len(numbers):
            counts.accuse("duplicated", f"subscriber {account.identity}: {publisher} {numbers}")
        elif sorted(numbers) != numbers:
            counts.accuse("disordered", f"subscriber {account.identity}: {publisher} {numbers}")
        seen = set(numbers)
        gaps += [
            (publisher, number)
            for number in published[publisher]
            if numbers[0] < number < numbers[-1] and number % 2 != lossless and number not in seen
        ]
    if gaps and (lossless or (missed is not None and len(gaps) > missed)):
        counts.accuse(
            "lost",
            f"subscriber {account.identity} of the {'lossless' if lossless else 'lossy'} stream "
            f"did not see {gaps[:5]}, {len(gaps)} in all (missed={missed})",
            len(gaps),
        )
