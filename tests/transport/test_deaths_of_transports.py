"""Exporters and importers that are killed, forked and late; each kind of process."""

import os
import pickle
import signal
import socket

import children
import forks
import numpy as np
import pytest

import onecopy as oc

MIB = 1 << 20
HALF = MIB // 2


def data(value=7):
    return np.full(MIB, value, "u1")


class Peer:
    """A forked process at the other end of a socket pair; it follows `function(pool, socket)`."""

    def __init__(self, pool, function):
        self.socket, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                signal.alarm(60)  # a watchdog
                self.socket.close()
                function(pool, theirs)
                status = 0
            finally:
                os._exit(status)
        theirs.close()
        self.lines = self.socket.makefile("rb")

    def say(self, message):
        self.socket.sendall(pickle.dumps(message))

    def hear(self):
        return pickle.load(self.lines)

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        self.end()

    def end(self):
        os.waitpid(self.pid, 0)
        self.lines.close()
        self.socket.close()


@pytest.fixture
def peer(pool):
    peers = []

    def peer(function):
        peers.append(Peer(pool, function))
        return peers[-1]

    yield peer
    for one in peers:
        if one.socket.fileno() >= 0:
            one.kill()


def exports(pool, its):
    """Send places, and stay until told to release them."""
    lines = its.makefile("rb")
    places, lease = pool.export([data(), data()[:HALF]], threshold=1)
    its.sendall(pickle.dumps(places))
    pickle.load(lines)
    lease.release()
    its.sendall(pickle.dumps("released"))
    pickle.load(lines)


def imports(pool, its):
    """Import places in the way that is asked for; stay."""
    lines = its.makefile("rb")
    places, writable = pickle.load(lines)
    views = pool.import_(places, writable=writable)
    if writable == "private":
        np.frombuffer(views[0], "u1")[:HALF] = 1
    its.sendall(pickle.dumps([view[-1] for view in views]))
    pickle.load(lines)


def is_empty(pool):
    pool.collect()
    return pool.stats().blocks == 0


@pytest.mark.parametrize("writable", ["readonly", "private"])
def test_the_importer_keeps_what_the_exporter_releases(pool, peer, writable):
    exporter = peer(exports)
    views = pool.import_(exporter.hear(), writable=writable)
    exporter.say("release")
    assert exporter.hear() == "released"
    exporter.kill()
    pool.collect()
    assert views[0] == data().data
    assert views[1] == data()[:HALF].data
    del views
    assert is_empty(pool)


def test_the_exporter_dies_before_the_import(pool, peer):
    exporter = peer(exports)
    places = exporter.hear()
    exporter.kill()
    pool.collect()
    with pytest.raises(oc.StaleRef):
        pool.import_(places)
    assert pool.stats().blocks == 0
    assert pool.validate() == []


def test_the_exporter_dies_and_its_memory_is_used_again(pool, peer):
    exporter = peer(exports)
    places = exporter.hear()
    exporter.kill()
    pool.collect()
    kept = [pool.full(MIB, 9, "u1") for _ in range(8)]
    for place in places:
        with pytest.raises(oc.StaleRef):
            pool.import_([place], writable="private")
    del kept
    assert is_empty(pool)


def test_nobody_has_noticed_the_death_yet(pool, peer):
    """The bit of the dead exporter still holds the block: the place is valid, and right."""
    exporter = peer(exports)
    places = exporter.hear()
    exporter.kill()
    views = pool.import_(places)
    pool.collect()
    assert views[0] == data().data
    del views
    assert is_empty(pool)


@pytest.mark.parametrize("writable", ["readonly", "private"])
def test_the_importer_dies(pool, peer, writable):
    places, lease = pool.export([data(), data(8)])
    importer = peer(imports)
    importer.say((places, writable))
    assert importer.hear() == [7, 8]
    importer.kill()
    pool.collect()
    assert pool.import_(places)[0] == data().data
    lease.release()
    assert is_empty(pool)
    assert pool.validate() == []


def test_the_importer_dies_after_the_exporter_has_released(pool, peer):
    places, lease = pool.export([data()])
    importer = peer(imports)
    importer.say((places, "private"))
    importer.hear()
    lease.release()
    pool.collect()
    assert pool.stats().blocks == 1
    importer.kill()
    assert is_empty(pool)


def test_both_die(pool, peer):
    exporter, importer = peer(exports), peer(imports)
    places = exporter.hear()
    importer.say((places, "readonly"))
    importer.hear()
    exporter.kill()
    importer.kill()
    assert is_empty(pool)
    with pytest.raises(oc.StaleRef):
        pool.import_(places)


def test_a_private_write_of_another_process_is_not_seen(pool, peer):
    places, lease = pool.export([data()])
    importer = peer(imports)
    importer.say((places, "private"))
    importer.hear()
    assert pool.import_(places)[0] == data().data
    importer.kill()
    lease.release()


# ------------------------------------------------------------------------------------------- forks


def test_a_child_releases_its_inherited_lease(pool):
    places, lease = pool.export([data()])
    assert forks.in_child(lease.release) is None
    pool.collect()
    assert pool.import_(places)[0] == data().data


def test_a_child_keeps_what_its_parent_releases(pool, peer):
    places, lease = pool.export([data()])
    views = pool.import_(places, writable="private")

    def child(pool, its):
        lines = its.makefile("rb")
        pickle.load(lines)
        again, second = pool.export(views)
        assert second.copied == 0
        its.sendall(pickle.dumps((views[0][0], pool.import_(again)[0][-1])))
        pickle.load(lines)

    other = peer(child)
    lease.release()
    views.clear()
    pool.collect()
    other.say("go")
    assert other.hear() == (7, 7)
    other.kill()
    assert is_empty(pool)


def test_a_child_imports_what_its_parent_exported(pool):
    places, lease = pool.export([data()])

    def child():
        assert pool.import_(places, writable="private")[0] == data().data
        lease.release()

    assert forks.in_child(child) is None


# ---------------------------------------------------------------------------- each kind of process


def import_and_answer(pool, asked, answers):
    places = asked.get()
    assert pool.can_see(places[0][0])
    view, private = pool.import_(places)[0], pool.import_(places, writable="private")[0]
    private[0] = 1
    answers.put((bytes(view[:3]), bytes(private[:3]), pool.share()))
    asked.get()


def test_any_process_imports(pool, start, method):
    asked, answers = pool.queue("asked"), pool.queue("answers")
    child = start(method, import_and_answer, pool, asked, answers)
    places, lease = pool.export([data()])
    asked.put([tuple(place) for place in places])
    assert answers.get() == (b"\7\7\7", b"\1\7\7", HALF)
    assert pool.share(child.pid) == pool.share() == HALF
    asked.put("end")
    assert child.wait() == 0
    assert pool.share() == MIB
    lease.release()


def test_shares_add_up_to_what_is_held(pool, peer):
    """One block alone, one that two processes hold, one that only a name holds."""
    pool["kept"] = data()
    mine, (places, lease) = pool.zeros(2 * MIB, "u1"), pool.export([data()])
    importer = peer(imports)  # a fork: it has its own holds
    importer.say((places, "readonly"))
    importer.hear()
    held = {holder["pid"]: holder for holder in pool.member.holders()}
    assert pool.share() + pool.share(importer.pid) == mine.nbytes + MIB
    assert pool.share(importer.pid) == held[importer.pid]["share"]
    importer.kill()
    pool.collect()
    assert pool.share() == mine.nbytes + MIB
    assert pool.share(importer.pid) == 0
    lease.release()


def test_a_name_that_was_unlinked(pool, peer):
    """Members still exchange places."""
    pool.unlink()
    exporter = peer(exports)
    assert pool.import_(exporter.hear())[0] == data().data


def test_many_deaths(pool, peer):
    for round_number in range(10):
        exporter, importer = peer(exports), peer(imports)
        places = exporter.hear()
        importer.say((places, "private" if round_number % 2 else "readonly"))
        first, second = (exporter, importer) if round_number % 3 else (importer, exporter)
        first.kill()  # at any instant of the other
        second.kill()
    children.eventually(lambda: is_empty(pool), "the pool to be empty")
    assert pool.validate() == []
