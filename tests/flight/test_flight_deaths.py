"""Clients and servers that are killed, stopped or forked in the middle of a fetch."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading

import children
import forks
import numpy as np
import programs
import pytest

import onecopy as oc

pytest.importorskip("pyarrow.flight")
from onecopy.flight import fetching

SIZE = 20_000_000  # bytes: several batches


def fetch_and_stop(url, there, begun):
    """Begin a fetch, and stop in it."""
    pieces = fetching._pieces

    def only_one(reader, nbytes):
        yield next(pieces(reader, nbytes))
        begun.set()
        signal.pause()

    fetching._pieces = only_one
    oc.fetch(url, pool=there)


def serve_and_stop(here, urls, begun):
    """Serve an array, and stop in the middle of it."""
    from onecopy.flight import contents

    pieces = contents._pieces

    def only_one(flat):
        yield next(pieces(flat))
        begun.set()
        threading.Event().wait()

    contents._pieces = only_one
    server = oc.serve(here)
    urls.put(server.ticket(np.ones(SIZE, "u1")))
    signal.pause()


def test_a_client_that_is_killed_in_a_fetch_leaves_nothing(server, here, there, start):
    url, begun = server.ticket(np.ones(SIZE, "u1"), fetches=1), there.event("begun")
    before = children.used(there)
    client = start("stranger", fetch_and_stop, url, there, begun)
    assert begun.wait(children.LIMIT)
    assert there.stats().used - before >= SIZE
    client.kill()
    there.collect()
    assert there.stats().used == before
    assert there.validate() == []
    # the fetch failed, so it does not count
    children.eventually(lambda: fetches_again(url, there), "the server to notice")
    children.eventually(lambda: children.used(here) == 0, "the ticket to end")
    assert here.validate() == []


def fetches_again(url, pool):
    try:
        return bool(oc.fetch(url, pool=pool).get().all())
    except oc.StaleRef:
        return False


def test_a_server_that_is_killed_in_a_fetch_leaves_nothing(here, there, start):
    urls, begun = here.queue("urls"), here.event("begun")
    before = children.used(here)
    server = start("stranger", serve_and_stop, here, urls, begun)
    url, errors = urls.get(timeout=children.LIMIT), []

    def fetch():
        try:
            oc.fetch(url, pool=there)
        except ConnectionError as error:
            errors.append(str(error))

    thread = threading.Thread(target=fetch)
    thread.start()
    assert begun.wait(children.LIMIT)
    server.kill()
    thread.join(children.LIMIT)
    assert not thread.is_alive()
    [error] = errors
    assert "has ended during the fetch" in error
    gc.collect()
    there.collect()
    assert there.stats().used == 0
    here.collect()
    assert here.stats().used == before
    assert there.validate() == here.validate() == []


def serve_and_fork(here, urls, begun):
    """As `serve_and_stop`, with a child that has all descriptors and outlives the server."""
    from onecopy.flight import contents

    def none(flat):
        begun.set()
        threading.Event().wait()
        yield from ()

    contents._pieces = none
    server = oc.serve(here)
    urls.put(server.ticket(np.ones(SIZE, "u1")))
    begun.wait()
    child = os.fork()
    if child == 0:
        signal.pause()
    urls.put(child)
    signal.pause()


def test_a_child_of_the_server_does_not_hide_its_death(here, there, start):
    urls, begun = here.queue("urls"), here.event("begun")
    server = start("stranger", serve_and_fork, here, urls, begun)
    url, errors = urls.get(timeout=children.LIMIT), []

    def fetch():
        try:
            oc.fetch(url, pool=there, timeout=children.LIMIT)
        except (ConnectionError, TimeoutError) as error:
            errors.append(error)

    thread = threading.Thread(target=fetch)
    thread.start()
    child = urls.get(timeout=children.LIMIT)
    try:
        server.kill()
        thread.join()
        assert [type(error) for error in errors] == [ConnectionError]
        with pytest.raises(ConnectionError):
            oc.fetch(url, pool=there, timeout=children.LIMIT)
    finally:
        os.kill(child, signal.SIGKILL)


def refused(call):
    try:
        call()
    except RuntimeError as error:
        return "spawn" in str(error)
    return False


def try_all(server, url, pool):
    assert server.closed
    assert len(server) == 0
    for call in (
        lambda: server.ticket(b"x"),
        lambda: server.release(url),
        lambda: oc.serve(pool),
        lambda: oc.fetch(url, pool=pool),
    ):
        assert refused(call)
    server.close()


def test_a_forked_child_can_neither_serve_nor_fetch(server, here, there):
    url = server.ticket(np.ones(1000))
    assert forks.in_child(try_all, server, url, there) is None
    assert forks.in_child(forks.in_child, try_all, server, url, there) is None
    assert not server.closed
    assert oc.fetch(url, pool=there).get().all()


def test_the_child_of_a_client_cannot_fetch():
    status, errors = programs.run(
        """
        pool = oc.Pool.create(size="16MiB")
        for expected in (3, 4):
            child = os.fork()
            if child == 0:
                signal.alarm(20)
                try:
                    oc.fetch("grpc://127.0.0.1:1/x", pool=pool)
                except ConnectionError:
                    sys.exit(3)  # there was no client before
                except RuntimeError:
                    sys.exit(4)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == expected
            try:
                oc.fetch("grpc://127.0.0.1:1/x", pool=pool)
            except ConnectionError:
                pass
        """,
        holding=False,
    )
    assert (status, errors) == (0, "")


def test_a_fork_in_the_middle_of_a_fetch(server, there, monkeypatch):
    """The fetch fails in the child, which calls gRPC no more, and continues in the parent."""
    url = server.ticket(np.ones(SIZE, "u1"))
    pieces, reports = fetching._pieces, []

    def with_a_fork(reader, nbytes):
        for number, piece in enumerate(pieces(reader, nbytes)):
            if number == 1:
                reports.append(forks.in_child(lambda: refused(lambda: next(rest(reader))) or 1 / 0))
            yield piece

    def rest(reader):
        return pieces(reader, SIZE)

    monkeypatch.setattr(fetching, "_pieces", with_a_fork)
    assert oc.fetch(url, pool=there).get().all()
    assert reports == [None]


def test_a_forked_child_ends_as_usual_and_so_does_a_program_with_a_server():
    status, errors = programs.run(
        """
        pool = oc.Pool.create(size="16MiB")
        server = oc.serve(pool)
        url = server.ticket(np.ones(1000))
        other = oc.Pool.create(size="16MiB")
        assert oc.fetch(url, pool=other).get().all()
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            sys.exit(7)  # with destructors and all
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert oc.fetch(url, pool=other).get().all()
        """,
        holding=False,
    )
    assert (status, errors) == (0, "")
    assert programs.left() == []


def serve_bytes(here, texts):
    with oc.serve(here) as own, oc.Pool.create(size="16MiB") as other:
        texts.put(oc.fetch(own.ticket(b"mine"), pool=other).get())


@pytest.mark.parametrize("way", ["spawn", "forkserver"])
def test_a_child_that_is_not_forked_may_serve_by_itself(server, here, start, way):
    texts = here.queue("texts")
    assert start(way, serve_bytes, here, texts).wait() == 0
    assert texts.get(timeout=children.LIMIT) == b"mine"


def test_a_client_that_stops_does_not_keep_a_server_open(here, there, start):
    server = oc.serve(here)
    url, begun = server.ticket(np.ones(3 * SIZE // 2, "u1")), there.event("begun")
    start("stranger", fetch_and_stop, url, there, begun)
    assert begun.wait(children.LIMIT)
    server.close(timeout=0.05)
    children.eventually(lambda: children.used(here) == 0, "its memory to be free")


def test_a_server_that_does_not_end_does_not_keep_close_from_returning():
    """Neither does the program hang at its end."""
    status, errors = programs.run(
        """
        from onecopy.flight import contents, server as servers

        begun, servers._LIMIT = threading.Event(), 0.2

        def never(flat):
            begun.set()
            threading.Event().wait()
            yield

        contents._pieces = never
        pool, other = oc.Pool.create(size="16MiB"), oc.Pool.create(size="16MiB")
        server = oc.serve(pool)
        url, failures = server.ticket(np.ones(1000)), []

        def fetch():
            try:
                oc.fetch(url, pool=other)
            except ConnectionError as error:
                failures.append(error)

        thread = threading.Thread(target=fetch)
        thread.start()
        begun.wait()
        server.close(timeout=0.05)
        thread.join()
        assert len(failures) == 1 and server.closed
        """,
        holding=False,
    )
    assert (status, errors) == (0, "")


def test_importing_the_package_does_not_load_arrow():
    program = (
        "import onecopy, sys; onecopy.serve, onecopy.fetch; sys.exit('pyarrow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
