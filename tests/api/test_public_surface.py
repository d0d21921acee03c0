"""The names that users rely on, and the cost of importing them."""

import importlib
import json
import pkgutil
import subprocess
import sys

import pytest

import onecopy as oc

FACE = {
    "BadFile",
    "Barrier",
    "BoundedSemaphore",
    "Closed",
    "Condition",
    "CrashLoop",
    "Dict",
    "Event",
    "Executor",
    "Frames",
    "List",
    "Lock",
    "MappedArray",
    "Message",
    "NotRebuilt",
    "OneCopyError",
    "OwnerDied",
    "OwnerDiedWarning",
    "Pool",
    "PoolCorrupted",
    "PoolExists",
    "PoolFull",
    "PoolNotFound",
    "PoolStats",
    "PoolVersionError",
    "Queue",
    "RLock",
    "RWLock",
    "Ref",
    "Semaphore",
    "SharedArray",
    "ShutDown",
    "StaleRef",
    "Stream",
    "Subscription",
    "Untrusted",
    "Value",
    "Worker",
    "WorkerGroup",
    "array",
    "default_pool",
    "empty",
    "open_array",
    "open_table",
    "put",
    "shared_array",
    "supervise",
    "writable_copy",
    "zeros",
}
# What `import onecopy` may load beyond numpy: small modules of the standard library.
LIGHT = {"__future__", "_heapq", "_queue", "atexit", "heapq", "queue", "threading"}


def test_the_public_names():
    assert set(oc.__all__) == FACE
    assert len(oc.__all__) == len(FACE)


def test_no_other_public_name_but_modules():
    modules = {module.name for module in pkgutil.iter_modules(oc.__path__)}
    public = {name for name in vars(oc) if not name.startswith("_")}
    assert public - modules - FACE == set()


def test_no_public_name_hides_a_module():
    assert FACE & {module.name for module in pkgutil.iter_modules(oc.__path__)} == set()


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
