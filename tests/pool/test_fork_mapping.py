"""What a forked child has mapped: what its parent had, and nothing of the parent's locks."""

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path
from textwrap import dedent

import pytest
from children import LIMIT, eventually, used
from programs import run

import onecopy as oc

pytestmark = pytest.mark.one_in(2)

# A library that maps a buffer in each child, before onecopy's handler runs there: one as large as
# what its parent has mapped of the pool, and one at the same address, if it is free.
LIBRARY = """
#define _GNU_SOURCE
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
static char *place, *buffers[2];
static size_t size;
static void get(int i, void *at, int flags) {
    char *p = mmap(at, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    buffers[i] = p == MAP_FAILED ? 0 : p;
    if (buffers[i]) memset(p, 0xAB, size);
}
static void child(void) {
    if (size == 0) return;
    get(0, 0, 0);
    get(1, place, MAP_FIXED_NOREPLACE);
}
__attribute__((constructor)) static void load(void) { pthread_atfork(0, 0, child); }
void watch(void *at, size_t bytes) { place = at; size = bytes; }
int intact(void) {
    for (int i = 0; i < 2; ++i)
        for (size_t at = 0; buffers[i] && at < size; at += 4096)
            if ((unsigned char)buffers[i][at] != 0xAB) return 0;
    return 1;
}
void use(void) { for (int i = 0; i < 2; ++i) if (buffers[i]) memset(buffers[i], 0xCD, size); }
"""


@pytest.mark.parametrize("backing", ["shm", "memfd", "file"])
@pytest.mark.parametrize("places", [4, 1])
def test_what_another_library_maps_in_the_child_is_not_replaced(tmp_path, backing, places):
    """In a child that becomes a member, and in one that does not."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("this machine has no C compiler")
    library = tmp_path / "library.so"
    (tmp_path / "library.c").write_text(LIBRARY)
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-pthread", "-o", library, tmp_path / "library.c"],
        check=True,
    )
    where = str(tmp_path / "on-disk") if backing == "file" else backing
    text = f"""
    import ctypes
    library = ctypes.CDLL({str(library)!r})  # its handler runs first: there is no pool yet
    pool = oc.Pool.create(size="32MiB", max_processes={places}, backing={where!r})
    array = pool.zeros(16 << 20, "u1")
    library.watch(ctypes.c_void_p(array.ctypes.data & ~4095), ctypes.c_size_t(4 << 20))
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if {places} > 1:
                array[0] = 5
                array[1] = pool.put([5]).get()[0]
            assert library.intact()
            library.use()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert array[:2].tolist() == ([5, 5] if {places} > 1 else [0, 0])
    assert not array[2:].any()
    assert pool.validate() == []
    """
    assert run(dedent(text), holding=False) == (0, "")


def forked(act):
    """Run a function in a child; return its pid."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(int(LIMIT))  # none runs on after a failed test
        try:
            act()
        finally:
            os._exit(0)
    return pid


@pytest.fixture(params=["shm", "memfd", "file"])
def place(request, tmp_path):
    """The arguments of `Pool.create` and `Pool.open` to make and find a pool."""
    if request.param == "file":
        path = str(tmp_path / "on-disk")
        return {"name": path}
    return {"name": "theirs", "backing": request.param}


@pytest.fixture
def pool(place):
    with oc.Pool.create(size="16MiB", **place) as pool:
        yield pool


@pytest.mark.parametrize("generations", [1, 3])
def test_a_parent_that_is_killed_is_dead_though_its_children_live(place, generations):
    """What they have inherited keeps none of its locks: its slot and objects are recovered.

    One family is that of the process that made the pool, the other that of a process that opened
    it: all the others inherit these mappings.
    """
    made, says = os.pipe()

    def head(get):
        pool = get()
        os.write(says, b"x")
        queue, go = pool.queue("here"), pool.queue("go")

        def family(left):
            kept = pool.full(100_000, left, "u1")  # which its children inherit
            queue.put((left, os.getpid(), pool.member.slot))
            if left:
                forked(lambda: family(left - 1))
                signal.pause()
            go.get(timeout=LIMIT)
            assert int(kept[0]) == 0

        family(generations)

    heads = {forked(lambda: head(lambda: oc.Pool.create(size="16MiB", **place)))}
    os.read(made, 1)
    heads.add(forked(lambda: head(lambda: oc.Pool.open(place["name"]))))
    os.read(made, 1)
    os.close(made)
    os.close(says)
    with oc.Pool.open(place["name"]) as pool:
        queue, go = pool.queue("here"), pool.queue("go")
        members = sorted(queue.get(timeout=LIMIT) for _ in range(2 * generations + 2))[::-1]
        assert pool.stats().processes == len(members) + 1
        for killed, (left, pid, slot) in enumerate(members, 1):
            if left == 0:
                break
            os.kill(pid, signal.SIGKILL)
            if pid in heads:
                os.waitpid(pid, 0)
            eventually(lambda pid=pid: ended(pid), "a child to be killed")
            pool.collect()
            assert pool.stats().processes == len(members) + 1 - killed
            assert slot not in {holder["slot"] for holder in pool.member.holders()}
        go.put_many([None, None])
        eventually(lambda: pool.stats().processes == 1, "the last of them to end")
        assert used(pool) == 0
        assert pool.validate() == []


def test_a_child_that_is_killed_is_dead_though_its_parent_lives(pool):
    queue = pool.queue()

    def child():
        kept = pool.full(100_000, 7, "u1")
        queue.put(pool.member.slot)
        signal.pause()
        del kept

    pid = forked(child)
    slot = queue.get(timeout=LIMIT)
    assert pool.stats().processes == 2
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    pool.collect()
    assert slot not in {holder["slot"] for holder in pool.member.holders()}
    assert (used(pool), pool.stats().processes) == (0, 1)
    assert pool.validate() == []


def test_the_mapping_carries_no_lock_and_no_descriptor(pool):
    """One descriptor per pool, and a child has no more mappings of it than its parent.

    The second mapping is a page that cannot be read. It keeps the locks of a lost descriptor.
    """
    queue = pool.queue()

    def seen():
        numbers = 0
        for link in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # the descriptor of the listing
                status = link.stat()
                numbers += (status.st_dev, status.st_ino) == pool.member.file
        lines = Path("/proc/self/maps").read_text(errors="replace").splitlines()
        places = [line.split()[:2] for line in lines if line.split()[4] == str(pool.member.file[1])]
        return numbers, places

    pid = forked(lambda: queue.put(seen()))
    numbers, places = queue.get(timeout=LIMIT)
    os.waitpid(pid, 0)
    assert (numbers, places) == seen()
    assert numbers == 1
    assert sorted(rights for _, rights in places) == ["---s", "rw-s"]


def ended(pid):
    """Tell whether a process has ended, also one that another process has to wait for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in {"Z", "X"}
    except FileNotFoundError:
        return True
