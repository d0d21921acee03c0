"""What the roles share: where the scheduler is, the certificate, and onecopy."""

from __future__ import annotations

import argparse
import sys

import dask


def arguments(description: str, **numbers: int) -> argparse.Namespace:
    """Read the options of a role, and prepare its process: TLS, and onecopy."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--scheduler", default="tls://127.0.0.1:8786", help="tls://HOST:PORT")
    parser.add_argument("--certificate", default="cluster.pem", help="and key, in one file")
    parser.add_argument("--plain", action="store_true", help="as where onecopy is not installed")
    parser.add_argument("--name", help="of a worker")
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    tls = "distributed.comm.tls"
    files = [
        f"{tls}.{role}.{f}" for role in ("scheduler", "worker", "client") for f in ("cert", "key")
    ]
    dask.config.set(dict.fromkeys([f"{tls}.ca-file", *files], given.certificate))
    dask.config.set({"distributed.comm.require-encryption": True})
    if not given.plain:
        import onecopy.dask

        onecopy.dask.enable(pool="cluster", size="256MiB")  # this line is all of onecopy
    return given


def received() -> int:
    """Tell how many bytes this process has received by their place in the pool of its host."""
    counting = sys.modules.get("onecopy.dask.counts")  # there is none with --plain
    return counting.counts.received if counting else 0
