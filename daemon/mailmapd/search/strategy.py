"""Strategies: the names of searches, and what each one asks for.

    exact       the key as it is: virtual_mailbox_domains, virtual_alias_domains, mydestination, check_sasl_access
    domain      the name and its parents: relay_domains and other lists that match host names
    address     full, noext, localpart_if_local, at_domain: aliases, mailboxes, canonical, bcc, senders' logins
    access      mail addresses, host names with their parents, IP addresses with their prefixes: check_*_access
    helo        host names with their parents; an IP address and what holds an ``@`` are names: check_helo_access
    transport   full, noext, domain with its parents (and the key ``*`` as it is): transport_maps

or a list of the steps of mail_addr_find(3), see `mailmapd.search.address`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields

from mailmapd.search.address import AddressSearch, Steps
from mailmapd.search.domain import name_and_parents
from mailmapd.search.network import address_and_networks, is_address
from mailmapd.search.search_key import SearchKey
from mailmapd.template.fold import fold

PRESETS = ("exact", "domain", "address", "access", "helo", "transport")
STRATEGY_NAMES = tuple(field.name for field in fields(Steps))

_new = tuple.__new__  # SearchKey(…) without its Python-level __new__

KeysOf = Callable[[bytes], Sequence[SearchKey]]


@dataclass(frozen=True, slots=True)
class Search:
    """A compiled strategy.

    `keys` returns what to ask for, in Postfix's order; the key that a client sent is not folded
    before.
    """

    keys: KeysOf

    @classmethod
    def compile(
        cls,
        strategy: str | Sequence[str],
        *,
        recipient_delimiter: bytes = b"",
        owner_request_special: bool = True,
        local_domains: Sequence[bytes] = (),
        parent_domain_matches_subdomains: bool = True,
        external_only: bool = False,
    ) -> Search:
        """Return the search of a preset or of a list of steps.

        Raise ValueError, which says what exists, for anything else.

        `local_domains` are the domains of mydestination with myorigin, without patterns.
        `external_only` belongs to canonical and virtual alias maps, which Postfix asks with the
        quoted form of a local part alone.
        """
        parents = parent_domain_matches_subdomains

        def addresses(steps: Steps) -> KeysOf:
            return AddressSearch(
                steps,
                delimiters=recipient_delimiter,
                owner_request_special=owner_request_special,
                local_domains=frozenset(fold(domain) or domain.lower() for domain in local_domains),
                external_only=external_only,
            ).keys

        if not isinstance(strategy, str):
            return cls(addresses(_steps(strategy)))
        match strategy:
            case "exact":
                return cls(_exact)
            case "domain":
                return cls(lambda key: _plain(name_and_parents(key, parents)))
            case "address":
                return cls(
                    addresses(Steps(full=True, noext=True, localpart_if_local=True, at_domain=True))
                )
            case "helo":
                return cls(lambda key: _name(key, parents))
            case "access":
                by_address = addresses(
                    Steps(
                        full=True,
                        noext=True,
                        domain=True,
                        pdms=parents,
                        pddms=not parents,
                        localpart_at=True,
                    )
                )
                return cls(_access(by_address, parents))
            case "transport":
                return cls(
                    addresses(
                        Steps(full=True, noext=True, domain=True, pdms=parents, pddms=not parents)
                    )
                )
            case _:
                raise ValueError(
                    f"there is no search {strategy!r}; write one of {', '.join(PRESETS)}, or a list of {_step_names()}"
                )


def _exact(key: bytes) -> tuple[SearchKey, ...]:
    return (_new(SearchKey, (key, b"")),) if key else ()


def _plain(keys: Iterable[bytes]) -> tuple[SearchKey, ...]:
    return tuple([SearchKey(key, b"") for key in keys])


def _name(key: bytes, parents: bool) -> tuple[SearchKey, ...]:
    return _exact(key) if is_address(key) else _plain(name_and_parents(key, parents))


def _access(by_address: KeysOf, parents: bool) -> KeysOf:
    def keys(key: bytes) -> Sequence[SearchKey]:
        if b"@" in key:
            return by_address(key)
        if is_address(key):
            return _plain(address_and_networks(key))
        return _plain(name_and_parents(key, parents))

    return keys


def _steps(names: Sequence[str]) -> Steps:
    if not names:
        raise ValueError(
            f"the list of steps is empty; write one or more of {_step_names()}, or 'exact'"
        )
    for name in names:
        if name not in STRATEGY_NAMES:
            raise ValueError(
                f"there is no step {name!r}; write one or more of {_step_names()}, or a single "
                f"word of {', '.join(PRESETS)}"
            )
    steps = Steps(**dict.fromkeys(names, True))
    if steps.pdms and steps.pddms:
        raise ValueError(
            "pdms and pddms exclude each other; keep pdms where the parameter is in parent_domain_matches_subdomains"
        )
    if (steps.pdms or steps.pddms) and not steps.domain:
        raise ValueError("pdms and pddms need the step 'domain'; add it or leave them out")
    return steps


def _step_names() -> str:
    return ", ".join(STRATEGY_NAMES)
