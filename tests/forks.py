"""A fork that ends by itself: with a limit of time and of memory, and a report of errors."""

from __future__ import annotations

import faulthandler
import os
import resource
import signal
import sys
import traceback

WATCHDOG = 20  # seconds that a child may take


def in_child(function, *arguments):
    """Run it in a fork; return None, or the error."""
    sys.stdout.flush()
    sys.stderr.flush()
    report, out = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(report)
        status = 1
        try:
            faulthandler.disable()
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(WATCHDOG)
            _bound_memory()
            function(*arguments)
            status = 0
        except BaseException:  # noqa: BLE001 - whatever it is, the parent shall hear of it
            os.write(out, traceback.format_exc()[-3000:].encode())
        finally:
            os._exit(status)
    os.close(out)
    with os.fdopen(report, "rb") as pipe:
        said = pipe.read().decode(errors="replace")
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == -signal.SIGALRM:
        return "hang"
    if status < 0:
        return signal.strsignal(-status)
    return (said or f"exit status {status}") if status else None


def _bound_memory():
    # A number in a damaged pickle may ask for any amount. (The address sanitizer needs it all.)
    if "libasan" not in os.environ.get("LD_PRELOAD", ""):
        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
