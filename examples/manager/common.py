"""What the three roles share: the address of the server, and the key."""

from __future__ import annotations

import argparse
import ipaddress
import os
import sys
from pathlib import Path

VARIABLE = "ONECOPY_MANAGER_KEY"
DEMO_KEY = b"onecopy-demo"


def parser(description: str) -> argparse.ArgumentParser:
    """Make a parser for the options of every role."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--host", default="127.0.0.1", help="the server: 0.0.0.0 lets other machines in"
    )
    parser.add_argument("--port", type=int, default=50000)
    parser.add_argument(
        "--key-file",
        type=Path,
        help=f"a file with the key, readable by you only; or set {VARIABLE}",
    )
    return parser


def key_of(arguments: argparse.Namespace) -> bytes:
    """Return the key. It is not a command-line argument, because every user can read those."""
    if arguments.key_file is not None:
        if arguments.key_file.stat().st_mode & 0o077:
            sys.exit(f"{arguments.key_file} can be used by others: chmod 600 {arguments.key_file}")
        key, source = arguments.key_file.read_bytes().strip(), str(arguments.key_file)
    elif VARIABLE in os.environ:
        key, source = os.environb[VARIABLE.encode()], VARIABLE
    else:
        if not _is_loopback(arguments.host):
            print(
                f"warning: the key is the publicly known one, and {arguments.host} is not only "
                "this machine. With the key, anyone can run any code in the server: "
                f"set {VARIABLE}, or use --key-file",
                file=sys.stderr,
            )
        return DEMO_KEY
    if not key:
        sys.exit(f"{source} is empty: it should have the key")
    return key


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
