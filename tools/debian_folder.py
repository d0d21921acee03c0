"""A folder with a newer Debian, for the versions of Python that this machine does not have.

`debootstrap` makes it, from the mirror that this machine's apt uses. Programs run in it by
`chroot`, in a mount namespace of their own: when the last of them has ended, nothing is mounted any
more.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

SUITE = os.environ.get("ONECOPY_DEBIAN_SUITE", "forky")
VERSIONS = ("3.14", "3.15")
PACKAGES = ("ca-certificates", "ccache", "g++", "openssl", "procps")
OF_A_VERSION = ("python{}-venv", "python{}-dev", "libpython{}-testsuite")
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"

HOW_TO = (
    "Pythons 3.14 and 3.15 come from a folder with a newer Debian. {reason} Install debootstrap "
    "with `apt-get update && apt-get install -y debootstrap` and run `make wheels` as root, or "
    "install these Pythons yourself. Until then their rows say 'not there'."
)

_ENTER = """
root=$1; project=$2; shift 2
mount --rbind /dev "$root/dev"
mount --rbind /proc "$root/proc"
mkdir -p "$root$project"
mount --bind "$project" "$root$project"
exec chroot "$root" sh -c 'cd "$0" && exec "$@"' "$project" "$@"
"""


class UnavailableError(Exception):
    """The folder cannot be made here. The message says what to do."""


def command(root: Path, project: Path, argv: list[str]) -> list[str]:
    """Return the command that runs `argv` in the folder; the project is at its usual path there."""
    return ["unshare", "--mount", "sh", "-ec", _ENTER, "sh", str(root), str(project), *argv]


def make(root: Path, log: Path) -> None:
    """Make the folder if it is not there; an interrupted one is made again."""
    done = root / ".made"
    if done.exists():
        return
    for program in ("debootstrap", "unshare", "chroot"):
        if shutil.which(program) is None:
            raise UnavailableError(HOW_TO.format(reason=f"There is no `{program}` here."))
    if os.geteuid() != 0:
        raise UnavailableError(HOW_TO.format(reason="Only root can make it."))
    packages = [*PACKAGES, *(name.format(each) for each in VERSIONS for name in OF_A_VERSION)]
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    print(f"Debian {SUITE}, into {root}: some 900 MB; the log is {log}", flush=True)
    # `sid`: the script for every newer suite. Older versions of debootstrap do not know its name.
    argv = ["debootstrap", "--variant=minbase", "--include=" + ",".join(packages)]
    argv += [SUITE, str(root), mirror(), "sid"]
    with log.open("w", encoding="utf-8") as output:
        made = subprocess.run(
            argv, stdout=output, stderr=output, env=os.environ | proxy(), check=False
        )
    if made.returncode != 0:
        raise UnavailableError(HOW_TO.format(reason=f"debootstrap has failed: see {log}."))
    # A network with certificates of its own has them in this machine's list.
    if Path("/", CERTIFICATES).exists():
        shutil.copy(Path("/", CERTIFICATES), root / CERTIFICATES)
    if Path("/etc/resolv.conf").exists():
        shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    done.touch()


def mirror() -> str:
    """Return the address of Debian's main archive, as apt has it."""
    line = ["apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)", "Created-By: Packages"]
    found = subprocess.run(line, capture_output=True, text=True, check=False).stdout
    for target in found.splitlines():
        label, _, address = target.partition(" ")
        if label == "Debian":
            return address
    raise UnavailableError(HOW_TO.format(reason="This machine's apt names no mirror of Debian."))


def proxy() -> dict[str, str]:
    """Return the proxy that apt uses, as an environment; empty: it has none."""
    line = ["apt-config", "shell", "http_proxy", "Acquire::http::Proxy"]
    found = subprocess.run(line, capture_output=True, text=True, check=False).stdout
    name, _, value = found.strip().partition("=")
    return {name: value.strip("'\"")} if value else {}
