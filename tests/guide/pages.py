"""The blocks of a page are run as a reader would run them.

`sybil` finds the blocks. A page is run in one folder, from its top to its end:

- a ``python`` block after a line that ends with a file's name and a colon is that file;
- a ``python`` block with ``>>>`` is a session: its output must be the one that is shown;
- any other ``python`` block is run;
- a ``console`` block is typed into one shell: lines after ``$ `` are commands, the others are what
  they print. The shell stays for the next block, and so do programs in the background.

``...`` in an output stands for anything. ``<!-- skip: next -->`` leaves out the next block, and
``<!-- skip: next if(missing("ray"), reason="ray is not installed") -->`` does so where a package is
not installed. A block of another kind is only shown.

A reader starts with a new interpreter. What another page has imported, torch for example, or the
pool that it has made, must not change what this one prints. So each page is run in a process of its
own: `python pages.py PAGE FOLDER` runs a page, and prints how many of its blocks ran.
"""

from __future__ import annotations

import doctest
import os
import re
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Self
from unittest import SkipTest

from sybil.document import Document
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser, SkipParser

if TYPE_CHECKING:
    from sybil import Example

ROOT = Path(__file__).parents[2]
FILE = re.compile(r"`([\w-]+\.\w+)`[^`\n]*:\s*\Z")
END = "---- the end of the block ----"
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
CHECK = doctest.OutputChecker()


def differs(expected: str, found: str) -> str | None:
    """Return how an output differs from the one that is shown."""
    if CHECK.check_output(expected, found, FLAGS):
        return None
    return CHECK.output_difference(doctest.Example("", expected), found, FLAGS)


def missing(package: str) -> bool:
    """Tell whether a package is not installed: pages call it in their conditions."""
    spec = find_spec(package)
    return spec is None or spec.origin is None  # a folder of tests is no package


def environment() -> dict[str, str]:
    """Return the environment of programs: this interpreter is `python`."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1"}


class Shell:
    """A shell that runs the blocks of a page."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=folder,
            env=environment(),
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def run(self, commands: str) -> str:
        """Run commands, and return what was printed until they ended."""
        self._process.stdin.write(f"{commands}\necho '{END}'\n")
        self._process.stdin.flush()
        printed = []
        for line in self._process.stdout:
            if line.rstrip("\n").endswith(END):
                return "".join([*printed, line.rstrip("\n").removesuffix(END)])
            printed.append(line)
        raise AssertionError(f"the shell ended after it had printed:\n{''.join(printed)}")

    def end(self) -> None:
        """End it, and all programs that it started."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()


class Page:
    """A page, and the folder in which it is run."""

    def __init__(self, path: Path, folder: Path) -> None:
        self._folder = folder
        self._shell: Shell | None = None
        self._document = Document.parse(
            str(path),
            SkipParser(),
            CodeBlockParser("python", self._python),
            CodeBlockParser("console", self._console),
        )
        self._document.namespace["__name__"] = "__page__"
        self._document.namespace["missing"] = missing

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._document.namespace.clear()
        if self._shell is not None:
            self._shell.end()

    def run(self) -> int:
        """Run all blocks whose packages are installed; return how many these are."""
        count = 0
        for example in self._document.examples():
            try:
                example.evaluate()
            except SkipTest:
                continue
            count += 1
        return count

    def write_files(self) -> list[str]:
        """Write the files of the page, and run nothing; return their names."""
        return [
            name
            for example in self._document.examples()
            if example.region.evaluator == self._python and (name := self._file(example))
        ]

    def _file(self, example: Example) -> str | None:
        named = FILE.search(self._document.text, 0, example.region.start)
        if named is None:
            return None
        (self._folder / named[1]).write_text(example.parsed)
        return named[1]

    def _python(self, example: Example) -> str | None:
        if self._file(example):
            return None
        if not example.parsed.startswith(">>>"):
            return PythonEvaluator()(example)
        test = doctest.DocTestParser().get_doctest(
            example.parsed, example.namespace, "session", example.path, example.line
        )
        found: list[str] = []
        runner = doctest.DocTestRunner(optionflags=FLAGS)
        runner.run(test, out=found.append, clear_globs=False)
        example.namespace.update(test.globs)
        return "".join(found) or None

    def _console(self, example: Example) -> str | None:
        lines = example.parsed.splitlines()
        commands = [line[2:] for line in lines if line.startswith("$ ")]
        if not commands:
            return None
        expected = "\n".join(line for line in lines if not line.startswith("$ "))
        if self._shell is None:
            self._shell = Shell(self._folder)
        return differs(f"{expected}\n", f"{self._shell.run(chr(10).join(commands)).rstrip()}\n")


def run_alone(path: Path, folder: Path) -> int:
    """Run a page in a process of its own, as a reader would; return how many blocks ran."""
    ran = subprocess.run(
        [sys.executable, __file__, path, folder],
        env=environment(),
        capture_output=True,  # apart: what is said at the end of the process is not the number
        text=True,
        check=False,
    )
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
    return int(ran.stdout.splitlines()[-1])


def main() -> None:
    """Run the page that the command line names."""
    _, path, folder = sys.argv
    with Page(Path(path), Path(folder)) as page:
        count = page.run()
    print(count)


if __name__ == "__main__":
    main()
