"""A redelivering queue against a model of it, with takers that take, finish and are killed."""

import contextlib
import multiprocessing
import os
import queue as standard
import signal

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from seeds import more

import onecopy as oc

FORK = multiprocessing.get_context("fork")
TAKERS = 3


def obey(queue, pipe):
    """Do in a child what the test requests, until killed."""
    messages = []
    while True:
        what, number = pipe.recv()
        if what == "take":
            pipe.send(take(queue, number, messages))
        else:
            messages.pop(number).task_done()
            pipe.send(None)


def take(queue, count, messages):
    got = []
    for _ in range(count):
        try:
            message = queue.get_message(block=False)
        except standard.Empty:
            break
        messages.append(message)
        got.append((value_of(message.item), message.redelivered))
    return got


def item_of(value):
    """Every third value has an array."""
    return {"value": value, "array": np.full(5000, value)} if value % 3 == 0 else value


def value_of(item):
    if not isinstance(item, dict):
        return item
    assert (item["array"] == item["value"]).all()
    return item["value"]


class Taker:
    """A process of its own, and the values that it has in the model."""

    def __init__(self, queue):
        self._pipe, theirs = FORK.Pipe()
        self._process = FORK.Process(target=obey, args=(queue, theirs))
        self._process.start()
        theirs.close()
        self.has = []

    def ask(self, *request):
        self._pipe.send(request)
        assert self._pipe.poll(60)
        return self._pipe.recv()

    def kill(self):
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.join()
        self._process.close()
        self._pipe.close()


class Redelivery(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.pool = oc.Pool.create(size="16MiB")
        self.maxsize = 70
        self.queue = self.pool.queue(maxsize=self.maxsize, redeliver=True)
        self.takers = []
        self.messages, self.has = [], []  # what this process took
        self.queued, self.returned = [], []  # values, in rising order
        self.put = 0
        self.finished = set()
        self.floor = 0

    # ---- the model

    def expect(self, count):
        """Take from the model what a taker must get."""
        got = [(value, True) for value in self.returned[:count]]
        del self.returned[:count]
        rest = count - len(got)
        got += [(value, False) for value in self.queued[:rest]]
        del self.queued[:rest]
        return got

    def finish(self, value):
        self.finished.add(value)
        while self.floor in self.finished:
            self.floor += 1

    # ---- what may happen

    @rule(count=st.integers(1, 40))
    def put_some(self, count):
        for _ in range(count):
            if self.put - self.floor == self.maxsize:
                with pytest.raises(standard.Full):
                    self.queue.put_nowait(item_of(self.put))
                break
            self.queue.put_nowait(item_of(self.put))
            self.queued.append(self.put)
            self.put += 1

    @rule(count=st.integers(1, 20))
    def take_here(self, count):
        expected = self.expect(count)
        assert take(self.queue, count, self.messages) == expected
        self.has += [value for value, _ in expected]

    @precondition(lambda self: self.has)
    @rule(data=st.data())
    def finish_here(self, data):
        at = data.draw(st.integers(0, len(self.has) - 1))
        message = self.messages.pop(at)
        message.task_done()
        self.finish(self.has.pop(at))
        with pytest.raises(ValueError, match="called for it before"):
            message.task_done()

    @precondition(lambda self: self.has)
    @rule()
    def finish_the_oldest_here(self):
        at = self.has.index(min(self.has))
        self.queue.task_done()
        del self.messages[at]
        self.finish(self.has.pop(at))

    @precondition(lambda self: len(self.takers) < TAKERS)
    @rule()
    def start_taker(self):
        self.takers.append(Taker(self.queue))

    @precondition(lambda self: self.takers)
    @rule(data=st.data(), count=st.integers(1, 20))
    def take_there(self, data, count):
        taker = data.draw(st.sampled_from(self.takers))
        expected = self.expect(count)
        assert taker.ask("take", count) == expected
        taker.has += [value for value, _ in expected]

    @precondition(lambda self: any(taker.has for taker in self.takers))
    @rule(data=st.data())
    def finish_there(self, data):
        taker = data.draw(st.sampled_from([taker for taker in self.takers if taker.has]))
        at = data.draw(st.integers(0, len(taker.has) - 1))
        taker.ask("finish", at)
        self.finish(taker.has.pop(at))

    @precondition(lambda self: self.takers)
    @rule(data=st.data())
    def kill(self, data):
        taker = data.draw(st.sampled_from(self.takers))
        self.takers.remove(taker)
        taker.kill()
        self.pool.collect()
        self.returned = sorted(self.returned + taker.has)

    # ---- what always holds

    @invariant()
    def sizes(self):
        assert self.queue.qsize() == len(self.queued) + len(self.returned)
        assert self.queue.empty() == (not self.queued and not self.returned)
        assert self.queue.full() == (self.put - self.floor == self.maxsize)
        assert self.pool.validate() == []

    def teardown(self):
        for taker in self.takers:
            taker.kill()
            self.returned = sorted(self.returned + taker.has)
        self.pool.collect()
        for message in self.messages:
            message.task_done()
        self.messages.clear()
        rest = []
        assert take(self.queue, self.put + 1, rest) == self.expect(self.put + 1)
        for message in reversed(rest):
            message.task_done()
        rest.clear()
        with contextlib.suppress(NameError):
            del message
        self.queue.join(timeout=0)
        assert self.pool.stats().used == 0
        assert self.pool.validate() == []
        self.queue.close()
        self.pool.close()


TestRedelivery = Redelivery.TestCase
TestRedelivery.settings = settings(max_examples=more(25), stateful_step_count=40, deadline=None)
