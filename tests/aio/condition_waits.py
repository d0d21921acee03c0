"""What the tests of conditions for tasks have in common."""

import asyncio

import children
from event_loops import run, until


def notify(condition, n=1):
    with condition:
        condition.notify(n)


def is_free(condition):
    """Whether the lock is free, and no waiter is left."""
    taken = condition.acquire(False)
    if taken:
        condition.release()
    return taken and condition.n_waiting == 0


async def wait_once(condition, *timeout):
    async with condition.aio:
        return await condition.aio.wait(*timeout)


async def started(condition, *coroutines):
    """Start tasks that wait at the condition, one after the other."""
    tasks, there = [], condition.n_waiting
    for each in coroutines:
        tasks.append(asyncio.create_task(each))
        await until(lambda: condition.n_waiting == there + len(tasks))
    return tasks


def wait_as_a_task(condition, answers):
    answers.put(run("asyncio", wait_once, condition))


def wait_as_a_thread(condition, answers):
    with condition:
        answers.put(condition.wait())


def hold(condition, entered, release):
    with condition:
        entered.set()
        release.wait(children.LIMIT)
