"""Finding the file of a pool by its name or path, and making it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from onecopy._core import membership, paths, stale
from onecopy._core.arguments import flag, integer
from onecopy._core.default_size import default_size
from onecopy._core.limits import machine_memory, memory_limit
from onecopy._core.places import MOST_PROCESSES
from onecopy._core.sizes import format_size, is_size
from onecopy.errors import OneCopyError, PoolExists, PoolFull, PoolNotFound

if TYPE_CHECKING:
    from onecopy._native import Member

__all__ = ["is_readonly", "make_pool", "open_pool"]


def is_readonly(mode: str, known: tuple[str, ...]) -> bool:
    if mode not in known:
        raise ValueError(f"mode={mode!r}: it is one of {', '.join(map(repr, known))}")
    return mode == "r"


def open_pool(
    name: str | os.PathLike[str],
    backing: str | os.PathLike[str] = "shm",
    readonly: bool = False,
) -> Member:
    """Open the pool of a name; if there is none, open the file `backing` and give it the name."""
    path = os.fspath(backing)
    named = "/" in path and isinstance(name, str) and "/" not in name
    try:
        member = membership.open_file(*paths.locate(name), readonly=readonly)
    except PoolNotFound:
        if not named:
            raise
        member = membership.open_file(*paths.locate(path), readonly=readonly)
        _give_name(os.fspath(name), member.path)
        return member
    if named and member.path != "/".join(paths.locate(path)):
        raise OneCopyError(
            f"pool {name!r} is in {member.path}, but this call has backing={path!r}; "
            "leave backing out to use the existing pool, or use another name"
        )
    return member


def _give_name(name: str, path: str) -> None:
    """Give a name to a pool in a file."""
    stale.prepare(paths.pool_directory())
    if not paths.give_name(name, path):
        raise PoolExists(
            f"the name {name!r} stands for another pool ({'/'.join(paths.locate(name))}). "
            f"The pool in {path} exists: open it by its path, or under another name"
        )


def make_pool(
    name: str | os.PathLike[str] | None,
    size: int | None,
    backing: str | os.PathLike[str],
    max_processes: int,
    mode: int,
    persistent: bool,
    prefault: bool,
) -> Member:
    """Make the file of a pool, at the place that `backing` names."""
    max_processes = integer("max_processes", max_processes)
    flag("persistent", persistent)
    flag("prefault", prefault)
    if not 1 <= max_processes <= MOST_PROCESSES:
        raise ValueError(
            f"max_processes={max_processes}: it must be between 1 and {MOST_PROCESSES}"
        )
    _check_mode(mode)
    backing = os.fspath(backing)
    memfd = backing == "memfd"
    nickname: str | None = None
    if name is not None:
        _check_free(name)
        if size is None and is_size(name):
            raise ValueError(
                f"{name!r} is a size, and was passed as the name of a pool: write "
                f"Pool.create(size={name!r}), or pass a size too, if this really is the name"
            )
    if "/" in backing:
        if name is not None:
            nickname = os.fspath(name)
            if "/" in nickname:
                raise ValueError(
                    f"a pool in the file {backing!r} may have a name, but a name has no slash: "
                    f"{nickname!r}"
                )
            stale.prepare(paths.pool_directory())
            if os.path.lexists("/".join(paths.place(nickname))):
                raise PoolExists(
                    f"pool {nickname!r} exists already; open it, or choose another name"
                )
        name = backing
        persistent = True
    elif backing not in {"shm", "memfd"}:
        raise ValueError(
            f"backing={backing!r}: it must be 'shm', 'memfd', or a path (with a slash in it)"
        )
    directory, filename = paths.place(name or f"anon-{os.urandom(8).hex()}")
    if name is not None and "/" in os.fspath(name) and size is None:
        raise ValueError(f"size is missing: a pool at a path ({directory}/{filename}) needs one")
    if size is None:
        size = default_size()
    if directory == paths.pool_directory():
        stale.prepare(directory)
    elif not os.path.isdir(directory):  # noqa: PTH112 - pathlib is not loaded for this
        import errno

        raise FileNotFoundError(
            errno.ENOENT,
            f"the directory for the pool's file {filename!r} does not exist; make it first",
            directory,
        )
    if "/" not in backing:
        memfd = _checked_memory(directory, size, memfd)
    member = membership.create(
        directory,
        filename,
        capacity=size,
        max_processes=max_processes,
        mode=mode,
        persistent=persistent,
        memfd=memfd,
        prefault=prefault,
    )
    if nickname is not None:
        _give_name(nickname, member.path)
    return member


def _check_mode(mode: object) -> None:
    if isinstance(mode, int) and mode | 0o066 == 0o666:
        return
    raise ValueError(
        f"mode={oct(mode) if isinstance(mode, int) else repr(mode)}: the mode of a pool's file "
        "is 0o600, and bits of 0o066 for other users (0o640: the group may read, 0o660: the group "
        "may also write, 0o666: all users may read and write). The owner must be able to read and "
        "write, and no user can execute the file"
    )


def _check_free(name: str | os.PathLike[str]) -> None:
    """Refuse a name that stands for a pool elsewhere. If that pool is gone, free the name."""
    target = paths.signpost(name)
    if target is None:
        return
    if os.path.lexists(target):
        raise PoolExists(
            f"pool {name!r} exists already, in the file {target}; open it, or choose another name"
        )
    paths.forget_path(target)


def _checked_memory(directory: str, size: int, memfd: bool) -> bool:
    """Refuse a size that the machine does not have; return whether the pool must be a memfd."""
    machine = machine_memory()
    if size > machine and size > machine + _swap():
        raise PoolFull(
            f"a pool of {format_size(size)} can never fit: this machine has {format_size(machine)} "
            "of memory. For data larger than memory, give a path on disk as backing"
        )
    group = memory_limit()
    if group is not None and size > group.limit:
        import logging

        logging.getLogger("onecopy").warning(
            "a pool of %s is larger than the memory that this process may use: %s. The pool is "
            "full when that limit is reached",
            format_size(size),
            group,
        )
    if memfd or directory != paths.pool_directory():
        return memfd
    chosen = "ONECOPY_DIR" in os.environ
    system = os.statvfs(directory)
    free = system.f_bavail * system.f_frsize
    if size <= free and (chosen or paths.has_dev_shm()):
        return False
    why = (
        f"{directory} has {format_size(free)} free, less than the {format_size(size)} of the pool"
        if chosen or paths.has_dev_shm()
        else "this process cannot write to /dev/shm"
    )
    import logging

    logging.getLogger("onecopy").warning(
        "%s; so its memory is a memfd, which only the memory limit of this process restricts",
        why,
    )
    return True


def _swap() -> int:
    """Return the size of the swap space in bytes."""
    with open("/proc/meminfo", encoding="ascii") as lines:  # noqa: PTH123 - pathlib is not loaded for this
        for line in lines:
            if line.startswith("SwapTotal:"):
                return int(line.split()[1]) * 1024
    return 0
