from __future__ import annotations

import pytest

from mailmapd.search.extension import strip_extension


@pytest.mark.parametrize(
    ("address", "delimiters", "expected"),
    [
        (b"user+ext@example.com", b"+", (b"user@example.com", b"+ext")),
        (b"user+ext", b"+", (b"user", b"+ext")),
        (b"user+@example.com", b"+", (b"user@example.com", b"+")),
        (b"user+a-b@example.com", b"-+", (b"user@example.com", b"+a-b")),
        (b"user-a+b@example.com", b"-+", (b"user@example.com", b"-a+b")),
        (b"user@ex+ample.com", b"+", None),
        (b"+ext@example.com", b"+", None),
        (b"user@example.com", b"", None),
        (b"user+a@b@example.com", b"+", (b"user@example.com", b"+a@b")),
    ],
)
def test_the_first_delimiter_splits(
    address: bytes, delimiters: bytes, expected: tuple[bytes, bytes] | None
) -> None:
    """The first delimiter of any kind splits the local part, unless nothing would be left of it."""
    assert strip_extension(address, delimiters, owner_request_special=True) == expected


@pytest.mark.parametrize("local", [b"postmaster", b"MAILER-DAEMON", b"Double-Bounce"])
def test_reserved_names_are_never_split(local: bytes) -> None:
    """Postmaster, mailer-daemon and double-bounce stay whole, in any case and with any delimiter."""
    assert strip_extension(local + b"@example.com", b"-oa", owner_request_special=False) is None


@pytest.mark.parametrize("local", [b"owner-list", b"Owner-", b"list-request", b"a-b-REQUEST"])
def test_owner_and_request_are_special_with_a_dash(local: bytes) -> None:
    """With '-' among the delimiters, owner-list and list-request stay whole exactly if owner_request_special is set."""
    assert strip_extension(local, b"+-", owner_request_special=True) is None
    assert strip_extension(local, b"+-", owner_request_special=False) is not None


def test_owner_is_not_special_without_a_dash() -> None:
    """Where '-' is no delimiter, owner-list+ext is split like any address."""
    assert strip_extension(b"owner-list+ext", b"+", owner_request_special=True) == (
        b"owner-list",
        b"+ext",
    )
