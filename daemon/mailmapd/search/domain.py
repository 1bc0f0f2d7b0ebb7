"""Domains and host names.

The name itself, then its parents (match_hostname in match_ops(3), check_domain_access in smtpd).
"""

from __future__ import annotations

from collections.abc import Iterator


def name_and_parents(name: bytes, subdomains_match_parent: bool) -> Iterator[bytes]:
    """Yield the name and its parents, to the last label.

    With `subdomains_match_parent` (the parameter is in parent_domain_matches_subdomains) they are
    ``example.com``, ``com``, otherwise ``.example.com``, ``.com``.
    """
    skip_dot = 1 if subdomains_match_parent else 0
    while name:
        yield name
        dot = name.find(b".", 1)
        if dot < 0:
            return
        name = name[dot + skip_dot :]
