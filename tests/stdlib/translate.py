"""The interpreter's tests of multiprocessing, with imports of onecopy instead."""

import importlib.util
import re
from pathlib import Path

MODULE = "onecopy_test_multiprocessing"

_INSTALL = '''"""CPython's tests of multiprocessing for one start method."""
import {module} as suite
from stdlib.exclusions import apply

apply(suite)
suite.install_tests_in_module_dict(globals(), {method!r})
'''


def source_of_the_suite() -> Path | None:
    """Return where the interpreter has its tests; None: it has none (as Debian's)."""
    try:
        found = importlib.util.find_spec("test._test_multiprocessing")
    except ModuleNotFoundError:
        return None
    return None if found is None or found.origin is None else Path(found.origin)


def _import(found: re.Match[str]) -> str:
    module, alias = found[1], found[2] or ""
    if found[0].startswith("from"):
        return "from onecopy.multiprocessing"
    if module is None:
        return "from onecopy import multiprocessing" + alias
    whole = f"import onecopy.multiprocessing{module}{alias}"
    return whole if alias else f"from onecopy import multiprocessing; {whole}"


def translate(text: str) -> str:
    """Replace every import of multiprocessing, also in programs inside the code, with onecopy's."""
    text = re.sub(
        r"\bfrom multiprocessing\b|\bimport multiprocessing(\.\w+)?( as \w+)?(?=$|[;,'\"\s\\])",
        _import,
        text,
        flags=re.MULTILINE,
    )
    # Names of modules in strings: modules that are imported, and names that are patched.
    text = re.sub(
        r"(import_module\(|patch\()(\s*')multiprocessing\.", r"\1\2onecopy.multiprocessing.", text
    )
    return text.replace("test._test_multiprocessing", MODULE)


def module_for(method: str) -> str:
    """Name the module with the tests of a start method."""
    return f"onecopy_test_{method}"


def write(folder: Path, methods: tuple[str, ...]) -> None:
    """Write the translated suite and a module per start method."""
    source = source_of_the_suite()
    if source is None:
        raise FileNotFoundError("this interpreter has no test._test_multiprocessing")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{MODULE}.py").write_text(translate(source.read_text("utf-8")), "utf-8")
    for method in methods:
        text = _INSTALL.format(module=MODULE, method=method)
        (folder / f"{module_for(method)}.py").write_text(text, "utf-8")
