"""The command line, run by tests."""

import os
import subprocess
import sys

from children import LIMIT


def output(*arguments):
    """Return what a command prints; it has to end without an error."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "onecopy.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT,
        env=os.environ | {"PYTHONUTF8": "1"},
    )
    assert (done.stderr, done.returncode) == ("", 0)
    return done.stdout
