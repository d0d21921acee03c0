"""Build for 64-bit ARM by a cross compiler, and prove it under qemu-user; `make aarch64`.

The parts, each with a row or more in one table, which is in `build/aarch64/table.md`, too:

|  native  the core's tests, with pages of 4 KiB and of 64 KiB
|  crash   slices of the native campaigns: processes that are killed at their crash points
|  wheel   a wheel with the manylinux tag that its symbols allow: `build/aarch64/out`
|  proof   the wheel in use, with numpy's: tools/wheel_proof.py, tools/aarch64_proof.py
|  tests   tests of pytest that need no more than the command line

It needs Debian, and packages that it names if they are missing. Python of arm64 comes from
`tools/arm64_folder.py`. What qemu cannot do is in `UNDER_QEMU`, with the reason. qemu runs each
program with the memory ordering of this machine, so a missing barrier is not found here.

Usage: python tools/aarch64.py [native crash wheel proof tests]
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import arm64_folder
import debian_folder
import wheels

ROOT = wheels.ROOT
WORK = ROOT / "build/aarch64"
SYSROOT = WORK / "sysroot"
NATIVE, FAULTS, SITE = WORK / "native", WORK / "faults", WORK / "site"
TOOLCHAIN = ROOT / "tools/aarch64.cmake"
COMPILER = "aarch64-linux-gnu-g++"
# Programs, and Debian's packages that have them.
NEEDED = {COMPILER: "g++-aarch64-linux-gnu", "apt-get": "apt", "dpkg-deb": "dpkg"}
QEMU = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static") or ""
PAGES = (4096, 65536)
PARTS = ("native", "crash", "wheel", "proof", "tests")
CAMPAIGNS = (
    *("crash_test", "redeliver_test", "interleave_test", "shareable_test", "fill_test"),
    *("losses_test", "signals_test", "wakes_test", "full_disk_test", "unreadable_test"),
)
FOLDERS = tuple(
    f"tests/{each}" for each in ("queue", "stream", "frames", "locks", "containers", "values")
)
LIMIT = 1800  # seconds for one program
ABREAST = 3  # programs at a time
# What cannot work, and why. "program case": a case of that program. All others have to pass.
UNDER_QEMU = {
    "process_test exec": (
        "it runs /proc/self/exe, which is qemu's program: qemu-user starts programs of arm64 by "
        "exec only where the kernel knows them (binfmt_misc)"
    ),
}
HEAD = ["part", "what", "result", "seconds"]


@dataclass
class Step:
    """A row of the table."""

    part: str
    what: str
    result: str
    seconds: float = 0.0
    failed: bool = False

    def cells(self) -> list[str]:
        """Return the row's texts."""
        result = f"FAILED: {self.result}" if self.failed else self.result
        return [self.part, self.what, result, f"{self.seconds:.0f}"]


class Builder:
    """The tools of this machine, and qemu with the folder of arm64."""

    def __init__(self) -> None:
        self.here = wheels.Python("aarch64", sys.executable, work=ROOT / "build")
        self.bin = Path(sys.executable).parent
        self.shim = WORK / "qemu_madvise.so"
        self.steps: list[Step] = []

    def qemu(self, *argv: str | Path, page: int = PAGES[0]) -> list[str]:
        """Return the command that runs a program of arm64."""
        pages = ("-p", str(page)) if page != PAGES[0] else ()
        preload = ("-E", f"LD_PRELOAD={self.shim}")
        return [QEMU, *pages, *preload, "-L", str(SYSROOT), *map(str, argv)]

    def wrap(self, wrapper: Path, program: Path) -> None:
        """Write a script that runs a program of arm64, and has the same arguments and name."""
        line = shlex.join(self.qemu("-0", "NAME", program)).replace("NAME", '"$0"')
        wrapper.parent.mkdir(parents=True, exist_ok=True)
        wrapper.write_text(f'#!/bin/sh\nexec {line} "$@"\n', "utf-8")
        wrapper.chmod(0o755)

    def measure(self, part: str, what: str, *argv: str | Path, **environment: str) -> Step:
        """Run a command; its last line is the result."""
        begin = time.monotonic()
        try:
            said, failed = self.here.run("timeout", str(LIMIT), *argv, **environment), False
        except subprocess.CalledProcessError as error:
            said, failed = f"{error.output}\nexit status {error.returncode}", True
        lines = [line for line in said.splitlines() if line.strip()] or ["ok"]
        result = " / ".join(lines[-3:]) if failed else lines[-1]
        return Step(part, what, result.replace("|", "/"), time.monotonic() - begin, failed)

    def step(self, part: str, what: str, *argv: str | Path, **environment: str) -> None:
        """Run a command, and add its row."""
        self.add(self.measure(part, what, *argv, **environment))

    def steps_beside(self, part: str, commands: dict[str, list[str]]) -> None:
        """Run commands, several at a time: they mostly wait for processes."""
        with ThreadPoolExecutor(ABREAST) as threads:
            ready = [
                threads.submit(self.measure, part, what, *argv) for what, argv in commands.items()
            ]
            for each in ready:
                self.add(each.result())

    def add(self, row: Step) -> None:
        """Add a row, and print it."""
        self.steps.append(row)
        print(" | ".join(row.cells()), flush=True)

    def configure(self, folder: Path, *options: str) -> None:
        """Prepare a build of the core's tests."""
        self.here.run(
            *(self.bin / "cmake", "-G", "Ninja", "-S", ROOT, "-B", folder),
            f"-DCMAKE_MAKE_PROGRAM={self.bin / 'ninja'}",
            f"-DCMAKE_TOOLCHAIN_FILE={TOOLCHAIN}",
            *("-DONECOPY_PYTHON_MODULE=OFF", "-DONECOPY_NATIVE_TESTS=ON", *options),
        )

    def prepare(self) -> None:
        """Make the folder of arm64, and what every program there needs."""
        arm64_folder.make(SYSROOT, WORK / "packages.txt")
        source = ROOT / "tools/qemu_madvise.cpp"
        options = ("-std=c++20", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared")
        self.here.run(COMPILER, *options, "-o", self.shim, source)

    @property
    def version(self) -> str:
        """The version of Python in the folder of arm64."""
        return arm64_folder.version(SYSROOT)

    @property
    def python(self) -> Path:
        """The interpreter of arm64, as a program of this machine; children are started by it."""
        python = SYSROOT / "usr/bin/python-under-qemu"
        self.wrap(python, SYSROOT / f"usr/bin/python{self.version}")
        return python


def native(builder: Builder) -> None:
    """Run the core's tests."""
    builder.configure(NATIVE, "-DONECOPY_WERROR=ON")
    builder.here.run(builder.bin / "cmake", "--build", NATIVE)
    for page in PAGES:
        if not has_pages(builder, page):
            builder.add(Step("native", f"pages of {page} bytes", "this qemu has no such pages"))
            continue
        commands = {}
        for program in sorted(NATIVE.glob("*_test")):
            for case in cases_of(builder, program):
                name = f"{program.name} {case}".strip()
                if name in UNDER_QEMU:
                    builder.add(Step("native", name, f"not under qemu: {UNDER_QEMU[name]}"))
                    continue
                what = f"{name}, pages of {page // 1024} KiB"
                commands[what] = builder.qemu(program, *case.split(), page=page)
        builder.steps_beside("native", commands)


def cases_of(builder: Builder, program: Path) -> list[str]:
    """Return the cases of a program; most have one, without a name."""
    if not any(name.startswith(f"{program.name} ") for name in UNDER_QEMU):
        return [""]
    # Of the usual build only: programs of the fault build know no such argument. The last line is
    # a sentence, as of every run.
    lines = builder.here.run(*builder.qemu(program, "--list")).splitlines()
    return [line for line in lines if line and " " not in line]


def has_pages(builder: Builder, page: int) -> bool:
    """Tell whether this qemu can run programs with pages of a size."""
    ask = "import resource; print(resource.getpagesize())"
    program = SYSROOT / f"usr/bin/python{builder.version}"
    said = builder.here.run(*builder.qemu(program, "-c", ask, page=page))
    return said.split()[-1] == str(page)


def crash(builder: Builder) -> None:
    """Run slices of the campaigns, in the fault build."""
    builder.configure(
        *(FAULTS, "-DCMAKE_BUILD_TYPE=None", "-DCMAKE_CXX_FLAGS=-O1 -g"),
        *("-DONECOPY_FAULTS=ON", "-DONECOPY_LTO=OFF"),
    )
    builder.here.run(builder.bin / "cmake", "--build", FAULTS, "--target", *CAMPAIGNS)
    slices = WORK / "slices"
    commands = {}
    for name in CAMPAIGNS:
        builder.wrap(slices / name, FAULTS / name)
        commands[name] = ["sh", "tests/crash/slices.sh", str(slices), "brief", name]
    builder.steps_beside("crash", commands)


def site(builder: Builder, *what: str | Path) -> None:
    """Install wheels for arm64 beside the interpreter of arm64."""
    ask = "import os; print(os.confstr('CS_GNU_LIBC_VERSION').rpartition('.')[2])"
    libc = int(builder.here.run(builder.python, "-c", ask))
    tags = ["2014", *(f"_2_{minor}" for minor in range(17, libc + 1))]
    builder.here.run(
        *(sys.executable, "-m", "pip", "install", "-q", "--upgrade", "--target", SITE),
        *("--only-binary", ":all:", "--implementation", "cp", "--python-version", builder.version),
        *(f"--platform=manylinux{each}_aarch64" for each in tags),
        *what,
    )


def wheel(builder: Builder) -> None:
    """Build the wheel, and give it its tag."""
    begin = time.monotonic()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    requires = project["build-system"]["requires"]
    found = wheels.find(builder.version)
    if found is None or found.root is not None:
        reason = f"there is no Python {builder.version} on this machine, which the build needs"
        builder.add(Step("wheel", "build", reason, failed=True))
        return
    for folder in ("build", "raw", "fixed", "out", "site", "tools"):
        shutil.rmtree(WORK / folder, ignore_errors=True)
    site(builder, *[each for each in requires if each.startswith("numpy")])
    python = wheels.Python("aarch64", found.program, work=ROOT / "build")
    suffix = f".cpython-{builder.version.replace('.', '')}-aarch64-linux-gnu.so"
    headers = SYSROOT / f"usr/include/python{builder.version}"
    defines = {
        "CMAKE_TOOLCHAIN_FILE": TOOLCHAIN,
        # `pyconfig.h` of arm64 is found beside it, as in the package.
        "Python_INCLUDE_DIR": headers,
        "Python_NumPy_INCLUDE_DIR": SITE / "numpy/_core/include",
        "CMAKE_CXX_FLAGS": f"-idirafter {SYSROOT / 'usr/include'}",
    }
    settings = (f"cmake.define.{name}={value}" for name, value in defines.items())
    env, raw = wheels.build_alone(
        *(python, ROOT, requires, f"build-dir={WORK / 'wheel'}", *settings),
        _PYTHON_HOST_PLATFORM="linux-aarch64",
        SETUPTOOLS_EXT_SUFFIX=suffix,
    )
    shutil.rmtree(env)
    tools = WORK / "tools"
    builder.here.run(sys.executable, "-m", "venv", tools)
    builder.here.run(tools / "bin/python", "-m", "pip", "install", "-q", *wheels.AUDIT_TOOLS)
    fixed, policy = wheels.audit(python, tools, raw)
    out = WORK / "out"
    out.mkdir()
    fixed = Path(shutil.copy(fixed, out))
    library = wheels.library_of(fixed)
    size = f"{fixed.stat().st_size / 1e6:.2f} MB, its .so {len(library) / 1e6:.2f} MB"
    result = f"{fixed.name}: {policy}, {size}"
    builder.add(Step("wheel", "build, auditwheel", result, time.monotonic() - begin))
    wheels.check_stripped(library)


def made_wheel() -> Path:
    """Return the wheel that was built."""
    found = list((WORK / "out").glob("*.whl"))
    if not found:
        raise wheels.StepError("there is no wheel: build it first")
    return found[0]


def proof(builder: Builder) -> None:
    """Use the wheel, where no compiler can be found."""
    site(builder, made_wheel())
    for name in ("wheel_proof.py", "aarch64_proof.py"):
        # `env`: what starts it is found on this machine's PATH.
        nothing = ("env", "PATH=/nonexistent")
        proof = ROOT / "tools" / name
        builder.step("proof", name, *nothing, builder.python, proof, PYTHONPATH=str(SITE))


def tests(builder: Builder) -> None:
    """Run tests of pytest with the wheel."""
    site(builder, f"onecopy[test-basics] @ file://{made_wheel()}")
    for folder in FOLDERS:
        builder.step(
            *("tests", folder, builder.python, "-m", "pytest", "-p", "no:cacheprovider", "-q"),
            *("-m", wheels.CORE, "-n", "2", "--dist", "worksteal", "--timeout", "600", folder),
            PYTHONPATH=str(SITE),
        )


def missing() -> list[str]:
    """Return the packages that have to be installed."""
    packages = [package for program, package in NEEDED.items() if not shutil.which(program)]
    return packages if QEMU else [*packages, "qemu-user"]


def main() -> int:
    """Run the parts that were given, or all; the exit status says if one failed."""
    parts = tuple(sys.argv[1:]) or PARTS
    if not set(parts) <= set(PARTS):
        print(f"{__doc__}\nParts: {', '.join(PARTS)}", file=sys.stderr)
        return 2
    if packages := missing():
        print(f"Missing: apt-get install -y {' '.join(packages)}", file=sys.stderr)
        return 2
    WORK.mkdir(parents=True, exist_ok=True)
    builder = Builder()
    try:
        builder.prepare()
    except debian_folder.UnavailableError as error:
        print(error, file=sys.stderr)
        return 2
    for part in parts:
        try:
            globals()[part](builder)
        except subprocess.CalledProcessError as error:
            builder.add(Step(part, str(error.cmd[0]), f"see {builder.here.log}", failed=True))
        except wheels.StepError as error:
            builder.add(Step(part, "", str(error), failed=True))
    text = wheels.table([HEAD, *(step.cells() for step in builder.steps)])
    (WORK / "table.md").write_text(text, "utf-8")
    print("\n" + text)
    return int(any(step.failed for step in builder.steps))


if __name__ == "__main__":
    sys.exit(main())
