"""Run the own test modules of Dask's distributed with onecopy.

    python tests/dask/distributed_suite.py --source CHECKOUT distributed/tests/test_queues.py

distributed is installed without its tests. CHECKOUT is a folder with its sources, at the tag of the
installed version. What runs is the installed package; only the tests come from there. Each frame of
one byte and more travels by place, in all schedulers, workers and nannies, and in clients of the
process that runs the tests. What fails is run again, with and without onecopy. It counts if it
fails twice with onecopy, and not without it. ``--plain`` runs all without onecopy.

Each module has a process of its own, in a network of its own: a loopback that is the default route,
too. So no test reaches another machine. The last line of the output is a JSON object with the
counts of each module, and with the names of what failed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from distributed_exclusions import EXCLUDED

QUICK = (
    "distributed/protocol/tests",
    "distributed/tests/test_batched.py",
    "distributed/tests/test_publish.py",
    "distributed/tests/test_queues.py",
    "distributed/tests/test_utils_comm.py",
    "distributed/tests/test_variable.py",
)
MODULES = (
    *QUICK,
    "distributed/comm/tests/test_comms.py",
    "distributed/shuffle/tests",
    "distributed/tests/test_actor.py",
    "distributed/tests/test_cancelled_state.py",
    "distributed/tests/test_client.py",
    "distributed/tests/test_client_executor.py",
    "distributed/tests/test_core.py",
    "distributed/tests/test_failed_workers.py",
    "distributed/tests/test_nanny.py",
    "distributed/tests/test_preload.py",
    "distributed/tests/test_spill.py",
    "distributed/tests/test_steal.py",
    "distributed/tests/test_stress.py",
    "distributed/tests/test_tls_functional.py",
    "distributed/tests/test_worker.py",
    "distributed/tests/test_worker_client.py",
    "distributed/tests/test_worker_memory.py",
)
ROLES = ("SCHEDULER", "WORKER", "NANNY")
ALONE = (
    "ip link set lo up && ip addr add 198.51.100.1/32 dev lo && ip route add default dev lo && "
    '(ip -6 addr add 2001:db8::1/128 dev lo; ip -6 route add default dev lo); exec "$@"'
)
PLUGIN = '''
"""What the suite adds to pytest: onecopy, exclusions, counts."""
import json
import os

counts = {"passed": 0, "skipped": 0, "xfailed": 0, "excluded": 0, "failed": [], "unknown": []}
excluded = json.loads(os.environ["SUITE_EXCLUDED"])

if os.environ["SUITE_ONECOPY"] == "yes":
    from onecopy.dask import sides

    assert sides.install()


def pytest_configure(config):
    # Of pytest-rerunfailures, which may be installed or not.
    config.addinivalue_line("markers", "flaky(**options): may fail")


def pytest_collection_modifyitems(config, items):
    kept, files, known = [], set(), set()
    for item in items:
        file = item.path.name
        files.add(file)
        names = {f"{file}::{item.name}", f"{file}::{item.name.partition('[')[0]}"} & set(excluded)
        known |= names
        if not names:
            kept.append(item)
    counts["excluded"] = len(items) - len(kept)
    counts["unknown"] = sorted(
        name for name in set(excluded) - known if name.partition("::")[0] in files
    )
    items[:] = kept


def pytest_runtest_logreport(report):
    if report.failed:
        if report.nodeid not in counts["failed"]:
            counts["failed"].append(report.nodeid)
    elif report.skipped and hasattr(report, "wasxfail"):
        counts["xfailed"] += 1
    elif report.skipped:
        counts["skipped"] += 1
    elif report.when == "call":
        counts["passed"] += 1


def pytest_unconfigure():
    if os.environ["SUITE_ONECOPY"] == "yes":
        import onecopy.dask

        counts["messages"] = onecopy.dask.counts.messages
    with open(os.environ["SUITE_COUNTS"], "w") as file:
        json.dump(counts, file)
'''


def write(source: Path, folder: Path) -> None:
    """Copy the installed package, and the tests of a checkout into it."""
    found = find_spec("distributed")
    assert found is not None
    assert found.origin is not None
    shutil.copytree(
        Path(found.origin).parent,
        folder / "distributed",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    tests = (path for path in (source / "distributed").rglob("tests") if path.is_dir())
    for path in tests:
        shutil.copytree(path, folder / path.relative_to(source), dirs_exist_ok=True)
    for name in ("conftest.py", "pyproject.toml", "distributed/pytest_resourceleaks.py"):
        shutil.copy(source / name, folder / name)
    (folder / "of_onecopy.py").write_text(PLUGIN, encoding="utf-8")


def environment(folder: Path, plain: bool) -> dict[str, str]:
    """Return the variables that make every process of the tests use one pool."""
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    memory = Path("/dev/shm")  # noqa: S108 - a folder of its own
    made = tempfile.mkdtemp(prefix="onecopy-suite-", dir=memory if memory.is_dir() else folder)
    common = {
        "PYTHONPATH": path,
        "ONECOPY_DIR": made,
        "SUITE_ONECOPY": "no" if plain else "yes",
        "SUITE_EXCLUDED": "[]" if plain else json.dumps(sorted(EXCLUDED)),
        "SUITE_COUNTS": str(folder / "counts.json"),
    }
    if plain:
        return common
    ours = {f"DASK_DISTRIBUTED__{role}__PRELOAD": '["onecopy.dask"]' for role in ROLES}
    settings = {"POOL": "suite", "SIZE": "1GiB", "THRESHOLD": "1"}
    return common | ours | {f"DASK_ONECOPY__{name}": value for name, value in settings.items()}


def run(names: list[str], folder: Path, plain: bool) -> dict[str, Any]:
    """Run modules, folders or tests in a process of their own; return the counts."""
    added = environment(folder, plain)
    counts = Path(added["SUITE_COUNTS"])
    counts.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    command += ["-p", "of_onecopy", "--timeout=120", "--timeout-method=signal"]
    try:
        done = subprocess.run(
            ["unshare", "--net", "sh", "-c", ALONE, "sh", *command, *names],
            cwd=folder,
            env=os.environ | added,
            stdout=sys.stderr,
            check=False,
        )
    finally:
        shutil.rmtree(added["ONECOPY_DIR"], ignore_errors=True)
    found: dict[str, Any] = {"failed": [], "unknown": []}
    if counts.exists():
        found = json.loads(counts.read_text(encoding="utf-8"))
    if done.returncode not in (0, 1):  # nothing was found, or the tests were interrupted
        found["failed"].append(f"pytest ended with {done.returncode}")
    return found


def compared(module: str, folder: Path) -> dict[str, Any]:
    """Run a module with onecopy; run again, with and without it, what fails."""
    found = run([module], folder, plain=False)
    failed = [name for name in found["failed"] if "::" in name]
    if failed:
        twice = run(failed, folder, plain=False)["failed"]
        without = run(failed, folder, plain=True)["failed"]
        found["failed once"] = [name for name in failed if name not in twice]
        found["fails without onecopy"] = [name for name in failed if name in without]
        known = {*found["failed once"], *found["fails without onecopy"]}
        found["failed"] = [name for name in found["failed"] if name not in known]
    return found


def main() -> int:
    """Run the modules that were given, or all; return 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--source", type=Path, required=True, help="a checkout of distributed")
    parser.add_argument("--plain", action="store_true", help="without onecopy")
    parser.add_argument("modules", nargs="*", default=MODULES, help="default: all")
    options = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory(prefix="distributed-suite-") as name:
        folder = Path(name)
        write(options.source, folder)
        for module in options.modules:
            plain = options.plain
            results[module] = run([module], folder, plain) if plain else compared(module, folder)
    print(json.dumps(results))
    return int(any(found["failed"] or found["unknown"] for found in results.values()))


if __name__ == "__main__":
    sys.exit(main())
