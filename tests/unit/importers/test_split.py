"""Which tables of a list move, and what takes their place, for every kind of parameter and neighbour."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailmapd.formats.main_cf import MainCf, known_defaults, parse_main_cf
from mailmapd.formats.map_list import parse_members, split_list
from mailmapd.formats.master_cf import parse_master_cf
from mailmapd.importers.postfix.elsewhere import left_alone
from mailmapd.importers.postfix.finder import Setting, find_mysql, known_parameters
from mailmapd.importers.postfix.split import MapNeed, Split, Unmovable, split_setting


def settings_of(text: str, master: str = "") -> tuple[Setting, ...]:
    """Return the settings that use MySQL."""
    main_cf = MainCf(Path("main.cf"), parse_main_cf(text, "main.cf"), known_defaults())
    return find_mysql(main_cf, tuple(parse_master_cf(master, "master.cf")))


def split(text: str, *, local_domains_known: bool = True) -> tuple[Split, list[MapNeed]]:
    """Split the one setting of a main.cf; maps are called after the stems of their files."""
    needs: list[MapNeed] = []

    def name_map(need: MapNeed) -> str:
        needs.append(need)
        return f"socketmap:s:{'+'.join(Path(file).stem for file in need.files)}:{need.keys.value}"

    (setting,) = settings_of(text)
    return split_setting(setting, name_map, local_domains_known=local_domains_known), needs


def members(text: str, **options: bool) -> list[str]:
    """Return the members of the new value."""
    return split(text, **options)[0].members


def test_lists_split_as_in_postfix() -> None:
    """White space and commas separate, braces protect them."""
    assert split_list("a, b\t{ c, d = e } unionmap:{f:1, g:2},,h") == [
        "a",
        "b",
        "{ c, d = e }",
        "unionmap:{f:1, g:2}",
        "h",
    ]
    assert [(member.text, member.negated) for member in parse_members("!a !!b c")] == [
        ("a", True),
        ("b", False),
        ("c", False),
    ]


def test_a_list_of_mysql_tables_becomes_one_map() -> None:
    """Tables that are all mysql: become one map in their order, which does the search; proxy: makes no difference."""
    value, needs = split("virtual_alias_maps = proxy:mysql:/p/a.cf,\n mysql:/p/b.cf")
    assert value.members == ["socketmap:s:a+b:address"]
    assert needs == [MapNeed("virtual_alias_maps", ("/p/a.cf", "/p/b.cf"), needs[0].keys)]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("pcre:/p/x mysql:/p/a.cf", ["pcre:/p/x", "socketmap:s:a:address"]),
        (
            "mysql:/p/a.cf pcre:/p/x",
            ["unionmap:{texthash:/dev/null,socketmap:s:a:exact}", "pcre:/p/x"],
        ),
        (
            "hash:/p/x mysql:/p/a.cf",
            ["hash:/p/x", "unionmap:{texthash:/dev/null,socketmap:s:a:exact}"],
        ),
        (
            "mysql:/p/a.cf mysql:/p/b.cf static:x",
            ["unionmap:{texthash:/dev/null,socketmap:s:a+b:exact}", "static:x"],
        ),
        (
            "mysql:/p/a.cf inline:{x=y} mysql:/p/b.cf",
            [
                "unionmap:{texthash:/dev/null,socketmap:s:a:exact}",
                "inline:{x=y}",
                "unionmap:{texthash:/dev/null,socketmap:s:b:exact}",
            ],
        ),
        (
            "unionmap:{mysql:/p/a.cf, mysql:/p/b.cf}",
            ["unionmap:{unionmap:{texthash:/dev/null,socketmap:s:a:exact},socketmap:s:b:exact}"],
        ),
        ("pipemap:{pcre:/p/x, proxy:mysql:/p/b.cf}", ["pipemap:{pcre:/p/x,socketmap:s:b:exact}"]),
    ],
)
def test_other_tables_in_a_list_keep_their_rank(value: str, expected: list[str]) -> None:
    """Beside a table whose keys take turns with ours, Postfix goes on asking key by key.

    Patterns in front change nothing.
    """
    assert members(f"virtual_alias_maps = {value}") == expected


def test_the_reason_for_asking_key_by_key_is_told() -> None:
    """The plan says which neighbour makes Postfix ask key by key, and what stays."""
    value, _ = split("transport_maps = hash:/p/x mysql:/p/a.cf")
    assert "hash:/p/x is asked for partial keys, too" in value.notes[0]
    assert (value.moved, value.stays) == (["mysql:/p/a.cf"], ["hash:/p/x"])


def test_unknown_local_domains_leave_the_search_to_postfix() -> None:
    """When only Postfix can tell which domains are local, it goes on searching address maps itself.

    Transports need no local domains.
    """
    assert members("canonical_maps = mysql:/p/a.cf", local_domains_known=False) == [
        "unionmap:{texthash:/dev/null,socketmap:s:a:exact}"
    ]
    assert members("transport_maps = mysql:/p/a.cf", local_domains_known=False) == [
        "socketmap:s:a:transport"
    ]


def test_exact_parameters_split_anywhere() -> None:
    """A parameter without partial keys is replaced run by run, in any company."""
    assert members("smtp_tls_policy_maps = mysql:/p/a.cf hash:/p/x mysql:/p/b.cf") == [
        "socketmap:s:a:exact",
        "hash:/p/x",
        "socketmap:s:b:exact",
    ]


def test_domain_lists_are_replaced_member_by_member() -> None:
    """Domain lists keep names, files, references and negations, and their order."""
    assert members(
        "relay_domains = $mydestination, !mysql:/p/a.cf /p/file mysql:/p/b.cf proxy:mysql:/p/c.cf .example.org"
    ) == [
        "$mydestination",
        "!socketmap:s:a:domain",
        "/p/file",
        "socketmap:s:b+c:domain",
        ".example.org",
    ]
    assert members("virtual_mailbox_domains = mysql:/p/a.cf hash:/p/x") == [
        "socketmap:s:a:exact",
        "hash:/p/x",
    ]
    assert members("mynetworks = 127.0.0.0/8 mysql:/p/a.cf") == [
        "127.0.0.0/8",
        "unionmap:{texthash:/dev/null,socketmap:s:a:exact}",
    ]


def test_restrictions_keep_everything_but_their_tables() -> None:
    """Behind check_*_access a table becomes a map that searches as that restriction does.

    The rest of the list stays.
    """
    value = (
        "smtpd_recipient_restrictions = permit_mynetworks, check_recipient_access "
        "proxy:mysql:/p/a.cf, CHECK_CLIENT_ACCESS mysql:/p/b.cf"
        " check_helo_access hash:/p/x check_sasl_access mysql:/p/c.cf"
        " check_ccert_access { mysql:/p/d.cf, search_order = pubkey_fingerprint } reject"
    )
    assert members(value) == [
        *(
            "permit_mynetworks",
            "check_recipient_access",
            "socketmap:s:a:access",
            "CHECK_CLIENT_ACCESS",
            "socketmap:s:b:access",
        ),
        *("check_helo_access", "hash:/p/x", "check_sasl_access", "socketmap:s:c:exact"),
        *(
            "check_ccert_access",
            "{ socketmap:s:d:exact, search_order = pubkey_fingerprint }",
            "reject",
        ),
    ]


def test_a_restriction_class_and_a_bare_table() -> None:
    """Restriction classes are restriction lists; a table without a restriction in front means the list's own one."""
    settings = settings_of(
        "smtpd_restriction_classes = strict\nstrict = check_sender_access mysql:/p/a.cf, "
        "reject\nsmtpd_helo_restrictions = mysql:/p/b.cf"
    )
    found = {
        setting.parameter.name: split_setting(
            setting, lambda need: f"{need.owner}:{need.keys.value}", local_domains_known=True
        ).members
        for setting in settings
    }
    assert found == {
        "strict": ["check_sender_access", "check_sender_access:access", "reject"],
        "smtpd_helo_restrictions": ["check_helo_access:helo"],
    }


def test_a_table_where_none_belongs_is_refused() -> None:
    """In smtpd_data_restrictions Postfix expects no bare table, and the refusal says what to write."""
    with pytest.raises(Unmovable, match="write check_…_access in front of it"):
        split("smtpd_data_restrictions = mysql:/p/a.cf")


def test_the_old_form_without_a_file_is_refused() -> None:
    """A mysql: name whose settings stand in main.cf is refused with the remedy."""
    with pytest.raises(Unmovable, match=r"put them into a \.cf file"):
        split("virtual_alias_maps = mysql:aliases")


def test_names_stand_for_parts_of_tables_and_for_lists() -> None:
    """A $name may be part of a table's name or a whole list; only what changes is written out."""
    text = "db = proxy:mysql:/p\nkept = hash:/p/x\nboth = ${db}/a.cf $kept\nvirtual_mailbox_domains = $kept $both"
    assert members(text) == ["$kept", "socketmap:s:a:exact", "hash:/p/x"]


def test_options_of_a_service_are_found() -> None:
    """An option that sets a map, and one that changes a name inside main.cf's value, are both uses of their service."""
    main = "login = mysql:/p/a.cf\nsmtpd_sender_login_maps = $login"
    master = (
        "submission inet n - y - - smtpd -o login=mysql:/p/b.cf -o "
        "smtpd_client_restrictions=check_client_access,mysql:/p/c.cf"
    )
    found = [
        (setting.name, [token.text for token in setting.tokens])
        for setting in settings_of(main, master)
    ]
    assert found == [
        ("smtpd_sender_login_maps", ["mysql:/p/a.cf"]),
        ("smtpd_sender_login_maps_submission", ["mysql:/p/b.cf"]),
        ("smtpd_client_restrictions_submission", ["check_client_access", "mysql:/p/c.cf"]),
    ]


def test_an_unused_name_with_mysql_is_reported_once_it_leads_nowhere() -> None:
    """A parameter that nobody refers to, and that is not Postfix's, is reported; proxy_read_maps is not."""
    text = "mine = mysql:/p/a.cf\nproxy_read_maps = proxy:mysql:/p/a.cf\nused = mysql:/p/b.cf\nrelay_domains = $used"
    main_cf = MainCf(Path("main.cf"), parse_main_cf(text, "main.cf"), known_defaults())
    found = list(left_alone(main_cf, (), known_parameters(main_cf, ())))
    assert [refusal.where for refusal in found] == ["main.cf line 1: mine"]
    assert "Postfix has no parameter of that name" in found[0].reason
