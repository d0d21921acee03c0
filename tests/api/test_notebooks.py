"""What notebooks show of pools, queues, streams and frames: `_repr_html_`."""

from __future__ import annotations

import base64
import re
import struct
from html.parser import HTMLParser

import numpy as np

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
