"""A control group with less memory than the pool: a full pool is an error; no process is killed."""

import errno
import logging
import os
from pathlib import Path

import pytest
from cgroups import limited
from programs import Running

import onecopy as oc
from onecopy import _native
from onecopy._core import default_size, limits, pool_files, segments
from onecopy._core.limits import memory_limit
from onecopy.multiprocessing.shared_memory import SharedMemory

MB = 1 << 20


class Machine:
    """A made-up /proc, and control groups in `tmp_path`."""

    def __init__(self, where: Path) -> None:
        self.proc, self.groups = where / "proc", where / "groups and more"
        (self.proc / "self").mkdir(parents=True)
        self.swap(0)

    def swap(self, free: int) -> None:
        (self.proc / "meminfo").write_text(f"MemFree:  1 kB\nSwapFree:   {free // 1024} kB\n")

    def mounts(self, *lines: tuple[str, str, str]) -> None:
        """Each entry: what it shows, the path below `groups`, the file system with its options."""
        text = "22 1 0:20 / / rw shared:1 - ext4 /dev/root rw\n"
        for number, (root, point, kind) in enumerate(lines, 30):
            there = str(self.groups / point).rstrip("/").replace(" ", "\\040")
            system, _, options = kind.partition(" ")
            text += f"{number} 22 0:{number} {root} {there} rw,nosuid shared:9 - "
            text += f"{system} {system} rw{options}\n"
        (self.proc / "self/mountinfo").write_text(text)

    def process(self, text: str) -> None:
        (self.proc / "self/cgroup").write_text(text)

    def group(self, path: str, **files: str | int) -> Path:
        there = self.groups / path
        there.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (there / name.replace("__", ".", 1)).write_text(f"{content}\n")
        return there

    def v2(self, path: str, limit: int | str, used: int, **more: str | int) -> Path:
        return self.group(path, memory__max=limit, memory__current=used, **more)

    def v1(self, path: str, limit: int, used: int, **more: str | int) -> Path:
        return self.group(path, memory__limit_in_bytes=limit, memory__usage_in_bytes=used, **more)

    def found(self) -> tuple[str, int, int, int] | None:
        """Return group, limit, used and free space in megabytes, without the margin subtracted."""
        limit = memory_limit(str(self.proc))
        if limit is None:
            return None
        room = limit.room + min(limit.limit // 16, 64 * MB) if limit.room else 0
        group = os.path.relpath(limit.group, self.groups)
        return group, limit.limit // MB, limit.used // MB, room // MB


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


NO_LIMIT_V1 = 9223372036854771712


class TestFinding:
    def test_version_2(self, machine):
        machine.mounts(("/", "", "cgroup2"))
        machine.process("0::/jobs/mine\n")
        machine.v2("jobs/mine", 300 * MB, 100 * MB)
        assert machine.found() == ("jobs/mine", 300, 100, 200)

    def test_version_1(self, machine):
        machine.mounts(("/", "cpu", "cgroup ,cpu"), ("/", "memory", "cgroup ,memory"))
        machine.process("3:cpu:/other\n2:memory:/docker/abc\n1:name=systemd:/\n")
        machine.v1("memory/docker/abc", 300 * MB, 100 * MB)
        assert machine.found() == ("memory/docker/abc", 300, 100, 200)

    def test_hybrid_the_hierarchy_with_the_controller_counts(self, machine):
        machine.mounts(("/", "unified", "cgroup2"), ("/", "memory", "cgroup ,memory"))
        machine.process("2:memory:/a\n0::/b\n")
        machine.group("unified/b")
        machine.v1("memory/a", 300 * MB, 100 * MB)
        assert machine.found() == ("memory/a", 300, 100, 200)

    @pytest.mark.parametrize(
        ("outer", "inner", "found"),
        [
            ((500, 450), (300, 100), ("outer", 500, 450, 50)),
            ((500, 200), (300, 100), ("outer/inner", 300, 100, 200)),
            ((300, 100), ("max", 100), ("outer", 300, 100, 200)),
            (("max", 100), ("max", 100), None),
        ],
    )
    def test_the_tightest_of_nested_groups(self, machine, outer, inner, found):
        machine.mounts(("/", "", "cgroup2"))
        machine.process("0::/outer/inner\n")
        for path, (limit, used) in (("outer", outer), ("outer/inner", inner)):
            machine.v2(path, limit if limit == "max" else limit * MB, used * MB)
        assert machine.found() == found

    def test_version_1_tells_of_groups_above_that_cannot_be_seen(self, machine):
        machine.mounts(("/pod", "memory", "cgroup ,memory"))
        machine.process("2:memory:/pod\n")
        stat = f"cache 5\nhierarchical_memory_limit {300 * MB}\ntotal_active_file 0"
        machine.v1("memory", NO_LIMIT_V1, 100 * MB, memory__stat=stat)
        assert machine.found() == ("memory", 300, 100, 200)

    def test_an_old_group_that_does_not_count_what_is_below_it(self, machine):
        machine.mounts(("/", "memory", "cgroup ,memory"))
        machine.process("2:memory:/outer/inner\n")
        machine.v1("memory/outer", 100 * MB, 0, memory__use_hierarchy=0)
        machine.v1("memory/outer/inner", 300 * MB, 0)
        assert machine.found() == ("memory/outer/inner", 300, 0, 300)

    @pytest.mark.parametrize(
        ("root", "group", "found"),
        [
            ("/", "/", "."),  # a namespace, and a mount made in it
            ("/docker/abc", "/docker/abc", "."),  # the host's paths, and the paths of the container
            ("/docker/abc", "/docker/abc/mine", "mine"),
            ("/../..", "/../..", "."),  # both above the namespace
            ("/..", "/../mine", "mine"),
            ("/docker/abc", "/docker/abcd", None),  # another container
            ("/", "/../..", None),  # outside of the mounted part
            ("/", "/../mine", None),
            ("/..", "/../../mine", None),
        ],
    )
    def test_namespaces(self, machine, root, group, found):
        machine.mounts((root, "", "cgroup2"))
        machine.process(f"0::{group}\n")
        machine.v2("", 300 * MB, 0)
        machine.v2("mine", 200 * MB, 0)
        assert (machine.found() or (None,))[0] == found

    @pytest.mark.parametrize(
        ("version", "names"), [(2, ("", "")), (1, ("total_", "memory."))], ids=["v2", "v1"]
    )
    def test_what_the_kernel_can_drop_is_not_in_use(self, machine, version, names):
        machine.mounts(("/", "", "cgroup2" if version == 2 else "cgroup ,memory"))
        machine.process("0::/a\n" if version == 2 else "9:memory:/a\n")
        files = f"inactive_file {MB}\nactive_file {MB}"
        if version == 1:
            files += f"\ntotal_inactive_file {30 * MB}\ntotal_active_file {50 * MB}"
        else:
            files = f"shmem 7\ninactive_file {30 * MB}\nactive_file {50 * MB}"
        make = machine.v2 if version == 2 else machine.v1
        make("a", 300 * MB, 280 * MB, memory__stat=files)
        assert machine.found() == ("a", 300, 200, 100)

    @pytest.mark.parametrize(
        ("free", "most", "taken", "room"),
        [(0, "max", 0, 50), (100, "max", 0, 150), (100, 30 * MB, 20 * MB, 60), (100, 0, 0, 50)],
    )
    def test_swap(self, machine, free, most, taken, room):
        machine.mounts(("/", "", "cgroup2"))
        machine.process("0::/a\n")
        machine.swap(free * MB)
        more = {"memory__swap.max": most, "memory__swap.current": taken}
        machine.v2("a", 300 * MB, 250 * MB, **more)
        assert machine.found() == ("a", 300, 250, room)

    def test_swap_of_version_1_is_limited_together_with_memory(self, machine):
        machine.mounts(("/", "", "cgroup ,memory"))
        machine.process("9:memory:/a\n")
        machine.swap(100 * MB)
        more = {"memory__memsw.limit_in_bytes": 320 * MB, "memory__memsw.usage_in_bytes": 250 * MB}
        machine.v1("a", 300 * MB, 250 * MB, **more)
        assert machine.found() == ("a", 300, 250, 70)

    def test_nothing_is_known(self, machine):
        assert machine.found() is None
        machine.mounts(("/", "", "cgroup2"))
        assert machine.found() is None
        machine.process("garbage\n0::/a\n::\n")
        assert machine.found() is None
        machine.group("a", memory__max="nonsense", memory__current="nonsense")
        assert machine.found() is None
        machine.process("0::/" + "long/" * 1000 + "\n")
        assert machine.found() is None

    def test_a_margin_is_left_to_the_processes(self, machine):
        machine.mounts(("/", "", "cgroup2"))
        machine.process("0::/a\n")
        for limit, room in ((160, 150), (16 << 10, (16 << 10) - 64)):
            machine.v2("a", limit * MB, 0)
            assert memory_limit(str(machine.proc)).room == room * MB
        machine.v2("a", 100 * MB, 99 * MB)
        assert memory_limit(str(machine.proc)).room == 0


@pytest.fixture
def small(monkeypatch):
    """A group of 100 MiB, as the functions of the package see it."""
    group = limits.MemoryLimit(100 * MB, 40 * MB, 50 * MB, "/groups/mine")
    for module in (default_size, pool_files, segments, limits):
        monkeypatch.setattr(module, "memory_limit", lambda: group)
    return group


def test_the_default_size_follows_the_group(small, monkeypatch):
    monkeypatch.delenv("ONECOPY_POOL_SIZE")
    assert default_size.default_size() == 50 * MB


def test_a_pool_that_is_larger_than_the_limit_is_made_and_says_so(small, caplog):
    with caplog.at_level(logging.WARNING, "onecopy"), oc.Pool.create(size="200MiB") as pool:
        pool.zeros(100)
    (line,) = caplog.messages
    assert "200.0 MiB" in line
    assert str(small) in line


def _refuse(_size, _persistent):
    raise OSError(errno.ENOMEM, "reserve its memory")


def test_a_segment_beyond_the_limit_is_refused_with_the_reason(small, monkeypatch):
    """The core refuses it, with an errno; here is the reason. `test_shared_memory` has both."""
    monkeypatch.setattr(_native, "NewSegment", _refuse)
    with pytest.raises(oc.PoolFull, match=r"60\.0 MiB: the memory limit of the control group /gro"):
        SharedMemory(create=True, size=60 * MB)


def test_a_small_segment_is_refused_with_the_reason(small, monkeypatch):
    """The group's room may have changed since the core looked: the errno says what was full."""
    monkeypatch.setattr(_native, "NewSegment", _refuse)
    with pytest.raises(oc.PoolFull, match=r"100 B: the memory limit of the control group /gro"):
        SharedMemory(create=True, size=100)


# ------------------------------------------------------------------------------- the kernel's own

FILL = """
from onecopy._core.limits import memory_limit
from onecopy.multiprocessing.shared_memory import SharedMemory
group = memory_limit()
assert group.group.count("onecopy-test-"), group
made = []
try:
    while True: made.append(make())
except oc.PoolFull as full: said = str(full)
"""
AFTERWARDS = """
assert 100 <= 8 * len(made) < 200, len(made)
assert group.group in said and "200.0 MiB" in said, said
assert all(array[-1] == 7 for array in made)
assert pool.validate() == []
del made
pool.collect()
pool.full(100 << 20, 1, "u1")
"""


@pytest.mark.one_in(3)
@pytest.mark.parametrize("inside", [(), (1 << 40,)], ids=["its own limit", "the limit above"])
@pytest.mark.parametrize("backing", ["shm", "memfd"])
def test_a_pool_larger_than_the_group(backing, inside):
    with limited(200 * MB, *inside) as within:
        run(
            within,
            f"pool = oc.Pool.create(size='1GiB', backing={backing!r})\n"
            "make = lambda: pool.full(8 << 20, 7, 'u1')\n" + FILL + AFTERWARDS,
        )


def test_the_tables_of_a_pool():
    with limited(64 * MB) as within:
        run(
            within,
            "pool = oc.Pool.create(size='4GiB')\n"
            "lists = pool.list()\n"
            "made = []\n"
            "try:\n"
            "    while True: lists.extend([5] * 10_000)\n"
            "except oc.PoolFull: pass\n"
            "assert len(lists) > 10_000\n"
            "lists.clear(); assert pool.validate() == []\n",
        )


def test_prefault():
    with limited(200 * MB) as within:
        run(
            within,
            "try: oc.Pool.create(size='300MiB', prefault=True)\n"
            "except oc.PoolFull as full:\n"
            "    assert 'may use 200 MiB' in str(full) and 'onecopy-test-' in str(full), full\n"
            "else: assert False\n"
            "oc.Pool.create(size='100MiB', prefault=True).close()\n",
        )


def test_memory_of_a_file_on_disk_is_not_the_groups(tmp_path):
    if oc.Pool.create(tmp_path / "p", size="1MiB").member.in_memory:
        pytest.skip(f"{tmp_path} is in memory")
    with limited(64 * MB) as within:
        run(
            within,
            f"pool = oc.Pool.create({str(tmp_path / 'large')!r}, size='256MiB')\n"
            "made = [pool.full(8 << 20, 7, 'u1') for _ in range(16)]\n"
            "assert all(array[-1] == 7 for array in made)\n",
        )


def test_the_default_pool():
    environment = {name: text for name, text in os.environ.items() if name != "ONECOPY_POOL_SIZE"}
    with limited(200 * MB) as within:
        run(within, "assert oc.default_pool().size == 100 << 20", environment)


def test_shared_memory():
    with limited(200 * MB) as within:
        run(
            within,
            "from onecopy.multiprocessing.shared_memory import SharedMemory\n"
            "made = []\n"
            "try:\n"
            "    while True: made.append(SharedMemory(create=True, size=30 << 20))\n"
            "except oc.PoolFull as full: assert 'onecopy-test-' in str(full), full\n"
            "assert 3 <= len(made) < 7, len(made)\n"
            "for each in made: each.close(); each.unlink()\n",
        )


def run(within, text, environment=None):
    program = Running(
        "import logging; logging.getLogger('onecopy').setLevel(logging.ERROR)\n" + text,
        holding=False,
        inside=within,
        environment=environment,
    )
    status, stderr = program.end()
    assert (status, stderr) == (0, ""), (status, stderr)
