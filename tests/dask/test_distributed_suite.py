"""The quick modules of distributed's own tests with each frame by place; all of them by hand."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import namespaces
import pytest
from clusters import needs

needs("distributed")

RUNNER = Path(__file__).with_name("distributed_suite.py")
SOURCE = os.environ.get("ONECOPY_DISTRIBUTED_SOURCE")
SLICE = {  # modules, and how many of their tests pass at least
    "distributed/protocol/tests": 250,
    "distributed/comm/tests/test_comms.py": 40,
    "distributed/tests/test_batched.py": 8,
    "distributed/tests/test_spill.py": 12,
    "distributed/tests/test_utils_comm.py": 12,
    "distributed/tests/test_variable.py": 15,
}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_slice():
    if SOURCE is None:
        pytest.skip("needs a checkout of distributed: ONECOPY_DISTRIBUTED_SOURCE=FOLDER")
    if shutil.which("ip") is None:
        pytest.skip("this machine has no `ip` (iproute2)")
    namespaces._unshare("--net")
    done = subprocess.run(
        [sys.executable, RUNNER, "--source", SOURCE, *SLICE],
        capture_output=True,
        text=True,
        timeout=850,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-8000:]
    found = json.loads(done.stdout.splitlines()[-1])
    for module, least in SLICE.items():
        assert found[module]["passed"] >= least, found
