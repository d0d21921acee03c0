"""What `onecopy doctor` says of huge pages: settings of the kernel, and options of file systems."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from children import LIMIT
from namespaces import in_mounts

from onecopy._core.huge_pages import HugePages, huge_pages

MODES = ["never", "advise", "within_size", "always"]


@pytest.mark.parametrize(
    ("mount", "setting", "files", "memfds"),
    [
        ("never", "never", False, False),
        ("advise", "advise", False, False),  # onecopy does not ask
        ("within_size", "never", True, False),
        ("always", "never", True, False),
        ("never", "within_size", False, True),
        ("never", "force", True, True),
        ("always", "deny", False, False),
        (None, "always", False, True),  # a disk
        ("always", None, False, False),
    ],
)
def test_what_decides(mount, setting, files, memfds):
    huge = HugePages(mount, setting)
    assert (huge.files, huge.memfds) == (files, memfds)


@pytest.fixture
def said(tmp_path):
    """What is read from the texts of a mount table and of the kernel's setting."""

    def read(line, setting):
        device = tmp_path.stat().st_dev
        number = f"{os.major(device)}:{os.minor(device)}"
        mounts, chosen = tmp_path / "mountinfo", tmp_path / "shmem_enabled"
        other = "20 1 0:99999 / /other rw - tmpfs tmpfs rw,huge=always\n"
        mounts.write_text(other + line.format(number), encoding="utf-8")
        chosen.write_text(setting, encoding="ascii")
        return huge_pages(str(tmp_path), mounts, chosen)

    return read


def test_texts_of_the_kernel(said):
    setting = "always within_size advise [never] deny force\n"
    line = "21 1 {} / /dev/shm rw,nosuid shared:2 - tmpfs tmpfs rw,size=4k,huge=within_size\n"
    assert said(line, setting) == HugePages("within_size", "never")
    assert said("21 1 {} / /dev/shm rw - tmpfs tmpfs rw\n", setting) == HugePages("never", "never")
    assert said("21 1 {} / / rw - ext4 /dev/vda rw\n", setting) == HugePages(None, "never")
    assert said("", setting) == HugePages(None, "never")


def test_what_cannot_be_read(tmp_path):
    missing = tmp_path / "missing"
    assert huge_pages(str(tmp_path), missing, missing) == HugePages(None, None)


@pytest.mark.parametrize("mode", MODES)
def test_a_real_mount(mode, tmp_path):
    mount = f'mount -t tmpfs -o huge={mode},size=4m none "{tmp_path}"'
    program = (
        "from onecopy._core.huge_pages import huge_pages; print(huge_pages(sys.argv[1]).mount)"
    )
    command = [*in_mounts(mount), sys.executable, "-c", f"import sys; {program}", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=LIMIT)
    assert done.stdout == f"{mode}\n"
