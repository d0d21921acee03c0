"""Slices of the campaigns of damaged messages and handles."""

from __future__ import annotations

import os
import pickle
import random

import messages
import numpy as np
import packed
import pytest
import segments
import typed
from forks import in_child
from handles import parts
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from seeds import SEED, more

import onecopy as oc


@pytest.mark.seeded
def test_a_slice_of_the_campaign(pool_directory):
    print(f"seed {SEED}")
    done, _, failures = messages.campaign(str(pool_directory), more(8000), SEED)
    assert not failures, f"seed {SEED}, {done} rounds:\n" + "\n".join(failures)


@pytest.mark.seeded
def test_a_slice_of_the_campaign_of_containers(pool_directory):
    done, _, failures = packed.campaign(str(pool_directory), more(20_000), SEED)
    assert not failures, f"seed {SEED}, {done} rounds:\n" + "\n".join(failures)


@pytest.mark.seeded
def test_a_slice_of_the_campaign_of_typed_messages(pool_directory):
    done, _, failures = typed.campaign(str(pool_directory), more(5000), SEED)
    assert not failures, f"seed {SEED}, {done} rounds:\n" + "\n".join(failures)


def any_message(mode):
    rig = messages.Rig(mode)

    @settings(max_examples=more(400), deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        tag=st.integers(0, 20),
        body=st.binary(max_size=231),
        child=st.booleans(),
        envelope=st.booleans(),
    )
    def check(tag, body, child, envelope):
        rig.forgive()
        raw = bytes([tag]) + body
        if envelope:
            # Its block has the length of the message that it was made for.
            reference = rig.pool.put(rig.child if child else "x" * 220)
            at = rig.data_of(reference.handle)
            rig.write(at, len(raw).to_bytes(4, "little"))
            raw = raw[:48] if child else raw
            rig.write(at + 16, raw)
            rig.open(reference, at + 16)
        else:
            at, _, _ = rig.send(rig.child if child else 1)
            rig.write(at - 8, len(raw).to_bytes(4, "little"))
            rig.write(at, raw)
            rig.take(at)

    check()
    rig.close()


@pytest.mark.parametrize("mode", [0o600, 0o666])
def test_any_bytes_are_a_value_or_refused(mode):
    assert in_child(any_message, mode) is None


def test_nonsense_marks_the_pool(pool_directory):
    rig = messages.Rig(0o600)
    message, _, _ = rig.send(7)
    rig.write(message, b"\xff")
    with pytest.raises(oc.PoolCorrupted, match="makes no sense"):
        rig.channel.get(timeout=0)
    for use in (
        lambda: rig.channel.put(1),
        lambda: rig.pool.put(1),
        lambda: rig.pool["x"],
        rig.pool.collect,
        lambda: oc.Pool.open(rig.pool.name),
    ):
        with pytest.raises(oc.PoolCorrupted):
            use()
    assert rig.child.sum() == 499_500  # objects that this process has can be read still
    assert "pool: it was marked corrupt" in rig.pool.validate()
    rig.child = None
    rig.close()


# ---------------------------------------------------------------------------------------- handles

CLAIMS = ("ref", "queue", "stream", "frames", "shared")


def wrong_handles(seed):
    numbers = random.Random(seed)  # noqa: S311 - reproducible
    with oc.Pool.create(size="16MiB") as pool:
        originals = {
            "ref": pool.put(np.arange(1000)),
            "queue": pool.queue(),
            "stream": pool.stream(),
            "frames": pool.frames(None, (10,), "f4", 2),
            "shared": pool.shared_array((100,), "f8"),
        }
        keep = [pool.put({"a": np.arange(300)}), pool.put("x" * 500)]
        top = 24
        for original in originals.values():
            rebuild, arguments = parts(pickle.dumps(original))
            for number in messages.wrong_numbers(numbers, top):
                value = segments.attempt(rebuild, arguments[0], number, *arguments[2:])
                use_what_came(value)
            for handle in wrong_pools(arguments[0]):
                value = segments.attempt(rebuild, handle, *arguments[1:])
                use_what_came(value)
        assert pool.validate() == []
        pool.put(1).release()
        del keep, originals, original, arguments, value


def use_what_came(value):
    if isinstance(value, oc.Ref):
        segments.attempt(value.get)
    elif isinstance(value, np.ndarray):
        value.tobytes()
    elif value is not None:
        repr(value)


def wrong_pools(handle):
    identity, path, default, device, inode = handle
    yield from (
        None,
        (),
        (1, 2, 3),
        (identity, path),
        (identity, path, default),
        (*handle, 1),
        b"",
        handle[::-1],
    )
    # In this process id and file are enough; the path matters where the pool is not joined yet.
    flipped = bytes([identity[0] ^ 1]) + identity[1:]
    for where in (
        path,
        "",
        "/",
        "relative",
        "/nonexistent/a",
        path + "/",
        path + "\0",
        os.devnull,
        "/proc",
        "/" + "x" * 5000,
    ):
        for who in (flipped, bytes(16), b"short", None):
            yield who, where, default, device, inode
            yield who, where, default, 0, 0
    yield identity, 7, default, device, inode
    yield identity, path, "yes", device, inode
    yield identity, path, default, device, "1"
    yield identity, path, default, None, inode
    yield identity, path, default, device, inode + 1  # that of a copy


def test_wrong_handles_are_stale_or_not_found():
    print(f"seed {SEED}")
    assert in_child(wrong_handles, SEED) is None


@pytest.mark.parametrize("name", ["queue", "stream", "frames", "shared", "ref"])
def test_a_handle_of_something_else_is_stale(pool, name):
    things = {
        "ref": pool.put(np.arange(10)),
        "queue": pool.queue(),
        "stream": pool.stream(),
        "frames": pool.frames(None, (10,), "f4", 2),
        "shared": pool.shared_array((100,), "f8"),
    }
    rebuild, arguments = parts(pickle.dumps(things[name]))
    for other, thing in things.items():
        if other == name or {other, name} == {"ref", "shared"}:
            continue
        number = parts(pickle.dumps(thing))[1][1]
        with pytest.raises(oc.StaleRef):
            rebuild(arguments[0], number, *arguments[2:])
    assert pool.validate() == []


@pytest.mark.parametrize("number", [-1, 0, 1 << 64, 1 << 200, (1 << 64) - 1])
def test_numbers_that_were_never_handles(pool, number):
    for get in (pool.member.hold, pool.member.ref, pool.member.lease):
        with pytest.raises(oc.StaleRef):
            get(number)
    assert pool.validate() == []


def spoilt_pickles(seed):
    numbers = random.Random(seed)  # noqa: S311 - reproducible
    with oc.Pool.create(size="16MiB") as pool:
        # Not of a shared array: its pickle has a dtype, and a damaged dtype crashes numpy itself.
        for original in (pool.put([1, 2]), pool.queue(), pool.stream(), pool):
            data = pickle.dumps(original)
            for _ in range(2000):
                try:
                    value = pickle.loads(messages.spoil(data, numbers))
                except Exception:  # noqa: BLE001, S112 - a pickle may raise anything
                    continue
                segments.attempt(lambda value=value: use_what_came(value))
        assert "pool: it was marked corrupt" not in pool.validate()
        del original, value


@pytest.mark.seeded
def test_spoilt_pickles_end_in_an_exception():
    print(f"seed {SEED}")
    assert in_child(spoilt_pickles, SEED) is None
