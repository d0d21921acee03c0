"""tools/native_layers.py finds the kernel's functions outside of native/os, and nothing else."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

TOOL = runpy.run_path(str(Path(__file__).resolve().parents[2] / "tools" / "native_layers.py"))


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("    if (::open(name, flags) < 0) return;", ["open"]),
        ("int n = ::close(a) + ::read(b, c, d) + ::write(b, c, d);", ["close", "read", "write"]),
        ("return ::unlink(name) == 0;", ["unlink"]),
        ("const pid_t child = fork();", ["fork"]),
        ("poll(&each, 1, 0); ioctl(fd, what);", ["poll", "ioctl"]),
        (
            "if (stat(path, &s) != 0 || rename(a, b) != 0) mkdir(a, 0700);",
            ["stat", "rename", "mkdir"],
        ),
        ("void* all = mmap(nullptr, n, 0, 0, fd, 0);", ["mmap"]),
        ("struct stat s{};  // stat() of it", []),
        ("file.close(); m->read(fd); Segment::open(x); os::fork(); os::poll(a);", []),
        ("Status Queue::open(Member& m) noexcept { return close(); }", []),
        ('m.def("unlink", [](T& o) { return result(unlink(o)); });', []),
        ("s = decltype(fresh->sync)::open(a);", []),
        ("std::unlink_all(a); onecopy::write(b); List<int>::read(c);", []),
    ],
)
def test_calls_of_the_kernel(tmp_path: Path, line: str, found: list[str]) -> None:
    source = tmp_path / "a.cpp"
    source.write_text(f"{line}\n", encoding="utf-8")
    assert [name for _, name in TOOL["calls"](source)] == found


def test_the_core_keeps_to_its_layers() -> None:
    assert TOOL["main"]() == 0
