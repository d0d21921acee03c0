"""Certificates for tests, made by the command `openssl`, which must be there.

Debian and Ubuntu: ``apt install openssl``. The tests of TLS fail without it: a machine that tests
this package must test TLS.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import onecopy as oc

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = """
[req]
distinguished_name = subject
prompt = no
[subject]
commonName = nobody
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[peer]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = {names}
"""
NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]


class Authority:
    """An authority with a directory, and certificates that it has signed there."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self._directory = directory
        self.cafile = directory / "authority.pem"
        self._openssl(
            ["req", "-x509", "-new", *NEW_KEY, "-days", "2", "-extensions", "authority"],
            ["-subj", "/CN=an authority of tests", "-out", self.cafile, "-keyout", "authority.key"],
        )

    def sign(self, name: str, names: str = "DNS:localhost, IP:127.0.0.1") -> oc.TLS:
        """Make a key and a certificate, and sign it. Files of the same name are replaced."""
        files = [f"{name}.{end}" for end in ("pem", "key", "request")]
        certificate, key, request = files
        self._openssl(
            ["req", "-new", *NEW_KEY, "-subj", f"/CN={name}", "-out", request, "-keyout", key],
        )
        self._openssl(
            ["x509", "-req", "-in", request, "-out", certificate, "-days", "2", "-extfile", "cnf"],
            ["-extensions", "peer", "-CA", self.cafile, "-CAkey", "authority.key"],
            ["-CAcreateserial"],
            names=names,
        )
        return oc.TLS(self._directory / certificate, self._directory / key, self.cafile)

    def _openssl(self, *parts, names="DNS:localhost"):
        (self._directory / "cnf").write_text(CONFIG.format(names=names))
        words = [word for part in parts for word in part]
        if words[0] == "req":
            words += ["-config", "cnf"]
        try:
            done = subprocess.run(
                ["openssl", *words],
                cwd=self._directory,
                capture_output=True,
                text=True,
                check=False,
            )
        except FileNotFoundError:
            raise AssertionError(__doc__) from None
        assert done.returncode == 0, done.stderr
