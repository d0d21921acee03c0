"""`tools/native_stub.py`: the native core's stub says what the built module has."""

import ast
import inspect
import runpy
from pathlib import Path

import pytest

from onecopy import _native

TOOL = runpy.run_path(str(Path(__file__).parents[2] / "tools" / "native_stub.py"))
STUB = Path(inspect.getfile(_native)).with_name("_native.pyi").read_text(encoding="utf-8")


def differences(text):
    said = TOOL["stub"](ast.parse(text).body)
    said.classes = {name: cls for name, cls in said.classes.items() if not name.startswith("_")}
    return TOOL["differences"](TOOL["built"](_native), said)


def test_the_stub_says_what_the_module_has():
    assert differences(STUB) == []


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("def leave_all() -> None: ...\n", "", "leave_all"),
        ("def leave_all()", "def leave()", "leave"),
        ("SEGMENT_PID_BITS: int\n", "", "SEGMENT_PID_BITS"),
        ("def birth_ns(fd: int)", "def birth_ns(file: int)", "birth_ns"),
        ("def birth_ns(fd: int)", "def birth_ns(fd: int, /)", "birth_ns"),
        ("def birth_ns(fd: int)", "def birth_ns(*, fd: int)", "birth_ns"),
        ('(proc: str = "/proc")', '(proc: str = "/sys")', "memory_limit"),
        ('(proc: str = "/proc")', "(proc: str)", "memory_limit"),
        ("    def qsize(self) -> int: ...\n", "", "QueueBase.qsize"),
        ("def shutdown(self, immediate: bool = False)", "def shutdown(self)", "QueueBase.shutdown"),
        ("def get_value(self)", "def value(self)", "SemaphoreBase.get_value"),
        (
            "    @property\n    def n_waiting(self) -> int: ...\n",
            "    def n_waiting(self) -> int: ...\n",
            "ConditionBase.n_waiting",
        ),
        ("    @staticmethod\n    def create(", "    def create(self, ", "Member.create"),
        (
            "    _as_standard: bool\n",
            "    @property\n    def _as_standard(self): ...\n",
            "QueueBase",
        ),
        ("class FramesBase(Generic[_Scalar])", "class FramesBase", "FramesBase"),
        ("class MappedMemory:", "class Mapped:", "MappedMemory"),
        (
            "key: _K, default: None = None) -> _V | None",
            "key: _K, default: None) -> _V",
            "DictBase",
        ),
        ("key: _K, default: _V | _Otherwise", "key: _K, other: _V", "DictBase.get"),
    ],
)
def test_a_difference_is_found(old, new, place):
    assert old in STUB
    found = differences(STUB.replace(old, new, 1))
    assert any(each.startswith(place) for each in found), found


def test_the_generated_stub_is_python_and_agrees_with_the_module():
    real = TOOL["built"](_native)
    text = "\n".join(TOOL["generate"](real))
    again = TOOL["stub"](ast.parse(text).body)
    assert set(again.classes) == set(real.classes)
    assert again.functions.keys() == real.functions.keys()
