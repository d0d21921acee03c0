"""The tests in an interpreter without the GIL: `make free-threaded`.

CPython is built from Debian's sources with `--disable-gil`, once, in `build/free-threaded`. The
package is installed there. Then the tests run. Each row of the table at the end is one step.

    make free-threaded ARGS="tests/queue -x"        arguments for pytest
    make free-threaded SANITIZE=thread              interpreter and bindings under ThreadSanitizer
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import debian_folder

PROJECT = Path(__file__).parent.parent
ROOT = PROJECT / "build" / "free-threaded"
# The first whose sources the mirror has. ONECOPY_CPYTHON_SOURCE: a folder with sources, instead.
VERSIONS = ("3.14", "3.13")
NEEDED = (
    *("scikit-build-core>=0.11", "nanobind>=2.4", "numpy>=2.0", "cmake>=3.26", "ninja"),
    *("pytest>=8.2", "pytest-timeout>=2.3", "pytest-xdist>=3.6", "setuptools>=70.1"),
)
# Newer ones have a compiled part that has no wheel for 3.13t.
HYPOTHESIS = {"3.13": "hypothesis<6.140"}
TESTS = (
    *("threads", "queue", "locks", "containers", "objects", "pool", "stream", "frames", "typed"),
    *("values", "shared_memory", "exits", "transport"),
)
OWN = PROJECT / "tools" / "free_threaded.supp"
CHECK = """
import sys, onecopy
assert not sys._is_gil_enabled(), "an extension module has brought the GIL back"
print(sys.version)
"""


def run(*command: str | Path, cwd: Path = PROJECT, **environment: str) -> None:
    """Run a command; end this program if it fails."""
    print("$", *command, flush=True)
    if subprocess.run(command, cwd=cwd, env=os.environ | environment, check=False).returncode:
        sys.exit(f"failed: {command[0]}")


def sources() -> Path:
    """Return a folder with the sources of CPython."""
    given = os.environ.get("ONECOPY_CPYTHON_SOURCE")
    if given:
        return Path(given)
    for version in VERSIONS:
        folder = ROOT / f"source-{version}"
        if (folder / "configure").exists() or download(version, folder):
            return folder
    sys.exit(
        f"No mirror has the sources of Python {' or '.join(VERSIONS)}. Set "
        "ONECOPY_CPYTHON_SOURCE to a folder with sources of CPython."
    )


def download(version: str, folder: Path) -> bool:
    """Get the sources of a version from a newer Debian, without a change of this machine's apt."""
    apt = ROOT / "apt"
    for name in ("lists/partial", "cache/archives/partial", "files"):
        (apt / name).mkdir(parents=True, exist_ok=True)
    key = "/usr/share/keyrings/debian-archive-keyring.gpg"
    (apt / "sources.list").write_text(
        f"deb-src [signed-by={key}] {debian_folder.mirror()} {debian_folder.SUITE} main\n",
        encoding="utf-8",
    )
    options = [
        f"-oDir::Etc::sourcelist={apt}/sources.list",
        "-oDir::Etc::sourceparts=/dev/null",
        f"-oDir::State::lists={apt}/lists",
        f"-oDir::Cache={apt}/cache",
    ]
    for command in (["update"], ["source", "--download-only", f"python{version}"]):
        argv = ["apt-get", "-q", *options, *command]
        if subprocess.run(argv, cwd=apt / "files", check=False).returncode != 0:
            return False
    archives = sorted((apt / "files").glob(f"python{version}_*.orig.tar.xz"))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    run("tar", "-xJf", archives[-1], "-C", folder, "--strip-components=1")
    return True


def interpreter(source: Path, *, sanitized: bool) -> Path:
    """Return an interpreter without the GIL; build it at first."""
    prefix = ROOT / ("sanitized" if sanitized else "python")
    python = prefix / "bin" / "python3"
    if python.exists():
        return python
    work = ROOT / ("work-sanitized" if sanitized else "work")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    options = ["--disable-gil", f"--prefix={prefix}", "-q"]
    if sanitized:
        options.append("--with-thread-sanitizer")
    run(source / "configure", *options, cwd=work)
    run("make", "-s", "-j", str(os.cpu_count()), cwd=work)
    run("make", "-s", "install", cwd=work)
    return python


def environment(python: Path, *, sanitized: bool) -> Path:
    """Return the interpreter of an environment in which the package is installed."""
    venv = ROOT / ("venv-sanitized" if sanitized else "venv")
    own = venv / "bin" / "python"
    if not own.exists():
        run(python, "-m", "venv", venv)
    shown = "import sys; print(*sys.version_info[:2], sep='.')"
    version = subprocess.check_output([own, "-c", shown], text=True).strip()
    run(own, "-m", "pip", "install", "-q", *NEEDED, HYPOTHESIS.get(version, "hypothesis~=6.170.0"))
    options = [
        f"--config-settings=build-dir={venv}-build",
        "--config-settings=cmake.define.ONECOPY_FREE_THREADED=ON",
    ]
    if sanitized:
        options += [
            "--config-settings=cmake.define.ONECOPY_SANITIZE=thread",
            "--config-settings=cmake.define.ONECOPY_LTO=OFF",
        ]
    run(own, "-m", "pip", "install", "-q", "--no-build-isolation", "--no-deps", *options, ".")
    return own


def main() -> None:
    """Build what is missing, and run the tests."""
    parser = argparse.ArgumentParser(description=__doc__, add_help=False)
    parser.add_argument("--sanitize", action="store_true")
    options, more = parser.parse_known_args()
    sanitized: bool = options.sanitize
    ROOT.mkdir(parents=True, exist_ok=True)
    source = sources()
    python = environment(interpreter(source, sanitized=sanitized), sanitized=sanitized)
    run(python, "-c", CHECK, cwd=ROOT)
    if sanitized:
        known = [*(source / "Tools" / "tsan").glob("*free_thread*.txt"), OWN]
        suppressions = ROOT / "suppressions.txt"
        suppressions.write_text("".join(each.read_text("utf-8") for each in known), "utf-8")
        # Without the random addresses that this sanitizer cannot place its own memory beside.
        run(
            *("setarch", "-R", python, "-m", "pytest", "-p", "no:cacheprovider"),
            *(more or ["tests/threads"]),
            TSAN_OPTIONS=f"suppressions={suppressions}:halt_on_error=0:exitcode=66",
        )
        return
    workers = ["-n", "4"] if not more else []
    marks = ["-m", "not check and not slow and not stress"]
    folders = [f"tests/{name}" for name in TESTS]
    run(python, "-m", "pytest", "-p", "no:cacheprovider", *workers, *marks, *(more or folders))


if __name__ == "__main__":
    main()
