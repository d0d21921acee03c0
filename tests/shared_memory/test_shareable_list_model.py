"""A shareable list against a plain one: any items, any changes, and items that do not fit."""

import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from seeds import more

from onecopy.multiprocessing.shared_memory import ShareableList

SETTINGS = settings(
    max_examples=more(200), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)

borders = st.sampled_from([2**63 - 1, -(2**63), 2**63, -(2**63) - 1, 2**64, 0, -1])
texts = st.text(st.characters(), max_size=40) | st.sampled_from(["\0", "a\0\0", "é" * 8, "💡" * 4])
values = (
    st.none()
    | st.booleans()
    | st.integers(-(2**65), 2**65)
    | borders
    | st.floats(allow_nan=False)
    | texts
    | st.binary(max_size=40)
)


def size_of(value):
    """Bytes of a text or bytes; None: it has no such size, or cannot be encoded."""
    return len(value.encode()) if isinstance(value, str) else len(value)


def room_of(value):
    if not isinstance(value, str | bytes):
        return 8
    return max(8 * (len(value) // 8 + 1), -(-size_of(value) // 8) * 8)


def error_of(value, room):
    """Return why it cannot be stored."""
    if type(value) is int and not -(2**63) <= value < 2**63:
        return struct.error
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return UnicodeEncodeError
    if isinstance(value, str | bytes) and room is not None and size_of(value) > room:
        return ValueError
    return None


def same(one, other):
    return type(one) is type(other) and one == other


@SETTINGS
@given(st.lists(values, max_size=12), st.data())
def test_against_a_list(items, data):
    error = next(filter(None, (error_of(item, None) for item in items)), None)
    if error is not None:
        with pytest.raises(error):
            ShareableList(items)
        return
    model = list(items)
    rooms = [room_of(item) for item in items]
    shared = ShareableList(items)
    other = ShareableList(name=shared.shm.name)
    for _ in range(data.draw(st.integers(0, 12)) if items else 0):
        at = data.draw(st.integers(-len(items), len(items) - 1))
        value = data.draw(values)
        error = error_of(value, rooms[at])
        if error is None:
            shared[at] = model[at] = value
        else:
            with pytest.raises(error):
                shared[at] = value
        assert same(other[at], model[at])
    assert len(shared) == len(model)
    assert all(map(same, other, model))
    value = data.draw(st.sampled_from(model) if model else values)
    assert shared.count(value) == model.count(value)
    if value in model:
        assert other.index(value) == model.index(value)
    assert all(map(same, ShareableList(shared), model))
    assert struct.calcsize(shared.format) == sum(
        room if isinstance(value, str | bytes) else 8
        for room, value in zip(rooms, model, strict=True)
    )
    shared.shm.unlink()
