"""A folder with arm64 packages of Debian, unpacked: what qemu-user needs to run programs of arm64.

apt resolves what the packages depend on, and downloads it, with a configuration, lists and a state
of its own. Nothing of this machine's apt changes, and no root is needed. No script of a package
runs.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import debian_folder

# Python with its headers. The rest is what they depend on.
PACKAGES = ("python3", "libpython3-dev", "libstdc++6")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# qemu would look into them before it looks into those of this machine.
OF_THIS_MACHINE = ("dev", "proc", "run", "sys", "tmp")

_CONFIGURATION = """
APT::Architecture "arm64";
APT::Architectures {{ "arm64"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "{user}";
Dir::State "{apt}/state";
Dir::State::status "{apt}/state/status";
Dir::Cache "{apt}/cache";
Dir::Etc::sourcelist "{apt}/sources.list";
Dir::Etc::sourceparts "-";
"""


def suite() -> str:
    """Return the name of the Debian that the packages come from: by default, of this machine's."""
    name = os.environ.get("ONECOPY_ARM64_SUITE")
    try:
        name = name or platform.freedesktop_os_release()["VERSION_CODENAME"]
    except (OSError, KeyError) as error:
        raise debian_folder.UnavailableError("This machine's Debian has no name.") from error
    return name


def make(root: Path, log: Path) -> None:
    """Make the folder if it is not there; one that was interrupted is made again."""
    name = suite()
    done = root / f".made-from-{name}"
    if done.exists():
        return
    source = f"{debian_folder.mirror()} {name} main\n"
    signed = f" signed-by={KEYRING}" if KEYRING.exists() else ""
    apt = root.with_name(root.name + "-apt")
    for folder in (root, apt):
        shutil.rmtree(folder, ignore_errors=True)
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (apt / folder).mkdir(parents=True)
    (apt / "state/status").touch()
    (apt / "sources.list").write_text(f"deb [arch=arm64{signed}] {source}", "utf-8")
    user = "root" if os.geteuid() == 0 else ""
    (apt / "apt.conf").write_text(_CONFIGURATION.format(apt=apt, user=user), "utf-8")
    print(
        f"arm64 packages of Debian {name}, into {root}: some 160 MB; the log is {log}", flush=True
    )
    with log.open("w", encoding="utf-8") as output:

        def run(*argv: str | Path) -> None:
            environment = os.environ | {"APT_CONFIG": str(apt / "apt.conf")}
            ended = subprocess.run(
                argv, stdout=output, stderr=output, env=environment, check=False
            ).returncode
            if ended != 0:
                raise debian_folder.UnavailableError(f"{argv[0]} has failed: see {log}.")

        run("apt-get", "update")
        run("apt-get", "install", "-y", "--download-only", *PACKAGES)
        root.mkdir(parents=True)
        for package in sorted(apt.glob("cache/archives/*.deb")):
            run("dpkg-deb", "--extract", package, root)
    for folder in OF_THIS_MACHINE:
        shutil.rmtree(root / folder, ignore_errors=True)
    if not (root / "lib").exists():  # newer packages have all of it in /usr
        (root / "lib").symlink_to("usr/lib")
    shutil.rmtree(apt)
    done.touch()


def version(root: Path) -> str:
    """Return the version of Python in the folder, as in "3.11"."""
    return (root / "usr/bin/python3").readlink().name.removeprefix("python")
