"""What notebooks show of pools, queues, streams, frames and references: `_repr_html_`."""

from __future__ import annotations

import base64
import re
import struct
from dataclasses import dataclass
from html.parser import HTMLParser

import numpy as np
import pytest

import onecopy as oc

HOSTILE = "<script>alert('1')</script>&"


class Page(HTMLParser):
    """The tags, texts and pictures of some HTML."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.pictures = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag == "img":
            source = dict(attributes)["src"]
            self.pictures.append(base64.b64decode(source.removeprefix("data:image/png;base64,")))

    def handle_data(self, data):
        self.texts.append(data)


def cells(thing):
    texts = Page(thing._repr_html_()).texts
    return texts[0], dict(zip(texts[1::2], texts[2::2], strict=False))


def test_a_pool(pool):
    pool["a picture"] = np.zeros((1000, 1000), "u1")
    title, table = cells(pool)
    assert title == f"Pool {pool.name!r}"
    assert re.fullmatch(r"9\d\d\.\d KiB of 64\.0 MiB", table["in use"])
    assert table["processes"] == "1 of 512"
    assert any("a picture" in name for name in table)


def test_a_queue(pool):
    queue = pool.queue("jobs", maxsize=5)
    queue.put(1)
    assert cells(queue) == (
        "Queue 'jobs'",
        {"messages": "1", "room for": "5", "redelivers": "no", "shut down": "no"},
    )
    assert queue.get() == 1
    assert cells(pool.queue(maxsize=0))[1]["room for"] == "any number"


def test_frames(pool):
    frames = pool.frames("cam", (48, 64, 3), "u1", 4)
    frame = frames.acquire()
    assert cells(frames) == (
        "Frames 'cam'",
        {"free": "3 of 4", "shape": "(48, 64, 3)", "dtype": "uint8"},
    )
    del frame


def test_a_stream_with_its_newest_picture(pool):
    stream = pool.stream("live", depth=4)
    assert cells(stream)[1]["published"] == "0"
    assert Page(stream._repr_html_()).pictures == []
    stream.publish({"id": 7, "image": np.full((40, 30, 3), 9, "u1")})
    page = Page(stream._repr_html_())
    (picture,) = page.pictures
    assert picture.startswith(b"\x89PNG")
    assert struct.unpack(">II", picture[16:24]) == (30, 40)
    assert any("'id': 7" in text for text in page.texts)
    stream.publish("no picture")
    page = Page(stream._repr_html_())
    assert page.pictures == []
    assert "'no picture'" in page.texts


def test_showing_a_stream_holds_nothing(pool):
    stream = pool.stream(depth=1)
    stream.publish(np.zeros((1000, 1000), "u1"))
    stream._repr_html_()
    stream.publish(1)
    assert pool.stats().used < 1_000_000


def test_names_and_messages_are_text(pool):
    stream = pool.stream(HOSTILE)
    stream.publish(HOSTILE)
    pool.queue(HOSTILE).put(1)
    pool[HOSTILE] = np.zeros(1000)
    for thing in (stream, pool.queue(HOSTILE), pool):
        page = Page(thing._repr_html_())
        assert set(page.tags) <= {"div", "strong", "table", "tr", "th", "td", "code"}
        assert any("<script>" in text for text in page.texts)


def test_what_is_closed_is_shown_by_its_repr():
    with oc.Pool.create(f"notebook-{id(object())}", size="1MiB") as pool:
        things = [pool, pool.queue(), pool.stream(), pool.frames(None, (2,), "u1", 1)]
    assert [thing._repr_html_() for thing in things] == [None] * 4


class TestReferences:
    """`Ref._repr_html_` builds little, runs no pickle, and never raises."""

    def test_a_picture(self, pool):
        page = Page(pool.put(np.full((40, 30, 3), 9, "u1"))._repr_html_())
        (picture,) = page.pictures
        assert struct.unpack(">II", picture[16:24]) == (30, 40)
        assert page.texts == [
            *("Ref", "type", "ndarray", "shape", "(40, 30, 3)", "dtype", "uint8"),
            *("size", "3.5 KiB", "pool", repr(pool.name)),
        ]

    def test_an_array_that_is_no_picture(self, pool):
        page = Page(pool.put(np.zeros(100, [("x", "i4"), ("y", "f8")]))._repr_html_())
        assert page.pictures == []
        assert "[('x', '<i4'), ('y', '<f8')]" in page.texts

    def test_a_container_with_a_picture(self, pool):
        page = Page(pool.put({"id": 7, "image": np.zeros((40, 30), "u1")})._repr_html_())
        assert len(page.pictures) == 1
        assert page.texts[:3] == ["Ref", "type", "dict"]
        assert any("'id': 7" in text for text in page.texts)

    @pytest.mark.parametrize("value", [None, 7, "short", b"short", (1, 2), [1], {3}])
    def test_small_values(self, pool, value):
        title, table = cells(pool.put(value))
        assert title == "Ref"
        assert table["type"] == type(value).__name__
        assert repr(value) in Page(pool.put(value)._repr_html_()).texts

    def test_a_table(self, pool):
        pandas = pytest.importorskip("pandas")
        table = cells(pool.put(pandas.DataFrame({"a": np.arange(1000), "b": 1.0})))[1]
        assert (table["type"], table["shape"]) == ("DataFrame", "(1000, 2)")
        assert "dtype" not in table

    def test_markup_is_text(self, pool):
        page = Page(pool.put([HOSTILE])._repr_html_())
        assert set(page.tags) <= {"div", "strong", "table", "tr", "th", "td", "code"}
        assert any("<script>" in text for text in page.texts)

    @pytest.mark.parametrize("kind", ["pickled", "inside", "dtype"])
    def test_no_pickle_is_run(self, pool, kind):
        value = Exploding()
        if kind == "inside":
            value = {"image": np.zeros((40, 30), "u1"), "other": value}
        elif kind == "dtype":
            value = np.zeros((40, 30), np.dtype("u1", metadata={"other": value}))
        ref = pool.put(value)
        Exploding.built = 0
        page = Page(ref._repr_html_())
        assert Exploding.built == 0
        assert page.texts[2] == "any: it was pickled, and ref.get() unpickles it"
        ref.get()
        assert Exploding.built == 1  # so the test would have noticed

    @pytest.mark.parametrize(
        ("value", "kind"),
        [
            ("x" * 10_000, "str"),
            (b"x" * 10_000, "bytes"),
            (list(range(100, 100_000)), "a large container or object, which ref.get() builds"),
        ],
        ids=["str", "bytes", "list"],
    )
    def test_what_is_long_is_not_built(self, pool, value, kind):
        assert cells(pool.put(value))[1]["type"] == kind

    def test_an_object_that_cannot_be_built(self, pool, monkeypatch):
        ref = pool.put(Point(1, 2))
        assert cells(ref)[1]["type"] == "Point"
        monkeypatch.delattr(f"{__name__}.Point")
        assert cells(ref)[1]["type"] == "cannot be built here: AttributeError"

    def test_showing_holds_nothing(self, pool):
        ref = pool.put({"image": np.zeros((1000, 1000), "u1")})
        ref._repr_html_()
        ref.release()
        assert pool.stats().used < 1_000_000
        assert ref._repr_html_() is None


class Exploding:
    """Counts how often it is unpickled."""

    built = 0

    def __reduce__(self):
        return Exploding.build, ()

    @classmethod
    def build(cls):
        cls.built += 1
        return cls()


@dataclass
class Point:
    x: int
    y: int
