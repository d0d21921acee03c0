"""Plant known bugs in a copy of the project, and see that each is caught.

Usage: ``python tests/crash/plant.py [text ...]``, from the root of the project. With texts, it
plants only the bugs whose name contains one. The bugs are in `planted.py`, by subject. Each is a
change of one file of the core or of the Python package: a text, and what stands in its place. An
entry names what must catch the bug:

* ``where``: an operation of a native campaign. If that does not fail, all the campaigns are tried.
* ``program``: a native test and its arguments.
* ``test``: a Python test, run with a package that has the bug.

The copy, its build (a fault build, -O1, no optimization across files) and its package lie in
build/plant. The installed package is not touched. The copy is patched, built and put back for each
bug, so only what a bug changes is compiled. A bug that is not caught is a failure. So is a bug
whose text does not stand exactly once in its file, and a test that fails without a bug.

What this cannot show: x86 does not let a store pass an earlier store, so a missing release or
acquire changes nothing there. Bugs of order are planted as the order that the missing barrier would
allow. Some bugs are not planted, because nothing can show them:

* `landed` without its look at the generation. A process that overwrites the word of a block that
  was given out again acknowledges first, so that look is a second protection.
* The heap without its early commit of a freed span. Until the last store the block is still being
  freed, and to free it once more comes to the same.
* The look at the count before the one at the holders. There are two looks, and a process that holds
  the block between them turns it back.
* Frames whose repair leaves an old generation in a cell. Only the index in a cell counts.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from planted import BUGS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from planted_bug import Bug

SEED = "seed=4"
# From the quickest to the most thorough; the first that fails has caught the bug.
CAMPAIGNS = (
    ("interleave_test", SEED),
    ("crash_test", "timed", SEED),
    ("redeliver_test",),
    ("crash_test", "full", SEED),
    ("interleave_test", "full", SEED),
    ("crash_test", "nested", SEED),
)
SLICES = 3  # of these, with --slices
LIMIT = 900  # seconds for one program: a watchdog


def mirror(source: Path, target: Path) -> None:
    """Make the target as the source is. What is the same stays untouched: it is not built again."""
    if not source.is_dir():
        if not target.exists() or not filecmp.cmp(source, target, shallow=False):
            shutil.copyfile(source, target)
        return
    target.mkdir(parents=True, exist_ok=True)
    wanted = {path.name for path in source.iterdir() if path.name != "__pycache__"}
    for path in target.iterdir():
        if path.name not in wanted:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name in wanted:
        mirror(source / name, target / name)


class Copy:
    """A copy of the project, its build, and a package made of both."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.root = root
        self.source = folder / "source"
        self._build = folder / "build"
        self._site = folder / "site"
        self._tools = Path(sys.executable).parent
        self.source.mkdir(parents=True, exist_ok=True)
        for part in ("native", "src", "CMakeLists.txt"):
            mirror(root / part, self.source / part)
        # A compiler cache: CMake itself reads CMAKE_CXX_COMPILER_LAUNCHER from the environment.
        self._run(
            *("cmake", "-G", "Ninja", "-S", self.source, "-B", self._build),
            f"-DCMAKE_MAKE_PROGRAM={self._tools / 'ninja'}",
            f"-DPython_EXECUTABLE={sys.executable}",
            *("-DCMAKE_BUILD_TYPE=None", "-DCMAKE_CXX_FLAGS=-O1", "-DONECOPY_LTO=OFF"),
            *("-DONECOPY_FAULTS=ON", "-DONECOPY_NATIVE_TESTS=ON"),
        )

    def _run(self, *command: object) -> None:
        tool, *arguments = map(str, command)
        done = subprocess.run(
            [str(self._tools / tool), *arguments], check=False, capture_output=True, text=True
        )
        if done.returncode != 0:
            sys.exit(f"{tool} failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")

    def build(self, *targets: str) -> None:
        """Compile what has changed and is needed for the targets."""
        self._run("cmake", "--build", self._build, "--target", *targets)

    def run(self, program: str, *arguments: str) -> str | None:
        """Run a native test: what it says if it fails."""
        self.build(program)
        return self._watch(program, [str(self._build / program), *arguments], dict(os.environ))

    def run_python(self, test: str) -> str | None:
        """Run a Python test with the copy's package: what it says if it fails."""
        self.build("_native")
        mirror(self.source / "src" / "onecopy", self._site / "onecopy")
        for module in self._build.glob("_native*.so"):
            shutil.copy2(module, self._site / "onecopy")
        environment = {**os.environ, "PYTHONPATH": str(self._site), "PYTHONDONTWRITEBYTECODE": "1"}
        found = subprocess.run(
            [sys.executable, "-c", "import onecopy._native as core; print(core.__file__)"],
            check=False,
            capture_output=True,
            text=True,
            env=environment,
        )
        if not found.stdout.startswith(str(self._site)):
            sys.exit(f"the copy's package is not what is imported: {found.stdout}{found.stderr}")
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", test]
        return self._watch(test, command, environment)

    def _watch(self, name: str, command: list[str], environment: dict[str, str]) -> str | None:
        # A file, not a pipe: what a failed test leaves behind would keep that open.
        with (
            tempfile.TemporaryFile("w+", errors="replace") as output,
            subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=self.root,
                start_new_session=True,
            ) as child,
        ):
            try:
                child.wait(LIMIT)
            except subprocess.TimeoutExpired:
                return f"{name}: it hung"
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, 9)
            if child.returncode == 0:
                return None
            output.seek(0)
            said = output.read()
        lines = [line for line in said.splitlines() if line.startswith(("FAILED", "ERROR"))]
        return f"{name}: {lines[0] if lines else said.strip()[-200:]}"

    def caught(self, bug: Bug, campaigns: Iterable[tuple[str, ...]]) -> str | None:
        """Run what has to notice the bug until something does: what it says."""
        if bug.test:
            return self.run_python(bug.test)
        if bug.program:
            return self.run(*bug.program)
        if bug.where is not None:
            program, operation = bug.where
            if (found := self.run(program, "full", f"only={operation}", SEED)) is not None:
                return found
        return self.run_all(campaigns)

    def run_all(self, campaigns: Iterable[tuple[str, ...]]) -> str | None:
        """Run the campaigns until one fails: what it says."""
        for campaign in campaigns:
            if (found := self.run(*campaign)) is not None:
                return found
        return None


def check_without_bugs(
    copy: Copy, bugs: Iterable[Bug], campaigns: Iterable[tuple[str, ...]]
) -> None:
    """What fails without a planted bug shows nothing about one."""
    failed = copy.run_all(campaigns)
    for program in dict.fromkeys(bug.program for bug in bugs if bug.program):
        failed = failed or copy.run(*program)
    for test in dict.fromkeys(bug.test for bug in bugs if bug.test):
        failed = failed or copy.run_python(test)
    if failed is not None:
        sys.exit(f"this fails without a planted bug: {failed}")
    print("nothing planted: nothing found", flush=True)


def plant(copy: Copy, bugs: Iterable[Bug], campaigns: Iterable[tuple[str, ...]]) -> list[str]:
    """Plant each of the bugs: the names of those that nothing noticed."""
    missed = []
    for bug in bugs:
        path = copy.source / bug.file
        sound = planted = path.read_text()
        for old, new in ((bug.old, bug.new), *bug.more):
            if sound.count(old) != 1:
                sys.exit(f"{bug.name}: its text stands {sound.count(old)} times in {bug.file}")
            planted = planted.replace(old, new)
        start = time.monotonic()
        path.write_text(planted)
        try:
            found = copy.caught(bug, campaigns)
        finally:
            path.write_text(sound)
        if found is None:
            missed.append(bug.name)
            print(f"NOT CAUGHT  {bug.name}: {bug.why}", flush=True)
        else:
            took = time.monotonic() - start
            print(f"caught in {took:6.1f} s  {bug.name}\n    by {found}", flush=True)
    return missed


def main() -> None:
    root = Path.cwd()
    options = argparse.ArgumentParser(description="Plant bugs in a copy; each must be caught.")
    options.add_argument("wanted", nargs="*", help="parts of the names of the bugs to plant")
    options.add_argument("--slices", action="store_true", help="run only the campaigns' slices")
    given = options.parse_args()
    campaigns = CAMPAIGNS[:SLICES] if given.slices else CAMPAIGNS
    bugs = [
        bug for bug in BUGS if not given.wanted or any(part in bug.name for part in given.wanted)
    ]
    if not bugs:
        sys.exit("no bug has such a name")
    copy = Copy(root / "build" / "plant", root)
    check_without_bugs(copy, bugs, () if given.wanted else campaigns)
    if missed := plant(copy, bugs, campaigns):
        sys.exit(f"{len(missed)} planted bugs were not caught")


if __name__ == "__main__":
    main()
