"""Certificates for tests, made on the spot with openssl."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Certificates:
    """An authority, and a server's and a client's certificate with its key."""

    ca: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path


def openssl(*arguments: str | Path) -> None:
    """Run openssl."""
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def make_certificates(folder: Path) -> Certificates:
    """Make an authority, and certificates for 127.0.0.1 and for a client."""
    ca, ca_key = folder / "ca.pem", folder / "ca.key"
    kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    constraints = (
        "-addext",
        "basicConstraints=critical,CA:TRUE",
        "-addext",
        "keyUsage=critical,keyCertSign",
    )
    openssl(
        "req",
        "-x509",
        *kind,
        "-keyout",
        ca_key,
        "-out",
        ca,
        "-days",
        "2",
        "-subj",
        "/CN=Test authority",
        *constraints,
    )
    made = []
    for name, subject in (("server", "IP:127.0.0.1"), ("client", "DNS:client")):
        request, key, certificate, extensions = (
            folder / f"{name}.{end}" for end in ("csr", "key", "pem", "ext")
        )
        extensions.write_text(f"subjectAltName={subject}\n")
        openssl("req", "-new", *kind, "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        signer = ("-CA", ca, "-CAkey", ca_key, "-CAcreateserial")
        openssl(
            "x509",
            "-req",
            "-in",
            request,
            *signer,
            "-days",
            "2",
            "-extfile",
            extensions,
            "-out",
            certificate,
        )
        key.chmod(0o644)
        made += [certificate, key]
    return Certificates(ca, *made)
