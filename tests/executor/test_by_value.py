"""Lambdas, and functions of notebooks and interactive sessions: by value, with cloudpickle."""

import subprocess
import sys

import pytest

import onecopy as oc
from executor import calls
from onecopy._workers import packing

pytestmark = pytest.mark.one_in(2)

pytest.importorskip("cloudpickle")


def test_lambdas_and_functions_within_functions(pool, context):
    factor = 3

    def times(number):
        return number * factor

    with oc.Executor(2, pool, context, initializer=lambda: None) as executor:
        assert executor.submit(lambda number: number + factor, 4).result(60) == 7
        assert list(executor.map(times, range(4))) == [0, 3, 6, 9]
        assert executor.submit(calls.same, times).result(60)(5) == 15
        assert executor.submit(lambda: lambda: 8).result(60)() == 8


def test_what_has_a_name_goes_by_its_name(executor):
    assert executor.submit(calls.same, calls.pid).result(60) is calls.pid


SESSION = """
import multiprocessing, onecopy as oc
base = 10
def add(number):
    return base + number
class Point:
    def __init__(self, x): self.x = x
    def __eq__(self, other): return type(other) is Point and other.x == self.x
def moved(point): return Point(point.x + 1)
for method in ("fork", "spawn", "forkserver"):
    context = multiprocessing.get_context(method)
    ex = oc.Executor(1, mp_context=context, initializer=add, initargs=(1,))
    assert ex.submit(add, 1).result(60) == 11
    base = 20
    def add(number):
        return base - number

    assert ex.submit(add, 1).result(60) == 19, "what was defined last"
    assert ex.submit(moved, Point(1)).result(60) == Point(2)
    assert list(ex.map(add, range(2))) == [20, 19]
    ex.shutdown()
    base = 10
    def add(number):
        return base + number

print("all right")
"""
MISSING = """
import sys
sys.modules["cloudpickle"] = sys.modules["joblib.externals.cloudpickle"] = None
import multiprocessing, onecopy as oc
ex = oc.Executor(1, mp_context=multiprocessing.get_context("spawn"))
def typed():
    return 1

for function, error in ((lambda: 1, Exception), (typed, oc.NotRebuilt)):
    try:
        ex.submit(function).result(60)
    except error as told:
        assert "pip install 'onecopy[cloudpickle]'" in str(told), told
    else:
        raise SystemExit("no error")

assert ex.submit(abs, -1).result(60) == 1
ex.shutdown()
print("all right")
"""


@pytest.mark.parametrize("session", [SESSION, MISSING], ids=["with", "without"])
@pytest.mark.parametrize("kind", ["-c", "-i"])
def test_an_interactive_session(session, kind):
    arguments = {"-c": ["-c", session], "-i": ["-i", "-q"]}[kind]
    done = subprocess.run(
        [sys.executable, *arguments],
        input="" if kind == "-c" else session.replace("\n    print", "\nprint"),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert "all right" in done.stdout, done.stderr
    assert "resource_tracker" not in done.stderr


def test_the_error_when_it_is_missing(pool, monkeypatch):
    monkeypatch.setattr(packing, "value_picklers", lambda: None)
    with oc.Executor(1, pool) as executor:
        with pytest.raises(AttributeError, match=r"onecopy\[cloudpickle\]"):
            executor.submit(lambda: 1).result(60)
        with pytest.raises(TypeError, match="cannot pickle") as caught:
            executor.submit(calls.same, (number for number in range(3))).result(60)
        assert "cloudpickle" not in str(caught.value)
