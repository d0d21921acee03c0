"""The functions of the workers in these tests."""

import os
import signal
import sys
import threading

from children import LIMIT, eventually


def forever():
    threading.Event().wait()


def serve(tasks, told):
    """Do what a task says; report what was done, and by which process."""
    while True:
        with tasks.get_message() as message:
            do(message.item, told)
        told.put((message.item, os.getpid()))


def do(what, told):
    match what:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "term":
            os.kill(os.getpid(), signal.SIGTERM)
        case "raise":
            raise LookupError("no such camera")
        case "exit":
            sys.exit(3)
        case "words":
            sys.exit("nothing to do here")
        case "_exit":
            os._exit(4)


def end(how, told):
    """End once, in one of the ways; a successor reports that it is there, and stays."""
    if told.qsize() == 0:
        told.put(os.getpid())
        do(how, told)
        return
    told.put(os.getpid())
    forever()


def tell(told, value=None, *, more=None):
    told.put((os.getpid(), value, more))
    forever()


def replaced(group, index, pid):
    """Wait until a worker has a successor; return its record."""
    eventually(lambda: group.workers[index].pid not in {None, pid}, "a successor")
    return group.workers[index]


def ended(group, index=0):
    """Wait until a worker does not run; return its record."""
    eventually(lambda: group.workers[index].pid is None, "a worker to end")
    return group.workers[index]


def both(told):
    """Return what `end` reported: the pids of a worker and of its successor."""
    eventually(lambda: told.qsize() == 2, "a worker and its successor")
    return take(told), take(told)


def runs(group, *pids):
    """Wait until the group knows what a worker has reported: that it has been started."""
    eventually(lambda: group.pids == pids, f"{group} to have {pids}")


def take(queue):
    return queue.get(timeout=LIMIT)
