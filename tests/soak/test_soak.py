"""A few seconds of the soak, and tests that its audit finds errors."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from soak.audit import Account, Counts, Pauses, audit
from soak.ledger import Entry, Ledger, read

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.stress
def test_the_soak_finds_nothing(tmp_path):
    environment = os.environ | {"TMPDIR": str(tmp_path)}  # so that nothing is left if it is stopped
    command = [sys.executable, "-m", "tests.soak", "--minutes", "0.1", "--round", "3"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    counts = {
        line[:17].strip(): line[17:].strip()
        for line in done.stdout.splitlines()
        if line[:2] == "  "
    }
    print(done.stdout)
    assert int(counts["rounds"]) >= 2
    assert min(int(counts[what]) for what in ("kills", "stops", "messages", "broadcasts")) > 0


# ------------------------------------------------------------------------------------ its ledgers


def test_a_ledger_ends_with_its_last_whole_line(tmp_path):
    book = Ledger(tmp_path / "book")
    book.note("?", 7)
    book.accuse("something: with a space")
    book.close()
    with (tmp_path / "book").open("a") as file:
        file.write("! 7 12")  # it was killed in the middle of a number
    entries, accusations = read(tmp_path / "book")
    assert [(e.kind, e.numbers) for e in entries] == [("?", (7,))]
    assert accusations == ["something: with a space"]


def test_a_process_that_was_killed_at_once_has_an_empty_ledger(tmp_path):
    assert read(tmp_path / "book") == ([], [])


# --------------------------------------------------------------------------------------- its audit


def producer(*lines, killed=None):
    return Account("producer", 1, [Entry(k, (n,), t) for k, n, t in lines], killed)


def worker(*lines, identity=2, killed=None):
    return Account("worker", identity, [Entry(k, n, t) for k, n, t in lines], killed)


def counted(*accounts, redeliver=False, stops=()):
    counts = Counts()
    audit(counts, list(accounts), Pauses(stops), redeliver=redeliver)
    return counts


def wrong(counts):
    return {what: getattr(counts, what) for what in Counts.WRONG if getattr(counts, what)}


PUT = [("?", 0, 10), ("!", 0, 11), ("?", 1, 20), ("!", 1, 21), ("?", 2, 30), ("!", 2, 31)]
TAKEN = [
    ("?", (1,), 12),
    ("g", (1, 0, 0), 13),
    (".", (), 13),
    ("?", (1,), 22),
    ("g", (1, 1, 0), 23),
    (".", (), 23),
    ("?", (1,), 32),
    ("g", (1, 2, 0), 33),
    (".", (), 33),
]
WITHOUT_1 = TAKEN[:3] + TAKEN[6:]


def test_all_is_well():
    counts = counted(producer(*PUT), worker(*TAKEN))
    assert wrong(counts) == {}
    assert counts.messages == 3


def test_a_message_that_nobody_took_is_lost():
    assert wrong(counted(producer(*PUT), worker(*WITHOUT_1))) == {"lost": 1}


def test_a_worker_killed_while_it_asked_excuses_one():
    killed = worker(("?", (1,), 15), identity=3, killed=25)
    counts = counted(producer(*PUT), worker(*WITHOUT_1), killed)
    assert wrong(counts) == {}
    assert counts.excused == 1


def test_but_not_two():
    killed = worker(("?", (1,), 5), identity=3, killed=45)
    assert wrong(counted(producer(*PUT), worker(*TAKEN[:3]), killed)) == {"lost": 1}


@pytest.mark.parametrize(("asked", "killed_at"), [(34, 40), (5, 11)])
def test_nor_when_it_was_not_there_at_the_time(asked, killed_at):
    # The next message had been taken before it asked; the message had not been put when it died.
    killed = worker(("?", (1,), asked), identity=3, killed=killed_at)
    assert wrong(counted(producer(*PUT), worker(*WITHOUT_1), killed)) == {"lost": 1}


def test_excuses_are_dealt_out_so_that_most_are_excused():
    early = worker(("?", (1,), 5), identity=3, killed=12)  # only message 0
    late = worker(("?", (1,), 5), identity=4, killed=25)  # message 0 or 1
    counts = counted(producer(*PUT), worker(*TAKEN[6:]), late, early)
    assert wrong(counts) == {}
    assert counts.excused == 2


def test_a_put_that_was_cut_short_may_or_may_not_have_happened():
    cut = [*PUT[:5]]
    assert wrong(counted(producer(*cut, killed=31), worker(*TAKEN))) == {}
    assert wrong(counted(producer(*cut, killed=31), worker(*TAKEN[:6]))) == {}


def test_a_message_that_was_refused_must_not_come():
    refused = [*PUT[:5], ("x", 2, 31)]
    assert wrong(counted(producer(*refused), worker(*TAKEN))) == {"corrupt": 1}
    assert wrong(counted(producer(*refused), worker(*TAKEN[:6]))) == {}


def test_nor_one_that_nobody_put():
    assert wrong(counted(producer(*PUT[:4]), worker(*TAKEN))) == {"corrupt": 1}


def test_a_message_that_comes_twice():
    again = worker(("?", (1,), 40), ("g", (1, 1, 0), 41), (".", (), 41), identity=3)
    assert wrong(counted(producer(*PUT), worker(*TAKEN), again)) == {"duplicated": 1}


def test_messages_that_change_places():
    swapped = TAKEN[3:6] + TAKEN[:3] + TAKEN[6:]
    assert wrong(counted(producer(*PUT), worker(*swapped))) == {"disordered": 1}


def done(*numbers, at):
    return [line for n in numbers for line in (("~", (1, n), at), ("=", (1, n), at + 1))]


def test_redelivery_excuses_nothing():
    finished = worker(*WITHOUT_1, *done(0, 2, at=40))
    killed = worker(("?", (1,), 15), identity=3, killed=25)
    assert wrong(counted(producer(*PUT), finished, killed, redeliver=True)) == {"lost": 1}


def test_redelivery_with_the_flag():
    killed = worker(*TAKEN[3:6], identity=3, killed=25)
    again = [("?", (1,), 26), ("g", (1, 1, 1), 27), (".", (), 27)]
    finished = worker(*TAKEN[:3], *again, *TAKEN[6:], *done(0, 1, 2, at=40))
    counts = counted(producer(*PUT), finished, killed, redeliver=True)
    assert wrong(counts) == {}
    assert counts.redelivered == 1


def test_a_killer_that_was_slow_to_look_at_the_clock():
    """What came back did so after the kill, although the killer noted a later time."""
    again = [("?", (1,), 26), ("g", (1, 1, 1), 27), (".", (), 27)]
    finished = worker(*TAKEN[:3], *again, *TAKEN[6:], *done(0, 1, 2, at=40))
    slow = worker(*TAKEN[3:6], identity=3, killed=60)
    assert wrong(counted(producer(*PUT), finished, slow, redeliver=True)) == {"duplicated": 1}
    slow = slow._replace(doomed=25)
    assert wrong(counted(producer(*PUT), finished, slow, redeliver=True)) == {}


@pytest.mark.parametrize(
    ("flag", "killed_at", "and_done"), [(0, 25, []), (1, 60, []), (1, 25, done(1, at=23))]
)
def test_redelivery_that_should_not_have_been(flag, killed_at, and_done):
    # Without the flag; while its taker lived; after it was finished.
    killed = worker(*TAKEN[3:6], *and_done, identity=3, killed=killed_at)
    again = [("?", (1,), 26), ("g", (1, 1, flag), 27), (".", (), 27)]
    finished = worker(*TAKEN[:3], *again, *TAKEN[6:], *done(0, 1, 2, at=40))
    assert wrong(counted(producer(*PUT), finished, killed, redeliver=True)) == {"duplicated": 1}


def streams(lossless, numbers, missed):
    # Even numbers go to the lossless stream.
    publisher = Account(
        "publisher", 1, [Entry(k, (n,), n) for n in range(8) for k in "?!"], killed=None
    )
    got = [Entry("g", (1, n, 0), n) for n in numbers]
    subscriber = Account(
        "subscriber", 2, [Entry("?", (lossless,), 0), *got, Entry("m", (missed,), 9)], killed=None
    )
    return wrong(counted(publisher, subscriber))


def test_streams():
    assert streams(1, [0, 2, 4, 6], 0) == {}
    assert streams(1, [2, 4], 0) == {}
    assert streams(1, [0, 2, 6], 1) == {"lost": 1}
    assert streams(0, [1, 3, 5, 7], 0) == {}
    assert streams(0, [1, 7], 2) == {}
    assert streams(0, [1, 7], 1) == {"lost": 2}
    assert streams(1, [0, 4, 2], 0) == {"disordered": 1}
    assert streams(1, [0, 0, 2], 0) == {"duplicated": 1}
    assert streams(1, [0, 1, 2], 0) == {"corrupt": 1}


def test_a_stall_is_what_is_left_when_nobody_was_stopped():
    ms = 1_000_000
    slow = producer(("?", 0, 0), ("!", 0, 100 * ms))
    assert counted(slow, worker(*[(k, n, 100 * ms) for k, n, _ in TAKEN[:3]])).longest_stall == 100
    counts = counted(
        slow,
        worker(*[(k, n, 100 * ms) for k, n, _ in TAKEN[:3]]),
        stops=[(10 * ms, 30 * ms), (20 * ms, 60 * ms), (90 * ms, 95 * ms), (200 * ms, 300 * ms)],
    )
    assert counts.longest_stall == 45
