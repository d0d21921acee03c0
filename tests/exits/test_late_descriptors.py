"""What workers hold is closed also when the interpreter has cleared their modules already."""

import os

import pytest

from onecopy._workers import bells, parents


def a_bell():
    bell = bells.Bell()
    return bell, bell.fileno()


def a_parent():
    parent = parents.Parent()
    return parent, parent.descriptor


KINDS = {"bell": (bells, a_bell), "parent": (parents, a_parent)}


@pytest.mark.parametrize("kind", KINDS)
def test_descriptors_are_closed(kind, monkeypatch):
    module, make = KINDS[kind]
    holder, descriptor = make()
    os.fstat(descriptor)
    monkeypatch.setattr(module, "os", None)
    del holder  # an error in `__del__` would be a warning, and so an error of this test
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
