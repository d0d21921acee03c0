"""Files that get their name when they are finished: who is killed before leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["NewFile"]


class NewFile:
    """A file in the making; it goes when it is closed without having got a name.

    Where the file system has no files without a name (``O_TMPFILE``), it has one of its own until
    then, which ends in ``onecopy-new-`` and 16 hexadecimal digits, and whose maker may leave it
    behind if it is killed.

    Parameters
    ----------
    path : str
        Where it is going to be; the directory must exist.
    mode : int
        Permissions, less what the process's umask takes away.
    hidden : bool
        Whether a name of its own begins with a dot, in the place of the name it is going to have.

    Attributes
    ----------
    fd : int
        To read and write it. `close` does not close it: the caller does, or keeps it.

    Raises
    ------
    OSError
        The directory is not there, or cannot be written.
    """

    def __init__(self, path: str, mode: int, *, hidden: bool = False) -> None:
        self._path = path
        folder, name = os.path.split(path)
        start = "." if hidden else f"{name}."
        self._own_path = f"{folder}/{start}onecopy-new-{os.urandom(8).hex()}"
        self._has_own_name = False
        self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.fd = self._open(folder, mode)
        except BaseException:
            os.close(self._folder)
            raise

    def _open(self, folder: str, mode: int) -> int:
        with contextlib.suppress(OSError):  # not every file system can; if it is full, we shall see
            fd = os.open(folder, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, mode)
            if os.path.exists(f"/proc/self/fd/{fd}"):  # noqa: PTH110 - pathlib is not loaded for this
                return fd
            os.close(fd)  # without /proc it could not be given a name
        fd = os.open(self._own_path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        self._has_own_name = True
        return fd

    def link(self, path: str | None = None) -> None:
        """Give the file its name, if that is free.

        Raises
        ------
        FileExistsError
            Something has the name.
        OSError
            The directory cannot be written.
        """
        goal = self._path if path is None else path
        if self._has_own_name:
            os.link(self._own_path, goal)
        else:
            # With the directory's descriptor, as Python follows the link in /proc only then.
            name = os.path.basename(goal)  # noqa: PTH119 - as above
            os.link(f"/proc/self/fd/{self.fd}", name, dst_dir_fd=self._folder)

    def replace(self) -> None:
        """Give the file its name, and take it from what has it.

        Raises
        ------
        OSError
            The directory cannot be written.
        """
        if not self._has_own_name:
            try:
                return self.link()
            except FileExistsError:
                self.link(self._own_path)  # `rename` needs a name to rename
                self._has_own_name = True
        os.replace(self._own_path, self._path)  # noqa: PTH105 - as above
        self._has_own_name = False
        return None

    def close(self) -> None:
        """Take away a name of its own, if it has one still."""
        if self._has_own_name:
            os.unlink(self._own_path)  # noqa: PTH108 - as above
            self._has_own_name = False
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
