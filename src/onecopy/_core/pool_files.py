"""The file of a pool: how it is found by its name or path, and how it is made."""

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
    """Open the pool of a name, or the one in the file that is to have the name."""
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
            f"pool {name!r} is the one in {member.path}, and was asked for with backing={path!r}; "
            "leave backing out to take it as it is, or use another name"
        )
    return member


def _give_name(name: str, path: str) -> None:
    """Have a pool in a file found by a name."""
    stale.prepare(paths.pool_directory())
    if not paths.give_name(name, path):
        raise PoolExists(
            f"the name {name!r} stands for another pool ({'/'.join(paths.locate(name))}); "
            f"the pool in {path} is there, and is opened by its path, or under another name"
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
    """Make the file of a pool, where `backing` says."""
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
                f"Pool.create(size={name!r}), or give the pool that is to have this name a size too"
            )
    if "/" in backing:
        if name is not None:
            nickname = os.fspath(name)
            if "/" in nickname:
                raise ValueError(
                    f"a pool in the file {backing!r} may have a name without a slash besides, not "
                    f"the path {nickname!r}"
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
            f"backing={backing!r}: it is 'shm', 'memfd', or a path (with a slash in it)"
        )
    directory, filename = paths.place(name or f"anon-{os.urandom(8).hex()}")
    if name is not None and "/" in os.fspath(name) and size is None:
        raise ValueError(f"size: a pool at a path ({directory}/{filename}) needs one")
    if size is None:
        size = default_size()
    if directory == paths.pool_directory():
        stale.prepare(directory)
    elif not os.path.isdir(directory):  # noqa: PTH112 - pathlib is not loaded for this
        import errno

        raise FileNotFoundError(
            errno.ENOENT,
            f"no directory to make the pool's file {filename!r} in; make it first",
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
        f"mode={oct(mode) if isinstance(mode, int) else repr(mode)}: a pool's file has mode 0o600, "
        "and of 0o066 what other users may do (0o640: a group reads it, 0o660: it writes too, "
        "0o666: everybody does). No bit lets anybody execute it, for it is data, and its owner "
        "always reads and writes it"
    )


def _check_free(name: str | os.PathLike[str]) -> None:
    """Refuse a name that leads to a pool elsewhere; free it if that pool is gone."""
    target = paths.signpost(name)
    if target is None:
        return
    if os.path.lexists(target):
        raise PoolExists(
            f"pool {name!r} exists already, in the file {target}; open it, or choose another name"
        )
    paths.forget_path(target)


def _checked_memory(directory: str, size: int, memfd: bool) -> bool:
    """Refuse what the machine cannot hold; tell whether the pool is to be a memfd."""
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
            "a pool of %s is larger than its process may fill: %s. It is full when that is used up",
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
        else "there is no /dev/shm here that may be written"
    )
    import logging

    logging.getLogger("onecopy").warning(
        "%s; its memory is a memfd instead, which counts against this process's memory limit only",
        why,
    )
    return True


def _swap() -> int:
    """Give the size of swap space in bytes."""
    with open("/proc/meminfo", encoding="ascii") as lines:  # noqa: PTH123 - pathlib is not loaded for this
        for line in lines:
            if line.startswith("SwapTotal:"):
                return int(line.split()[1]) * 1024
    return 0
