"""Why a pool does not move: which process waits for which, in words.

A chain begins at a thread that waits, and follows what it waits for from process to process. It
ends at processes that do not wait in the pool: at a stopped or dead one, or at one that does
something else. Or it comes back to a process that it has passed: then it is a cycle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from onecopy.observer.blockers import Blocked, blocked_by
from onecopy.observer.words import duration, joined, process_name, several

if TYPE_CHECKING:
    from onecopy.observer.records import PoolSnapshot, ProcessView, WaitView

__all__ = ["Chain", "Culprit", "Fault", "explain", "headline"]

Fault: TypeAlias = Literal["stopped", "dead", "cycle", "holds", "could", "itself", "nobody"]
_FARTHEST = 32  # processes in one chain
_ORDER: tuple[Fault, ...] = ("dead", "stopped", "cycle", "itself", "holds", "nobody", "could")


@dataclass(frozen=True, slots=True)
class Culprit:
    """A process at the end of a chain.

    Attributes
    ----------
    pid : int
        The process; 0: there is none.
    slot : int or None
        Its slot in the pool.
    fault : str
        "stopped", "dead", "cycle" (it waits for itself through others), "itself" (it waits for what
        it has itself), "holds" (it has what others wait for, and does not wait in the pool),
        "could" (it could end the wait, and does not wait in the pool), "nobody" (no process can end
        the wait).
    text : str
        A sentence about it.
    """

    pid: int
    slot: int | None
    fault: Fault
    text: str


@dataclass(frozen=True, slots=True)
class Chain:
    """A wait, and what it stands on.

    Attributes
    ----------
    text : str
        The chain in words.
    pids : tuple of int
        The processes that wait in it, from the first one.
    seconds : float
        How long the first one has waited.
    culprits : tuple of Culprit
        Where it ends, the most certain cause first.
    """

    text: str
    pids: tuple[int, ...]
    seconds: float
    culprits: tuple[Culprit, ...]


def explain(pool: PoolSnapshot, longer_than: float = 0.0) -> list[Chain]:
    """Explain which processes wait, and for which.

    Parameters
    ----------
    pool : PoolSnapshot
        What an observer has seen.
    longer_than : float, optional
        Shorter waits, in seconds, are left out.

    Returns
    -------
    list of Chain
        Those with a certain cause first, then the longest waits first. A chain that is a part of
        another one is left out.
    """
    graph = _Graph(pool, longer_than)
    chains: list[tuple[Chain, set[int]]] = []
    alike = graph.alike()
    starts = [
        (process, waits)
        for process in pool.processes
        if process.state != "dead" and process.slot not in alike
        for waits in graph.groups(process)
    ]
    for process, waits in starts:
        chain = graph.follow(process, waits)
        chains.append(chain)
    kept: list[tuple[Chain, set[int]]] = []
    for chain in sorted(chains, key=lambda each: (-len(each[1]), -each[0].seconds)):
        if not any(chain[1] <= other[1] for other in kept):
            kept.append(chain)
    return sorted((chain for chain, _ in kept), key=_importance)


def _importance(chain: Chain) -> tuple[int, float]:
    first = _ORDER.index(chain.culprits[0].fault) if chain.culprits else len(_ORDER)
    return first, -chain.seconds


def _same(wait: WaitView) -> tuple[str, int | None, str]:
    return wait.why, None if wait.thing is None else wait.thing.index, wait.part


class _Graph:
    def __init__(self, pool: PoolSnapshot, longer_than: float) -> None:
        self.pool = pool
        self.longer_than = longer_than
        self._groups: dict[int, list[list[WaitView]]] = {}  # by slot
        self._waiting: dict[object, list[tuple[ProcessView, list[WaitView]]]] = {}
        for process in pool.processes:
            if process.state != "dead":
                for waits in self.groups(process):
                    self._waiting.setdefault(_same(waits[0]), []).append((process, waits))

    def groups(self, process: ProcessView) -> list[list[WaitView]]:
        """Return the waits of a process; those of threads that wait for the same are together."""
        known = self._groups.get(process.slot)
        if known is not None:
            return known
        found: dict[object, list[WaitView]] = {}
        for wait in process.waits:
            if wait.seconds >= self.longer_than:
                found.setdefault(_same(wait), []).append(wait)
        groups = self._groups[process.slot] = list(found.values())
        return groups

    def waiting_for_the_same(self, wait: WaitView) -> list[tuple[ProcessView, list[WaitView]]]:
        """Return the processes that wait for the same, with these waits; dead ones are left out."""
        return self._waiting.get(_same(wait), [])

    def alike(self) -> set[int]:
        """Return slots of processes whose chain is the same as that of one that waits longer.

        They wait for the same and for nothing else, and are not what the other one waits for. With
        hundreds of idle workers this saves nearly all the time.
        """
        found: set[int] = set()
        for waiting in self._waiting.values():
            only = [each for each in waiting if len(self.groups(each[0])) == 1]
            # What a wait for frames or memory stands on differs from process to process.
            if len(only) < 2 or only[0][1][0].why in {"frame", "memory"}:
                continue
            first, waits = max(only, key=lambda each: max(wait.seconds for wait in each[1]))
            slots = {each.slot for each in blocked_by(self.pool, first, waits[0]).by}
            if first.slot not in slots:
                found |= {each.slot for each, _ in only if each.slot not in slots} - {first.slot}
        return found

    def follow(self, process: ProcessView, waits: list[WaitView]) -> tuple[Chain, set[int]]:
        """Follow a chain; with it, what identifies each of its waits."""
        walk = _Walk(self)
        walk.visit(process, waits, path=())
        if not walk.culprits and len(walk.pids) > 1:
            walk.parts.append("each of these processes waits for another one of them")
            for slot in dict.fromkeys(walk.slots):
                member = self.pool.process(slot)
                if member is not None:
                    walk.blame(member, "cycle", f"{process_name(member)} is in the cycle.")
        culprits = sorted(walk.culprits.values(), key=lambda each: _ORDER.index(each.fault))
        if any(each.fault not in {"could", "nobody"} for each in culprits):
            certain = tuple(each for each in culprits if each.fault != "could")
        else:
            certain = tuple(culprits)
        seconds = max(wait.seconds for wait in waits)
        text = "; ".join(walk.parts)
        return Chain(
            text[0].upper() + text[1:] + ".", tuple(walk.pids), seconds, certain
        ), walk.seen | walk.mentioned


class _Walk:
    """One chain on its way."""

    def __init__(self, graph: _Graph) -> None:
        self.graph = graph
        self.parts: list[str] = []
        self.pids: list[int] = []
        self.slots: list[int] = []
        self.seen: set[int] = set()  # waits that were followed: `id` of the record
        self.mentioned: set[int] = set()  # waits of others for the same
        self.culprits: dict[tuple[int | None, Fault], Culprit] = {}

    def blame(self, process: ProcessView | None, fault: Fault, text: str) -> None:
        slot = None if process is None else process.slot
        pid = 0 if process is None else process.pid
        self.culprits.setdefault((slot, fault), Culprit(pid, slot, fault, text))

    def visit(
        self,
        process: ProcessView,
        waits: list[WaitView],
        path: tuple[int, ...],
        background: bool = False,
    ) -> None:
        """Describe the wait of a process, and visit those that it waits for.

        That nobody can end a wait of a thread in the background is no cause.
        """
        blocked = blocked_by(self.graph.pool, process, waits[0])
        self.seen |= {id(wait) for wait in waits}
        self.pids.append(process.pid)
        self.slots.append(process.slot)
        peers = self._peers(process, waits[0])
        self.parts.append(_sentence(process, waits, blocked, peers))
        if process.state == "stopped":
            self.parts.append(f"{process_name(process)} is stopped")
            self.blame(process, "stopped", _stopped(process))
        path = (*path, process.slot)
        if not blocked.by:
            if (
                process.state != "stopped"
                and not blocked.reason.startswith("it ")
                and not background
            ):
                self.blame(None, "nobody", _by_nobody(blocked))
            return
        for blocker in blocked.by:
            self._look_at(blocker, blocked, path)

    def _peers(self, process: ProcessView, wait: WaitView) -> list[ProcessView]:
        """Return the other processes that wait for the same, and note that they were named."""
        found = []
        own = {process.slot, *self.slots}
        for other, waits in self.graph.waiting_for_the_same(wait):
            if other.slot in own:
                continue
            ids = [id(each) for each in waits]
            if any(each in self.seen or each in self.mentioned for each in ids):
                continue
            self.mentioned.update(ids)
            self.pids.append(other.pid)
            found.append(other)
            if other.state == "stopped":
                self.blame(other, "stopped", _stopped(other))
        return found

    def _look_at(self, process: ProcessView, blocked: Blocked, path: tuple[int, ...]) -> None:
        name = process_name(process)
        if process.state == "dead":
            if process.slot not in path:
                self.parts.append(f"{name} is dead")
            text = f"{name} is dead, and not cleaned up yet."
            return self.blame(process, "dead", text)
        if process.state == "stopped" and process.slot not in path:
            self.parts.append(f"{name} is stopped")
            self.blame(process, "stopped", _stopped(process))
            return None
        if process.slot in path:
            return self._come_back(process, blocked, path)
        groups = self.graph.groups(process)
        main_waits = any(wait.thread == process.pid for waits in groups for wait in waits)
        fresh = [each for each in groups if not self.seen & {id(wait) for wait in each}]
        if len(path) < _FARTHEST:
            for waits in fresh:
                self.visit(process, waits, path, background=not main_waits)
        if main_waits:
            return None
        # A thread in the background may wait all the time: that explains nothing.
        who = f"the main thread of {name}" if groups else name
        text = f"{who} does not wait in the pool{self._for_a_child(process, path)}."
        if blocked.surely:
            text = f"{blocked.reason}; {text}"
        fault: Fault = "holds" if blocked.surely else "could"
        return self.blame(process, fault, text[0].upper() + text[1:])

    def _for_a_child(self, process: ProcessView, path: tuple[int, ...]) -> str:
        """Say that a process may wait for a worker that it has started, and that waits for it."""
        for slot in path:
            child = self.graph.pool.process(slot)
            if (
                child is not None
                and child.parent_pid == process.pid
                and child.same_namespace
                and process.same_namespace
            ):
                child_name = process_name(child)
                return f"; it has started {child_name}, and may wait for it in another way"
        return ""

    def _come_back(self, process: ProcessView, blocked: Blocked, path: tuple[int, ...]) -> None:
        if not blocked.surely and len(blocked.by) > 1:
            return None  # another process could end the wait
        name = process_name(process)
        ring = path[path.index(process.slot) :]
        if len(set(ring)) == 1:
            return self._itself(process, blocked, path)
        self.parts.append(f"so {name} waits for itself: this is a cycle")
        for slot in ring:
            member = self.graph.pool.process(slot)
            if member is not None:
                self.blame(member, "cycle", f"{process_name(member)} is in the cycle.")
        return None

    def _itself(self, process: ProcessView, blocked: Blocked, path: tuple[int, ...]) -> None:
        """Continue with the other threads of a process, if one of them may have it."""
        groups = self.graph.groups(process)
        fresh = [each for each in groups if not self.seen & {id(wait) for wait in each}]
        if blocked.threads and fresh and len(path) < _FARTHEST:
            for waits in fresh:
                self.visit(process, waits, path)
            return None
        if blocked.threads and process.state == "stopped":
            return None  # it is blamed for that already
        if blocked.threads and blocked.surely and len(path) == 1:
            text = f"{blocked.reason}, and that thread does not wait in the pool."
            return self.blame(process, "holds", f"{process_name(process)}: {text}")
        name = process_name(process)
        self.parts.append(f"{name} waits for itself")
        return self.blame(
            process, "itself", f"{name} waits for what it has itself: {blocked.reason}."
        )


def _by_nobody(blocked: Blocked) -> str:
    kept = f"; {blocked.reason}" if blocked.surely and blocked.reason else ""
    return f"No process is known that could end this: {blocked.subject}{kept}."


def _stopped(process: ProcessView) -> str:
    return (
        f"{process_name(process)} is stopped, by a signal or a debugger; "
        f"`kill -CONT {process.pid}` continues it."
    )


def _sentence(
    process: ProcessView, waits: list[WaitView], blocked: Blocked, peers: list[ProcessView]
) -> str:
    seconds = max(wait.seconds for wait in waits)
    threads = f", in {several(len(waits), 'thread')}," if len(waits) > 1 else ""
    name = process_name(process)
    if blocked.role != "process" or process.same_namespace:  # else the name has this word
        name = f"{blocked.role} {name}"
    text = f"{name}{threads} has waited {duration(seconds)} for {blocked.subject}"
    if peers:
        names = [process_name(each) for each in peers[:4]]
        if len(peers) > 4:
            names.append(f"{len(peers) - 4} others")
        verb = "waits" if len(peers) == 1 else "wait"
        text += f", and {joined(names)} {verb} for it too"
    return f"{text}; {blocked.reason}" if blocked.reason else text


def headline(pool: PoolSnapshot) -> list[str]:
    """Return what is to be said of the whole pool.

    Parameters
    ----------
    pool : PoolSnapshot
        What an observer has seen.

    Returns
    -------
    list of str
        Sentences; none if there is nothing special.
    """
    said = []
    dead = [each for each in pool.processes if each.state == "dead"]
    if pool.corrupt:
        said.append("The pool is marked corrupt: no process can use it any more.")
    if not pool.processes:
        said.append("No process is a member of the pool.")
    elif len(dead) == len(pool.processes):
        end = "" if pool.persistent else " `onecopy gc` removes the pool."
        said.append(f"All processes of the pool are dead.{end}")
    for process in dead:
        for wait in process.waits:
            what = blocked_by(pool, process, wait).subject
            said.append(f"{process_name(process)} is dead. When it died, it waited for {what}.")
    names = [process_name(each) for each in pool.processes if each.state == "stopped"]
    if names:
        said.append(f"{joined(names)} {'is' if len(names) == 1 else 'are'} stopped.")
    return said
