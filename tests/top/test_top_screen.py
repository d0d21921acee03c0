"""The screen of `onecopy top`, driven by textual's pilot."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
import shapes

import onecopy as oc
from onecopy.observer.several import Watch

pytest.importorskip("textual")
from onecopy.top.app import Top

SIZES = [(80, 24), pytest.param((40, 12), marks=pytest.mark.check)]


class Played:
    """Looks that a test makes by hand."""

    def __init__(self, *looks):
        self.looks = list(looks)

    def look(self):
        if isinstance(self.looks, Exception):
            raise self.looks
        return self.looks


def play(scenario, watch, size=(80, 24), start="pools"):
    """Run a scenario with an app that looks only when it is asked to."""

    async def run():
        app = Top(watch, 3600.0, start)
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await look(app, pilot)
            await scenario(app, pilot)
        return app.return_value

    return asyncio.run(run())


async def look(app, pilot):
    while app._looking:  # the first look, in its thread
        await pilot.pause()
    await app.look()
    await pilot.pause()


async def opened(app, pilot):
    """Wait until a page is there: it is made in another thread."""
    while not app._page:
        await pilot.pause()
    await pilot.pause()


def screen(app):
    """Return the text on the screen, line by line."""
    return [strip.text.rstrip() for strip in app.screen._compositor.render_strips()]


def column(app, key):
    return [row.cells[key].text for row in app._rows]


def factory(**changes):
    jobs = shapes.queue(1, "jobs", open_in=(0, 1), depth=3)
    known = {
        "queues": (jobs, shapes.queue(2, "results", depth=9)),
        "locks": (shapes.lock(3, "mutex"),),
        "processes": (
            shapes.process(0, waits=(shapes.wait(jobs, "put", 9.0, thread=1000),)),
            shapes.process(1, state="stopped"),
        ),
    }
    return shapes.look(**(known | changes))


@pytest.mark.parametrize("size", SIZES)
def test_drill_down_and_back(size):
    async def scenario(app, pilot):
        assert column(app, "pool") == ["factory", "second"]
        await pilot.press("enter")
        await pilot.pause()
        assert column(app, "name") == ["jobs", "results", "mutex"]
        await pilot.press("tab")
        await pilot.pause()
        assert column(app, "pid") == ["1000", "1001"]
        await pilot.press("tab", "enter")
        await opened(app, pilot)
        text = " ".join(" ".join(screen(app)).split())
        assert "onecopy top > queue 'jobs'" in text
        page = " ".join(line.text for line in app._page)
        assert "1000 (worker0.py): put, for 9.0 s" in page
        assert "-> 1001 (worker1.py) is stopped" in page
        await pilot.press("escape")
        await pilot.pause()
        assert column(app, "name") == ["jobs", "results", "mutex"]
        await pilot.press("escape", "escape")
        await pilot.pause()
        assert column(app, "pool") == ["factory", "second"]

    play(scenario, Played(factory(), shapes.look("second")), size)


OTHER_SIZES = [pytest.param(size, marks=pytest.mark.slow) for size in ((12, 5), (200, 60))]


@pytest.mark.parametrize("size", [*SIZES, *OTHER_SIZES])
def test_the_screen_fits_names_are_not_markup_and_keys_are_shown(size):
    hostile = tuple(shapes.queue(i, name) for i, name in enumerate(shapes.HOSTILE, 1))

    async def scenario(app, pilot):
        for kind in ("channels", "processes", "pools"):
            assert app.view.kind == kind
            shown = screen(app)
            assert len(shown) == size[1]
            assert shown[0].startswith("onecopy top"[: size[0] - 1])
            assert all(line.isprintable() for line in shown)
            if size[0] >= 40:
                assert "Quit" in shown[-1]
                assert "View" in shown[-1]
            if size[0] >= 80 and kind == "channels":
                assert "[red]x[/red]" in "\n".join(shown)
                assert "\\x1b[31m" in "\n".join(shown)
            await pilot.press("tab")
            await pilot.pause()
        await pilot.press("enter")
        await opened(app, pilot)

    watch = Played(shapes.look(queues=hostile), shapes.lost(problem="[red]\n"))
    play(scenario, watch, size, "channels")


def test_sorting_by_keys_and_by_the_mouse():
    async def scenario(app, pilot):
        assert column(app, "name") == ["jobs", "results", "mutex"]
        while app._sorting().key != "load":
            await pilot.press("greater_than_sign")
            await pilot.pause()
        assert column(app, "name") == ["results", "jobs", "mutex"]
        assert "LOAD▼" in screen(app)[1]
        await pilot.press("r")
        await pilot.pause()
        assert column(app, "name") == ["jobs", "results", "mutex"]
        assert "LOAD▲" in screen(app)[1]
        await pilot.press("less_than_sign")
        await pilot.pause()
        assert app._sorting().key == "full"
        at = screen(app)[1].index("NAME")
        await pilot.click("#table", offset=(at, 0))
        await pilot.pause()
        assert app._sorting().key == "name"
        assert column(app, "name") == ["jobs", "mutex", "results"]
        await pilot.click("#table", offset=(at, 0))
        await pilot.pause()
        assert column(app, "name") == ["results", "mutex", "jobs"]

    play(scenario, Played(factory()), start="channels")


def test_the_filter():
    async def scenario(app, pilot):
        await pilot.press("slash", *"resq")
        await pilot.pause()
        assert column(app, "name") == []
        assert any("No row has this text." in line for line in screen(app))
        await pilot.press("backspace")
        await pilot.pause()
        assert column(app, "name") == ["results"]
        await pilot.press("enter")
        await pilot.pause()
        assert "filter 'res'" in screen(app)[0]
        await pilot.press("escape")
        await pilot.pause()
        assert column(app, "name") == ["jobs", "results", "mutex"]
        assert "filter" not in screen(app)[0]

    play(scenario, Played(factory()), start="channels")


def test_the_cursor_stays_on_its_row_when_others_come_and_go():
    def pool(*slots, **changes):
        return shapes.look(processes=tuple(shapes.process(slot, **changes) for slot in slots))

    watch = Played(pool(1, 2, 3))

    async def scenario(app, pilot):
        await pilot.press("down")
        await pilot.pause()
        assert app._row().cells["pid"].text == "1002"
        watch.looks = [pool(0, 1, 2, 3, 4)]
        await look(app, pilot)
        assert app._row().cells["pid"].text == "1002"
        kept = set(app._table.rows)
        watch.looks = [pool(0, 1, 2, 3, 4, state="dead")]
        await look(app, pilot)
        assert set(app._table.rows) == kept  # the numbers change in place
        assert " dead " in screen(app)[2]
        watch.looks = [pool(0)]
        await look(app, pilot)
        assert app._row().cells["pid"].text == "1000"
        watch.looks = [pool()]
        await look(app, pilot)
        assert app._row() is None
        assert any("No process is a member." in line for line in screen(app))

    play(scenario, watch, start="processes")


@pytest.mark.check
def test_512_processes():
    watch = Played(shapes.look(processes=tuple(map(shapes.process, range(512)))))

    async def scenario(app, pilot):
        assert len(app._rows) == 512
        await pilot.press("end")
        await pilot.pause()
        assert "1511" in "\n".join(screen(app))
        await look(app, pilot)
        assert app._row().cells["pid"].text == "1511"
        await pilot.press("enter")
        await opened(app, pilot)
        assert "1511 (worker511.py)" in screen(app)[0]

    play(scenario, watch, start="processes")


def test_pools_that_cannot_be_read_and_a_directory_that_cannot_be_listed():
    watch = Played(shapes.lost("a", "it is damaged"), factory())

    async def scenario(app, pilot):
        assert "it is damaged" in "\n".join(screen(app))
        await pilot.press("home", "enter")
        await pilot.pause()
        assert "it is damaged" in "\n".join(screen(app))
        watch.looks = PermissionError("others may write in it")
        await look(app, pilot)
        assert screen(app)[0].startswith("cannot look: others may write in it")
        watch.looks = []
        await look(app, pilot)
        await pilot.press("escape")
        await pilot.pause()
        assert "There is no pool." in "\n".join(screen(app))

    play(scenario, watch)


def test_a_pool_that_disappears():
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(oc.Pool.create("short-lived", size="4MiB"))
        pool.queue("jobs").put(1)

        async def scenario(app, pilot):
            await pilot.press("enter", "enter")
            await opened(app, pilot)
            assert "1 message can be taken" in "\n".join(screen(app))
            stack.close()
            while "gone" not in "\n".join(screen(app)):
                await look(app, pilot)
            await pilot.press("escape", "escape")
            await pilot.pause()
            assert column(app, "note") == ["the pool is gone"]
            with oc.Pool.create("short-lived", size="4MiB"):
                await look(app, pilot)
                assert column(app, "note") == [""]

        play(scenario, Watch())


def test_pause_and_quit():
    watch = Played()

    async def scenario(app, pilot):
        await pilot.press("space")
        await pilot.pause()
        assert "paused" in screen(app)[0]
        watch.looks = [factory()]
        app._tick()
        await pilot.pause()
        assert column(app, "pool") == []
        await pilot.press("space")
        app._tick()
        while app._looking:
            await pilot.pause()
        await pilot.pause()
        assert "paused" not in screen(app)[0]
        await pilot.press("q")

    assert play(scenario, watch) == 0


def test_ctrl_c_ends_while_a_filter_is_typed():
    async def scenario(app, pilot):
        await pilot.press("slash", "q", "ctrl+c")
        await pilot.pause()

    assert play(scenario, Played(factory())) == 130
