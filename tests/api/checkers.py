"""What type checkers know of the package: the public names, and those of each public class.

Run as a program: ``python tests/api/checkers.py mypy`` or ``pyright``. It prints JSON: for the
package (``""``) and for each module and class, by its full name, the public names defined in it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


def seen_by_mypy() -> dict[str, list[str]]:
    """Return the symbol tables of mypy itself: its command line has no way to print them."""
    from mypy import build
    from mypy.modulefinder import BuildSource
    from mypy.nodes import TypeInfo
    from mypy.options import Options

    options = Options()
    options.python_executable = sys.executable
    options.cache_dir = ".mypy_cache/names"
    done = build.build([BuildSource(None, "user", "import onecopy\n")], options)
    package = done.files["onecopy"].names
    seen = {
        "onecopy": [name for name, symbol in package.items() if symbol.module_public],
    }
    for symbol in package.values():
        if isinstance(symbol.node, TypeInfo):
            for base in symbol.node.mro:
                seen[base.fullname] = list(base.names)
    return seen


def seen_by_pyright() -> dict[str, list[str]]:
    """Return the list of ``pyright --verifytypes``, which uses the Python on the path."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--verifytypes", "onecopy", "--outputjson"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,  # it fails if any type is not complete, which does not matter here
    )
    seen: dict[str, list[str]] = {}
    for symbol in json.loads(done.stdout)["typeCompleteness"]["symbols"]:
        place, _, name = symbol["name"].rpartition(".")
        seen.setdefault(place, []).append(name)
    return seen


if __name__ == "__main__":
    found = {"mypy": seen_by_mypy, "pyright": seen_by_pyright}[sys.argv[1]]()
    public = {place: [n for n in names if n[0] != "_"] for place, names in found.items()}
    json.dump(public, sys.stdout)
