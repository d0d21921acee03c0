"""A fork that ends by itself: with a limit of time and of memory, and a report of errors."""

from __future__ import annotations

import faulthandler
import os
import resource
import signal
import sys
import traceback
from pathlib import Path

WATCHDOG = 20  # seconds that a child may take
MOST_MEMORY = 3 << 30  # bytes of addresses that a child may add to its parent's


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
        # Beyond what this process has: libraries that earlier tests have loaded take gigabytes.
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        most = pages * resource.getpagesize() + MOST_MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
