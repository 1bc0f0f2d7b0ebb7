"""A certificate authority of a test's own, which also issues what no honest one would."""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, in PEM."""

    certificate: bytes
    key: bytes

    def write(self, certificate: Path, key: Path) -> None:
        """Put both into files that a server of another account may read."""
        certificate.write_bytes(self.certificate)
        key.write_bytes(self.key)
        key.chmod(0o644)


class Authority:
    """Issues certificates for addresses; `file` is its own certificate."""

    def __init__(self, folder: Path, name: str) -> None:
        self.file = folder / f"{name}.pem"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        mine = _builder(self._name, self._name, self._key.public_key(), days=2).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        signed = mine.add_extension(
            x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False
        ).sign(self._key, hashes.SHA256())
        self.file.write_bytes(signed.public_bytes(serialization.Encoding.PEM))

    def issue(self, address: str, *, days: int = 2) -> Certificate:
        """Return a certificate for an IP address; it has expired when `days` is negative."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_name(address), self._name, key.public_key(), days=days)
        return _signed(builder, address, key, self._key)


def self_signed(address: str) -> Certificate:
    """Return a certificate that nobody but its own key has signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(_name(address), _name(address), key.public_key(), days=2)
    return _signed(builder, address, key, key)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, *, days: int
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    day = dt.timedelta(days=1)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(now - 3 * day).not_valid_after(now + days * day)


def _signed(
    builder: x509.CertificateBuilder,
    address: str,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
) -> Certificate:
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
    certificate = builder.add_extension(names, critical=False).sign(signer, hashes.SHA256())
    return Certificate(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
