"""Files that get their name when they are finished: a maker that is killed leaves nothing."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from onecopy import _native

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["NewFile"]


class NewFile:
    """A new file, which gets its name when it is complete. `close` removes it if it has no name.

    Some file systems have no files without a name (``O_TMPFILE``). There the new file has a
    temporary name, which ends in ``onecopy-new-`` and 16 hexadecimal digits. If the process is
    killed, a file with this name may stay. If the temporary name is hidden, the next use of the
    pool directory removes the file.

    Parameters
    ----------
    path : str
        The name that the file gets; the directory must exist. With `folder`, a name in it.
    mode : int
        Permissions, less what the process's umask takes away.
    hidden : bool
        Whether a temporary name begins with a dot. If not, it begins with the file's later name.
    folder : int, optional
        Descriptor of the directory, if the caller has checked it. `close` does not close it.

    Attributes
    ----------
    fd : int
        To read and write it. `close` does not close it: the caller does, or keeps it.

    Raises
    ------
    OSError
        The directory is not there, or cannot be written.
    """

    def __init__(
        self, path: str, mode: int, *, hidden: bool = False, folder: int | None = None
    ) -> None:
        where, self._name = os.path.split(path)
        self._is_hidden = hidden
        self._own_name = ""  # the temporary name; empty: there is none
        # All calls use this descriptor, so that they all use the same directory, even if another
        # one is put in its place.
        self._folder = (
            os.open(where or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            if folder is None
            else os.dup(folder)
        )
        try:
            self.fd = self._open(mode)
        except BaseException:
            os.close(self._folder)
            raise

    def _new_name(self) -> str:
        return f"{'.' if self._is_hidden else f'{self._name}.'}onecopy-new-{os.urandom(8).hex()}"

    def _open(self, mode: int) -> int:
        flags = os.O_RDWR | os.O_CLOEXEC
        # Not every file system has files without a name. Other errors come again below.
        with contextlib.suppress(OSError):
            fd = os.open(".", flags | os.O_TMPFILE, mode, dir_fd=self._folder)
            if os.path.exists(f"/proc/self/fd/{fd}"):  # noqa: PTH110 - pathlib is not loaded for this
                return fd
            os.close(fd)  # without /proc it could not be given a name
        while True:
            name = self._new_name()
            fd = os.open(name, flags | os.O_CREAT | os.O_EXCL, mode, dir_fd=self._folder)
            if not self._is_hidden or _native.hold_new_file(fd):
                self._own_name = name
                return fd
            os.close(fd)  # a process that sweeps was faster

    def link(self) -> None:
        """Give the file its name, if that is free.

        Raises
        ------
        FileExistsError
            Something has the name.
        OSError
            The directory cannot be written.
        """
        self._link(self._name)

    def _link(self, name: str) -> None:
        if self._own_name:
            os.link(self._own_name, name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        else:
            # With the directory's descriptor, as Python follows the link in /proc only then.
            os.link(f"/proc/self/fd/{self.fd}", name, dst_dir_fd=self._folder)

    def replace(self) -> None:
        """Give the file its name. A file that has the name loses it.

        Raises
        ------
        OSError
            The directory cannot be written.
        """
        if not self._own_name:
            try:
                return self.link()
            except FileExistsError:
                name = self._new_name()
                self._link(name)  # `rename` needs a name to rename
                self._own_name = name
        os.replace(self._own_name, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        self._own_name = ""
        return None

    def close(self) -> None:
        """Remove the temporary name, if the file still has one."""
        if self._own_name:
            os.unlink(self._own_name, dir_fd=self._folder)
            self._own_name = ""
        os.close(self._folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
