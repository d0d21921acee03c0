"""Which values the core pickles by itself, and rebuilds without calling other code."""

import numpy as np
import pytest

from onecopy._native import is_plain


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize(
    "value",
    [None, True, 7, 2**100, 1.5, 2j, "text", b"bytes", (), [1, (2, None)], {"a": [1], 2: "b"}],
)
def test_plain(value):
    assert is_plain(value)


@pytest.mark.parametrize(
    "value",
    [Text("x"), np.int64(3), np.ones(3), [object()], {"a": ValueError()}, {1}, list(range(100))],
)
def test_not_plain(value):
    assert not is_plain(value)
