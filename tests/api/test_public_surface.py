"""The names that users rely on, as Python and type checkers see them, and what importing costs."""

import importlib
import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import onecopy as oc
from onecopy._core.arguments import Elsewhere

MODULES = {module.name for module in pkgutil.iter_modules(oc.__path__)}
FACE = {name for name in dir(oc) if not name.startswith("_")} - MODULES
CLASSES = sorted(name for name in FACE if isinstance(getattr(oc, name), type))
# Attributes of instances alone: type checkers see them in `__init__`; the class has none.
OF_INSTANCES = {
    "CrashLoop": {"worker"},
    "TLS": {"cafile", "certfile", "keyfile"},  # fields without a default
    "WorkerGroup": {"name"},
}
# What `import onecopy` may load beyond numpy: small modules of the standard library.
LIGHT = {"__future__", "_heapq", "_queue", "atexit", "heapq", "queue", "threading"}


def test_the_public_names():
    """What `dir` lists is what `from onecopy import *` takes; and each name is there."""
    assert len(oc.__all__) == len(set(oc.__all__))
    assert set(oc.__all__) == FACE
    assert all(hasattr(oc, name) for name in FACE)


def test_no_public_name_hides_a_module():
    assert set(oc.__all__) & MODULES == set()


@pytest.fixture(scope="module", params=["mypy", "pyright"])
def seen(request):
    """Names that a type checker sees, by module and class. `make lint` has the type checkers."""
    pytest.importorskip(request.param)
    program = Path(__file__).with_name("checkers.py")
    done = subprocess.run(
        [sys.executable, program, request.param],
        cwd=program.parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.timeout(900)  # without a cache mypy reads all of numpy's stubs first
def test_type_checkers_see_the_names_of_the_package(seen):
    assert set(seen["onecopy"]) == FACE


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", CLASSES)
def test_type_checkers_see_the_names_of_a_class(seen, name):
    """As far as this package defines them: what the bases of others have is theirs to tell."""
    ours = [cls for cls in getattr(oc, name).__mro__ if cls.__module__.startswith("onecopy.")]
    there = {
        name
        for cls in ours
        for name, value in vars(cls).items()
        if not name.startswith("_") and not isinstance(value, Elsewhere)
    }
    told = {
        name
        for cls in ours
        for name in seen.get(f"{cls.__module__}.{cls.__qualname__}", ())
        if name.isidentifier()  # mypy has other entries of its own
    }
    assert told == there | OF_INSTANCES.get(name, set())


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("file", ["generics.py", "tasks.py"])
@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_type_checkers_see_the_types_of_messages(checker, file):
    """Both agree with each `assert_type` in this file, which is never run."""
    pytest.importorskip(checker)
    program = Path(__file__).parents[1] / "typing" / file
    done = subprocess.run(
        [sys.executable, "-m", checker, program],
        cwd=program.parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_type_checkers_know_the_types_of_what_is_public(tmp_path):
    """At least 99 of 100 types, as pyright counts them in the installed package."""
    pytest.importorskip("pyright")
    beside = {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    done = subprocess.run(
        [
            *[sys.executable, "-m", "pyright", "--verifytypes", "onecopy"],
            *["--ignoreexternal", "--outputjson"],
        ],
        cwd=tmp_path,  # in the project it would find the sources
        env=os.environ | beside,  # it asks the Python that is found first
        capture_output=True,
        text=True,
        check=False,
    )
    counts = json.loads(done.stdout)["typeCompleteness"]
    unknown = [
        each["name"]
        for each in counts["symbols"]
        if each["isExported"] and not (each["isTypeKnown"] and not each["isTypeAmbiguous"])
    ]
    assert counts["exportedSymbolCounts"]["withKnownType"] > 1000
    assert counts["completenessScore"] >= 0.99, unknown


@pytest.mark.parametrize("name", sorted(FACE))
def test_each_public_name_has_a_docstring(name):
    assert getattr(oc, name).__doc__


def test_modules_export_what_they_define():
    for module in pkgutil.iter_modules(oc.__path__, "onecopy."):
        if not module.ispkg and module.name != "onecopy._native":
            loaded = importlib.import_module(module.name)
            assert set(getattr(loaded, "__all__", ())) <= set(vars(loaded)), module.name


def test_import_is_light():
    program = (
        "import sys, json, numpy; before = set(sys.modules); import onecopy;"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True
    )
    loaded = {name for name in json.loads(done.stdout) if name.partition(".")[0] != "onecopy"}
    assert loaded - LIGHT == set()
    assert done.stderr == ""


def test_import_makes_nothing(pool_directory):
    subprocess.run([sys.executable, "-c", "import onecopy"], check=True)
    assert list(pool_directory.iterdir()) == []
