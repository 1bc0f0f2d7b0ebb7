"""Every password scheme logs in through a real Dovecot, and the wrong password does not."""

from __future__ import annotations

import subprocess

import pytest

from support.dovecot import Verdict

from .conftest import Mail

pytestmark = [pytest.mark.servers, pytest.mark.root]

PASSWORD = "pässword with blanks {and} 'quotes'"
ROUNDS = {
    "SHA512-CRYPT": "1000",
    "SHA256-CRYPT": "1000",
    "BLF-CRYPT": "4",
    "ARGON2ID": "3",
    "ARGON2I": "3",
}


def hashed(scheme: str, password: str = PASSWORD) -> str:
    """Return a hash as `doveadm pw` makes it, with its {SCHEME}."""
    rounds = ["-r", ROUNDS[scheme]] if scheme in ROUNDS else []
    command = ["doveadm", "pw", "-s", scheme, *rounds, "-p", password]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize(
    "scheme",
    [
        "SHA512-CRYPT",
        "SHA256-CRYPT",
        "MD5-CRYPT",
        "BLF-CRYPT",
        "CRYPT",
        "SSHA512",
        "SSHA256",
        "SSHA",
        "SHA512",
        "PLAIN-MD5",
        "ARGON2ID",
        "ARGON2I",
        "PBKDF2",
        "PLAIN",
        "CRAM-MD5",
    ],
)
def test_scheme(mail: Mail, scheme: str) -> None:
    """A password stored under the scheme is accepted, another is refused."""
    user = f"{scheme.lower()}@example.com"
    password = PASSWORD[:8] if scheme == "CRYPT" else PASSWORD
    mail.add(user, hashed(scheme, password))
    assert mail.dovecot.auth_test(user, password) is Verdict.ACCEPTED
    assert mail.dovecot.auth_test(user, "wrong") is Verdict.REFUSED


@pytest.mark.parametrize("scheme", ["SHA512-CRYPT", "BLF-CRYPT", "MD5-CRYPT"])
def test_crypt_prefix(mail: Mail, scheme: str) -> None:
    """{CRYPT} before any hash of crypt(3) is accepted."""
    user = f"crypt-{scheme.lower()}@example.com"
    mail.add(user, "{CRYPT}" + hashed(scheme).partition("}")[2])
    assert mail.dovecot.auth_test(user, PASSWORD) is Verdict.ACCEPTED


def test_default_scheme(mail: Mail) -> None:
    """A hash without {SCHEME} is taken for default_pass_scheme."""
    mail.add("unprefixed@example.com", hashed("SHA512-CRYPT").partition("}")[2])
    assert mail.dovecot.auth_test("unprefixed@example.com", PASSWORD) is Verdict.ACCEPTED
    assert mail.dovecot.auth_test("unprefixed@example.com", "wrong") is Verdict.REFUSED


def test_no_password(mail: Mail) -> None:
    """A user without a password cannot log in, with any password or none."""
    mail.add("nopassword@example.com", None)
    assert mail.dovecot.auth_test("nopassword@example.com", "anything") is Verdict.REFUSED
    assert mail.dovecot.auth_test("nopassword@example.com", "") is Verdict.REFUSED


def test_hashes_are_in_no_log(mail: Mail) -> None:
    """Neither a hash nor a password is in mailmapd's log."""
    mail.add("logged@example.com", "{PLAIN}very-secret-word")
    assert mail.dovecot.auth_test("logged@example.com", "very-secret-word") is Verdict.ACCEPTED
    text = mail.daemon.text()
    assert "very-secret-word" not in text
    assert "geheim" not in text
    assert "$6$" not in text
