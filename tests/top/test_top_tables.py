"""What the tables and pages of `onecopy top` say, without a screen."""

from __future__ import annotations

import pytest
import shapes

from onecopy._core.lines import width
from onecopy.top.arrange import GAP, Sorting, drawn, filtered, fitted, ordered
from onecopy.top.cells import bar, rate
from onecopy.top.pages import page
from onecopy.top.plain import lines
from onecopy.top.tables import channels, pools, processes


def texts(table, *columns):
    return [tuple(row.cells[key].text for key in columns) for row in table.rows]


def only(table):
    (row,) = table.rows
    return {key: cell.text for key, cell in row.cells.items()}


# ---- what is shown ------------------------------------------------------------------------------


def test_a_pool():
    jobs = shapes.queue(1, "jobs", put_rate=3.0)
    waits = (shapes.wait(jobs, "get", 7.0), shapes.wait(jobs, "get", 2.0))
    look = shapes.look(
        queues=(jobs,),
        streams=(shapes.stream(2, "live", rate=4.0),),
        processes=(shapes.process(0, waits=waits), shapes.process(1, state="dead")),
    )
    row = only(pools([look]))
    assert row == {
        "pool": "factory",
        "full": "50%",
        "used": "512.0 KiB",
        "size": "1.0 MiB",
        "processes": "2",
        "channels": "2",
        "rate": "7.0",
        "waiting": "2",
        "longest": "7.0 s",
        "note": "1 dead",
    }


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"corrupt": True}, "marked corrupt"),
        ({"processes": ()}, "no process"),
        ({"processes": (shapes.process(0, state="dead"),)}, "all dead; onecopy gc"),
        ({"processes": (shapes.process(0, state="dead"),), "persistent": True}, "all dead"),
        ({"processes": (shapes.process(0, state="stopped"),)}, "1 stopped"),
        ({"truncated": True}, "too many channels to show all"),
        ({}, ""),
    ],
)
def test_what_is_special_of_a_pool(changes, note):
    assert only(pools([shapes.look(**changes)]))["note"] == note


def test_a_pool_that_cannot_be_read_is_a_row_with_the_reason():
    table = pools([shapes.look(), shapes.lost(problem="line 1\nline 2")])
    assert texts(table, "pool", "note") == [("factory", ""), ("broken", "line 1\\nline 2")]
    alone = [shapes.lost(problem="it is damaged")]
    assert channels(alone, with_pool=False).nothing == "it is damaged"
    assert processes(alone, with_pool=False).nothing == "it is damaged"
    assert pools([]).nothing == "There is no pool."


def test_channels():
    look = shapes.look(
        processes=(shapes.process(0), shapes.process(1)),
        queues=(
            shapes.queue(
                1,
                "jobs",
                depth=4,
                occupied=8,
                put=20,
                put_rate=2.5,
                taken_rate=0.0,
                oldest=3.0,
                producers_waiting=1,
                takers=(shapes.holder(0, "taker", 4),),
            ),
            shapes.queue(9, None, closed=True),
        ),
        streams=(shapes.stream(2, "live", subscribers=(shapes.subscriber(0, 8, 3),), published=9),),
        frames=(shapes.frames(3, "cam", out=6, free=2),),
        locks=(
            shapes.lock(4, "mutex", holders=(shapes.holder(1, seconds=2.0),), waiting=1),
            shapes.lock(5, None),
            shapes.lock(6, "gate", "semaphore", details={"value": 1, "initial": 4}),
            shapes.lock(7, "go", "event", details={"is_set": 1}),
            shapes.lock(
                8,
                "meet",
                "barrier",
                holders=(shapes.holder(0, "arrived"),),
                details={"parties": 2, "broken": 0},
            ),
        ),
    )
    table = channels([look], with_pool=False)
    assert "pool" not in {column.key for column in table.columns}
    assert texts(table, "kind", "name", "full", "load", "in", "out", "waiting", "note") == [
        (
            *("queue", "jobs", "50%", "4/16", "2.5", "0", "1"),
            "oldest > 3.0 s, 4 taken, not finished, 1 waiting to put",
        ),
        ("queue", "(block 9)", "0%", "0/16", "-", "-", "0", "shut down"),
        ("stream", "live", "100%", "8/8", "-", "-", "0", "lossy, 1 reader, missed 3"),
        ("frames", "cam", "75%", "6/8", "-", "-", "0", ""),
        ("lock", "mutex", "-", "-", "-", "-", "1", "held for 2.0 s by 1001 (worker1.py)"),
        ("semaphore", "gate", "75%", "3/4", "-", "-", "0", ""),
        ("event", "go", "-", "-", "-", "-", "0", "set"),
        ("barrier", "meet", "50%", "1/2", "-", "-", "0", ""),
    ]


def test_a_channel_that_cannot_be_read():
    look = shapes.look(queues=(shapes.queue(1, "jobs", readable=False),))
    row = only(channels([look], with_pool=False))
    assert (row["full"], row["note"]) == ("-", "cannot be read now")


def test_processes():
    jobs = shapes.queue(1, "jobs")
    look = shapes.look(
        processes=(
            shapes.process(0, waits=(shapes.wait(jobs, "get", 3.0),)),
            shapes.process(1, state="dead", command=None),
            shapes.process(2, same_namespace=False, more_may_wait=True),
        )
    )
    rows = texts(processes([look], with_pool=True), "pid", "program", "state", "waits", "since")
    assert rows == [
        ("1000", "worker0.py", "alive", "get queue 'jobs'", "3.0 s"),
        ("1001", "-", "dead", "-", "-"),
        ("1002", "(other PID namespace)", "alive", ", and perhaps more", "-"),
    ]


# ---- pages --------------------------------------------------------------------------------------


def said(look, row):
    return "\n".join(line.text for line in page(look, row.key))


def test_the_page_of_a_channel_says_who_waits_and_why():
    jobs = shapes.queue(1, "jobs", open_in=(0, 1))
    other = shapes.queue(2, "other", open_in=(0,))
    look = shapes.look(
        queues=(jobs, other),
        processes=(
            shapes.process(0, waits=(shapes.wait(jobs, "get", 9.0, thread=1000),)),
            shapes.process(1, state="stopped"),
        ),
    )
    first, second = channels([look], with_pool=False).rows
    text = said(look, first)
    assert "1000 (worker0.py): get, for 9.0 s" in text
    assert "Consumer 1000 (worker0.py) has waited 9.0 s for queue 'jobs'" in text
    assert "-> 1001 (worker1.py) is stopped" in text
    assert "worker0.py) has waited" not in said(look, second)
    assert "no thread has waited" in said(look, second)


def test_the_page_of_each_kind():
    look = shapes.look(
        queues=(shapes.queue(1, "jobs", takers=(shapes.holder(0, "taker", 2),)),),
        streams=(shapes.stream(2, "live", subscribers=(shapes.subscriber(None, 5, 1),)),),
        frames=(shapes.frames(3, "cam"),),
        locks=(shapes.lock(4, "mutex", holders=(shapes.holder(0, seconds=3.0),)),),
    )
    queue, stream, frames, lock = channels([look], with_pool=False).rows
    assert "1000 (worker0.py): 2 messages" in said(look, queue)
    assert "a process (gone): 5 behind, missed 1" in said(look, stream)
    assert "0 of 8 frames are out" in said(look, frames)
    assert "1000 (worker0.py): owner, for 3.0 s" in said(look, lock)


def test_the_page_of_a_process():
    jobs = shapes.queue(1, "jobs", takers=(shapes.holder(0, "taker", 2),), open_in=(0,))
    look = shapes.look(
        queues=(jobs,),
        locks=(shapes.lock(4, "mutex", holders=(shapes.holder(0),)),),
        processes=(shapes.process(0, same_namespace=False),),
    )
    text = said(look, processes([look], with_pool=False).rows[0])
    assert "it is one of another PID namespace" not in text
    assert "its pid is one of another PID namespace" in text
    assert "2 unfinished messages of queue 'jobs'" in text
    assert "lock 'mutex': owner" in text


def test_pages_of_what_is_gone():
    look = shapes.look()
    assert "The pool is gone" in page(None, ("x", 0, 1))[0].text
    assert page(shapes.lost(), ("x", 0, 1))[0].text == "it is damaged"
    assert page(look, (look.path, 3, 17))[0].text == "Process 17 is gone."
    assert "The channel is gone" in page(look, (look.path, "queue", 1, "jobs"))[0].text


# ---- sorting, filtering, fitting ----------------------------------------------------------------


def three():
    return processes(
        [shapes.look(processes=tuple(shapes.process(slot) for slot in (1, 0, 2)))], with_pool=False
    )


def test_sorting():
    table = three()

    def pids(sorting):
        return [row.cells["pid"].text for row in ordered(table, sorting)]

    assert pids(Sorting()) == ["1001", "1000", "1002"]
    assert pids(Sorting("holds")) == ["1002", "1001", "1000"]  # numbers: the largest first
    assert pids(Sorting("holds").turned()) == ["1000", "1001", "1002"]
    assert pids(Sorting("program")) == ["1000", "1001", "1002"]
    assert pids(Sorting("program").turned()) == ["1002", "1001", "1000"]
    assert pids(Sorting("since")) == ["1001", "1000", "1002"]  # unknown for all
    assert pids(Sorting("no such column")) == ["1001", "1000", "1002"]


def test_what_is_unknown_comes_last_in_both_orders():
    table = pools([shapes.lost("a"), shapes.look("b"), shapes.look("c", used=0)])
    for sorting in (Sorting("full"), Sorting("full").turned()):
        assert ordered(table, sorting)[-1].cells["pool"].text == "a"


def test_the_next_column():
    columns = three().columns
    first = Sorting().moved(columns, 1)
    assert first == Sorting("pid")
    assert first.turned().moved(columns, 1) == Sorting("program")
    assert first.moved(columns, -1) == Sorting()
    assert Sorting().moved(columns, -1) == Sorting("since")
    assert Sorting("gone").moved(columns, 1) == Sorting("pid")


def test_filtering():
    rows = three().rows
    assert len(filtered(rows, "  ")) == 3
    assert [row.cells["pid"].text for row in filtered(rows, "WORKER2 alive")] == ["1002"]
    assert filtered(rows, "worker2 dead") == []


@pytest.mark.parametrize("columns", [1, 5, 17, 40, 79, 80, 200])
def test_a_table_is_never_wider_than_the_screen(columns):
    hostile = tuple(shapes.queue(i, name) for i, name in enumerate(shapes.HOSTILE, 1))
    look = shapes.look(queues=hostile)
    for table in (
        pools([look, shapes.lost(problem="x" * 300)]),
        channels([look], with_pool=True),
        processes([look], with_pool=True),
    ):
        chosen = fitted(table, table.rows, columns)
        assert chosen
        assert sum(wide + GAP for _, wide in chosen) <= max(columns, 1 + GAP)
        for row in table.rows:
            for column, wide in chosen:
                for ascii_only in (False, True):
                    text = drawn(row.cells[column.key], column, wide, ascii_only=ascii_only)
                    assert width(text) == wide
                    assert text.isprintable()


def test_columns_that_have_been_wide_stay_wide():
    table = three()
    assert dict(fitted(table, table.rows, 200, {"pid": 12}))[table.columns[0]] == 12


@pytest.mark.parametrize(
    ("filled", "columns", "text"),
    [
        (0.0, 11, "......   0%"),
        (0.5, 11, "###...  50%"),
        (1.0, 11, "###### 100%"),
        (0.001, 11, "#.....   0%"),
        (0.5, 5, "  50%"),
        (1.0, 2, "10"),
    ],
)
def test_a_bar(filled, columns, text):
    assert bar(filled, columns, ascii_only=True) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0, "0"),
        (0.25, "0.2"),
        (9.94, "9.9"),
        (12.3, "12"),
        (12345.6, "12,346"),
        (2e6, "2.0M"),
    ],
)
def test_a_rate(value, text):
    assert rate(value).text == text


# ---- plain text ---------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [20, 80, 120])
def test_plain_text_of_hostile_names(columns):
    hostile = tuple(shapes.queue(i, name) for i, name in enumerate(shapes.HOSTILE, 1))
    printed = list(lines([shapes.look(queues=hostile), shapes.lost()], columns, Sorting()))
    assert all(width(line) <= columns for line in printed)
    assert all(line.isprintable() for line in printed)
    assert len(printed) == 1 + (2 + 2) + (2 + len(hostile)) + (2 + 1)


def test_plain_text_of_512_processes_is_sorted_and_filtered():
    look = shapes.look(processes=tuple(shapes.process(slot) for slot in range(512)))
    printed = list(lines([look], 100, Sorting("holds"), "worker51"))
    rows = [line.split()[0] for line in printed if "worker" in line]
    assert rows == ["1511", "1510", "1051"]
    assert "No row has this text." in printed
