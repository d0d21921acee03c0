"""Check how the native core is layered; part of `make lint`.

Two rules, which native/README.md states:

* A file includes only from its own folder, or from folders to its left in `ORDER`.
* Headers of the kernel and of the C library's system calls are included in `os/` only, and their
  functions called there only, whatever header declares them.

`EXCEPTIONS` lists what breaks a rule today, so that no new case is added. An exception that is not
needed any more is an error, too: remove it.

Usage: python tools/native_layers.py
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

NATIVE = Path(__file__).resolve().parents[1] / "native"

# Folders that stand together do not know each other.
ORDER = (
    ("base",),
    ("os",),
    ("layout",),
    ("sync",),
    ("storage",),
    ("segment", "shareable"),
    ("heap",),
    ("body",),
    ("queue",),
    ("directory", "stream", "frames", "locks"),
    ("containers",),
    ("recovery", "observer"),
    ("structures",),
    ("bindings", "tests"),
)
# Knows no structure: what it does to one goes through the table in body/structures.hpp.
KNOW_NO_STRUCTURE = {"base", "os", "layout", "sync", "storage", "segment", "heap", "body"}
ONLY = {"recovery": KNOW_NO_STRUCTURE, "observer": KNOW_NO_STRUCTURE}
FREE = {"os", "tests"}  # may include the kernel's headers
KERNEL = re.compile(
    r"(sys|linux|asm)/.*|(unistd|fcntl|sched|dirent|signal|poll|pthread|time|dlfcn|semaphore)\.h"
)
# Functions whose names no function of the core has, and (in the second part) functions whose names
# methods of the core have, too. Of those only `::name(` is certainly the kernel's.
CALL = re.compile(
    r"(?<![\w.>:])(?:::)?(fcntl|flock|fstat|fstatat|statx|openat|unlinkat|linkat|renameat2?|fchmod"
    r"|ftruncate|fallocate|posix_fallocate|pread|pwrite|dup2|memfd_create|futimens|mmap|munmap"
    r"|madvise|mprotect|mincore|msync|syscall|getpid|getppid|geteuid|getuid|gettid|kill|getrandom"
    r"|nanosleep|usleep|clock_gettime|sysconf|getrlimit|sigfillset|sched_\w+|pthread_\w+"
    r"|v?fork|p?poll|epoll_\w+|eventfd|ioctl|l?stat|rename|mkdir|rmdir|chmod|f?chown|access"
    r"|faccessat|symlink|readlink|lseek|f(?:data)?sync|pipe2?|dup3?|waitpid|waitid|pidfd_\w+)\("
    r"|(?<![\w>:)])::(open|close|read|write|link|unlink|truncate|select|send|recv|signal|raise)\("
)
EXCEPTIONS: set[tuple[str, str]] = set()  # (folder, folder) or (file, header)


def includes(path: Path) -> list[tuple[int, str, bool]]:
    """List what a file includes: line, name, and whether it is one of ours."""
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        match = re.match(r'\s*#\s*include\s+(?:"([^"]+)"|<([^>]+)>)', line)
        if match:
            found.append((number, match[1] or match[2], match[1] is not None))
    return found


def calls(path: Path) -> list[tuple[int, str]]:
    """List the calls of the kernel in a file: line and function. Comments are not looked at."""
    text = path.read_text(encoding="utf-8")
    return [
        (number, match[1] or match[2])
        for number, line in enumerate(text.splitlines(), 1)
        for match in CALL.finditer(line.partition("//")[0])
    ]


def main() -> int:
    """Check all files; give the exit status."""
    level = {folder: number for number, row in enumerate(ORDER) for folder in row}
    needed = set()
    wrong = []
    for path in sorted([*NATIVE.rglob("*.cpp"), *NATIVE.rglob("*.hpp")]):
        name = path.relative_to(NATIVE).as_posix()
        folder = name.partition("/")[0]
        if folder not in level:
            wrong.append(f"{name}: the folder stands in no row of ORDER")
            continue
        for line, included, ours in includes(path):
            other = included.partition("/")[0]
            if ours and other != folder:
                if other not in level:
                    wrong.append(f"{name}:{line}: {included}: no folder of ours")
                elif level[other] >= level[folder]:
                    needed.add((folder, other))
                    if (folder, other) not in EXCEPTIONS:
                        wrong.append(
                            f"{name}:{line}: {folder} includes {other}, which is not left of it"
                        )
                elif other not in ONLY.get(folder, level):
                    wrong.append(f"{name}:{line}: {folder} may not look at {other}")
            elif not ours and folder not in FREE and KERNEL.fullmatch(included):
                needed.add((name, included))
                if (name, included) not in EXCEPTIONS:
                    wrong.append(f"{name}:{line}: <{included}>: kernel headers belong into os/")
        if folder not in FREE:
            wrong += [
                f"{name}:{line}: {called}(): system calls are functions of os/"
                for line, called in calls(path)
            ]
    wrong += [f"EXCEPTIONS: nothing needs {pair} any more" for pair in EXCEPTIONS - needed]
    sys.stderr.writelines(f"{each}\n" for each in wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
