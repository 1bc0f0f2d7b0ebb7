"""A whole plan: what is written, what is printed, and what bad input is told."""

from __future__ import annotations

import grp
import os
import pwd
from dataclasses import replace
from pathlib import Path

import pytest

from mailmapd.databases.host_list import CLIENT_SOCKET
from mailmapd.errors import ConfigError
from mailmapd.importers import toml_writer
from mailmapd.importers.dovecot.sql_import import import_dovecot_sql
from mailmapd.importers.draft import is_same_server
from mailmapd.importers.postfix.changes import MovePlan
from mailmapd.importers.postfix.plan import plan_import
from mailmapd.importers.postfix.report import report
from mailmapd.importers.postfix.switch import switch_back, switch_over

CF = 'hosts = db1.example.net, unix:/run/mysqld/mysqld.sock\nuser = mail\npassword = pa#ss "w"\ndbname = mail\n'


@pytest.fixture
def postfix(tmp_path: Path) -> Path:
    """A Postfix configuration directory with a few .cf files."""
    (tmp_path / "master.cf").write_text(
        "virtual unix - n n - - virtual\nsmtp inet n - y - - smtpd\n"
    )
    for name, query in (
        ("mysql-domains", "SELECT 1 FROM d WHERE d = '%s'"),
        ("aliases", "SELECT a FROM a WHERE b = '%s'"),
        ("all", "SELECT a FROM c WHERE d = '%d'"),
    ):
        (tmp_path / f"{name}.cf").write_text(f"{CF}query = {query}\n")
    return tmp_path


def plan(postfix: Path, main_cf: str, *, keep_cf: bool = False) -> MovePlan:
    """Plan the import of a main.cf, without the postconf of this machine."""
    (postfix / "main.cf").write_text(
        f"myhostname = mx.example.net\n{main_cf.format(cf=f'mysql:{postfix}')}\ncompatibility_level = 3.6\n"
    )
    return plan_import(postfix, use_postconf=False, keep_cf=keep_cf)


def test_maps_say_what_postfix_would_do(postfix: Path) -> None:
    """A map has its tables in order, its search, the delimiter, propagation and the local domains."""
    made = plan(
        postfix,
        "recipient_delimiter = +-\nowner_request_special = no\nmydestination = localhost\n"
        "virtual_alias_maps = {cf}/aliases.cf {cf}/all.cf\n",
    )
    section, domains = made.draft.maps
    assert (domains.name, domains.settings["search"]) == ("virtual_alias_domains", "exact")
    assert section.settings == {
        "tables": ["aliases", "all"],
        "search": "address",
        "recipient_delimiter": "+-",
        "owner_request_special": False,
        "propagate_unmatched_extensions": True,
        "local_domains": ["mx.example.net", "localhost", "[127.0.0.1]", "[ipv6:::1]"],
        "own_addresses": ["all"],
    }
    assert [table.name for table in made.draft.tables] == ["aliases", "all"]
    assert "one answer serves all of a domain's addresses" in made.draft.tables[1].comment
    (database,) = made.draft.databases
    assert database.settings == {
        "driver": "mysql",
        "hosts": ["db1.example.net", "unix:/run/mysqld/mysqld.sock"],
        "user": "mail",
        "dbname": "mail",
    }
    assert database.password == 'pa#ss "w"'


def test_parent_domains_and_propagation_follow_main_cf(postfix: Path) -> None:
    """parent_domain_matches_subdomains and propagate_unmatched_extensions decide what a map does."""
    made = plan(
        postfix,
        "parent_domain_matches_subdomains = transport_maps\npropagate_unmatched_extensions = "
        "generic\nrelay_domains = {cf}/aliases.cf\n"
        "transport_maps = {cf}/aliases.cf\nvirtual_alias_maps = {cf}/aliases.cf\nsmtp_generic_maps = {cf}/aliases.cf\n",
    )
    found = {section.name: section.settings for section in made.draft.maps}
    assert found["relay_domains"]["parent_domain_matches_subdomains"] is False
    assert found["transport_maps"]["parent_domain_matches_subdomains"] is True
    assert found["virtual_alias_maps"]["propagate_unmatched_extensions"] is False
    assert found["smtp_generic_maps"]["propagate_unmatched_extensions"] is True


def test_cf_files_can_be_kept(postfix: Path) -> None:
    """With --keep-cf the tables refer to their files, and no database or password is copied."""
    made = plan(postfix, "virtual_mailbox_domains = {cf}/mysql-domains.cf\n", keep_cf=True)
    assert [table.settings for table in made.draft.tables] == [
        {"postfix_cf": f"{postfix}/mysql-domains.cf"}
    ]
    assert made.draft.databases == []


def test_virtual_keeps_its_table_where_it_delivers(postfix: Path) -> None:
    """When virtual(8) delivers, its own line in master.cf keeps the old table; with LMTP nothing is kept."""
    line = "virtual_mailbox_maps = {cf}/aliases.cf\n"
    assert "postconf -c " in switch_over(plan(postfix, line))
    assert f"virtual/unix/virtual_mailbox_maps=mysql:{postfix}/aliases.cf" in switch_over(
        plan(postfix, line)
    )
    assert "master.cf.before-mailmapd" in switch_back(plan(postfix, line))
    lmtp = switch_over(plan(postfix, f"{line}virtual_transport = lmtp:unix:private/dovecot-lmtp\n"))
    assert "virtual/unix" not in lmtp
    assert "master.cf" not in lmtp


def test_virtual_keeps_its_table_where_a_transport_may_name_it(postfix: Path) -> None:
    """A result of transport_maps may be virtual:, so that virtual(8) keeps its table with LMTP, too."""
    text = switch_over(
        plan(
            postfix,
            "virtual_mailbox_maps = {cf}/aliases.cf\nvirtual_transport = "
            "lmtp:unix:x\ntransport_maps = {cf}/mysql-domains.cf\n",
        )
    )
    assert f"virtual/unix/virtual_mailbox_maps=mysql:{postfix}/aliases.cf" in text


def test_an_option_of_virtual_itself_stays(postfix: Path) -> None:
    """A table that master.cf gives to virtual(8) itself is not moved to a socket, which it would refuse."""
    (postfix / "master.cf").write_text(
        f"virtual unix - n n - - virtual -o virtual_mailbox_maps=mysql:{postfix}/all.cf\n"
    )
    made = plan(postfix, "virtual_mailbox_maps = {cf}/aliases.cf\n")
    assert [(change.parameter, change.service) for change in made.changes] == [
        ("virtual_mailbox_maps", None)
    ]
    assert [refusal.where for refusal in made.refusals] == [
        "master.cf line 1: virtual/unix -o virtual_mailbox_maps"
    ]


def test_white_space_does_not_go_into_an_option(postfix: Path) -> None:
    """A value with white space inside braces stays, where it would have to become an option: postconf -P refuses it."""
    (postfix / "master.cf").write_text(
        "virtual unix - n n - - virtual\nsmtp inet n - y - - smtpd\n"
        f" -o {{ virtual_alias_maps = inline:{{ a@b.test = c@d.test }}, mysql:{postfix}/all.cf }}\n"
    )
    made = plan(
        postfix,
        "virtual_alias_maps = {cf}/aliases.cf\nvirtual_mailbox_maps = inline:{{ a@b.test = x }}, {cf}/aliases.cf\n",
    )
    assert [(change.parameter, change.service) for change in made.changes] == [
        ("virtual_alias_maps", None)
    ]
    assert [section.name for section in made.draft.maps] == ["virtual_alias_maps"]
    assert [refusal.where for refusal in made.refusals] == [
        "main.cf line 3: virtual_mailbox_maps",
        "master.cf line 2: smtp/inet -o virtual_alias_maps",
    ]


def test_a_condition_with_white_space_does_not_go_into_an_option(postfix: Path) -> None:
    """What stays in an option as it is written may hold white space, too: then the option is not changed."""
    (postfix / "master.cf").write_text(
        f"smtp inet n - y - - smtpd -o virtual_alias_maps=${{mine ? {{hash:/x}}}},mysql:{postfix}/all.cf\n"
    )
    made = plan(postfix, "relay_domains = {cf}/all.cf\nmine = yes\n")
    (refusal,) = made.refusals
    assert "holds white space" in refusal.reason
    assert not [change for change in made.changes if change.service]


def test_a_service_that_searches_otherwise_gets_a_map_of_its_own(postfix: Path) -> None:
    """A service whose options change what is searched, and not the list of tables, has its own map.

    Another option makes none.
    """
    (postfix / "master.cf").write_text(
        "smtp inet n - y - - smtpd -o recipient_delimiter=- -o parent_domain_matches_subdomains=\n"
        "26 inet n - y - - smtpd -o myhostname=other.example.net -o recipient_delimiter=+\n"
    )
    made = plan(
        postfix,
        "recipient_delimiter = +\nvirtual_alias_maps = {cf}/aliases.cf\nvirtual_mailbox_domains "
        "= {cf}/mysql-domains.cf\n"
        "smtpd_sender_restrictions = check_sender_access {cf}/all.cf\n",
    )
    found = {
        section.name: section.settings.get("recipient_delimiter") for section in made.draft.maps
    }
    assert found["virtual_alias_maps"] == "+"
    assert found["virtual_alias_maps_smtp"] == "-"
    access = [s.settings for s in made.draft.maps if s.name.startswith("check_sender_access")]
    assert [(s["recipient_delimiter"], s["parent_domain_matches_subdomains"]) for s in access] == [
        ("+", True),
        ("-", False),
    ]
    assert {(c.parameter, c.service.name) for c in made.changes if c.service} == {
        ("virtual_alias_maps", "smtp"),
        ("virtual_alias_domains", "smtp"),
        ("smtpd_sender_restrictions", "smtp"),
    }


def test_what_postfix_refuses_is_named_with_its_remedy(postfix: Path) -> None:
    """Tables of local(8) and virtual(8)'s own ones stay, and the report says why and what to do."""
    made = plan(
        postfix,
        "alias_maps = {cf}/aliases.cf\nvirtual_uid_maps = {cf}/aliases.cf\nrelay_domains = "
        "{cf}/all.cf\nmystery = {cf}/all.cf\n",
    )
    text = report(made, [Path("/etc/mailmapd/mailmapd.toml")])
    assert "local(8) takes no socketmap: tables; let LMTP deliver" in text
    assert "virtual_uid_maps" in text
    assert "main.cf line 5: mystery" in text
    assert [change.parameter for change in made.changes] == ["relay_domains", "fast_flush_domains"]


@pytest.mark.parametrize(
    "parameter", ["smtp_sasl_password_maps", "lmtp_sasl_password_maps", "tls_server_sni_maps"]
)
def test_passwords_stay_with_postfix(postfix: Path, parameter: str) -> None:
    """A table of passwords or keys stays as it is, and the report says why; nothing of it is in the draft."""
    text = f"virtual_alias_maps = {{cf}}/aliases.cf\n{parameter} = {{cf}}/all.cf\n"
    result = plan(postfix, text)
    assert [change.parameter for change in result.changes] == ["virtual_alias_maps"]
    (refusal,) = result.refusals
    assert parameter in refusal.where
    assert "passwords or keys" in refusal.reason
    assert [table.name for table in result.draft.tables] == ["aliases"]


def test_nothing_to_move_is_said(postfix: Path) -> None:
    """A main.cf without mysql: is one clear line."""
    with pytest.raises(ConfigError, match="names no mysql: table; there is nothing to replace"):
        plan(postfix, "virtual_alias_maps = hash:/etc/aliases\n")


def test_every_broken_cf_file_is_named_at_once(postfix: Path) -> None:
    """Missing files, files without a query and broken templates are all reported, with file and
    line, before anything is written.
    """
    (postfix / "empty.cf").write_text("hosts = localhost\r\nuser = a\r\ndbname = b")
    (postfix / "broken.cf").write_text(f"{CF}query = SELECT '%q'\n")
    with pytest.raises(ConfigError) as caught:
        plan(
            postfix,
            "virtual_alias_maps = {cf}/missing.cf {cf}/empty.cf {cf}/broken.cf {cf}/aliases.cf\n",
        )
    found = [str(fault) for fault in caught.value.faults]
    assert (
        f"{postfix}/missing.cf: cannot be read: No such file or directory (named in main.cf line 2: virtual_alias_maps)"
        in found[0]
    )
    assert f"{postfix}/empty.cf: query: is missing" in found[1]
    assert f"{postfix}/broken.cf: line 5: query:" in found[2]
    assert len(found) == 3


def test_crlf_unknown_keys_and_a_missing_newline_are_fine(postfix: Path) -> None:
    """A .cf file with CRLF, a key that nobody knows and no final newline reads as it does in Postfix."""
    (postfix / "odd.cf").write_bytes(
        b"hosts = localhost\r\nfavourite_colour = blue\r\nuser=a\r\ndbname = b\r\nquery = SELECT "
        b"1\r\n  FROM x WHERE y = '%s'"
    )
    made = plan(postfix, "virtual_mailbox_domains = {cf}/odd.cf\n")
    assert made.draft.tables[0].settings["query"].split() == [
        "SELECT",
        "1",
        "FROM",
        "x",
        "WHERE",
        "y",
        "=",
        "'%s'",
    ]


def test_a_query_that_is_not_utf8_is_named(postfix: Path) -> None:
    """A query in another encoding cannot be written into a configuration, which is said.

    With --keep-cf its file goes on as it is.
    """
    (postfix / "old.cf").write_bytes(
        f"{CF}query = SELECT 'caf".encode() + b"\xe9' FROM x WHERE y = '%s'\n"
    )
    with pytest.raises(ConfigError, match=r"old.cf: line 5: query: is not UTF-8"):
        plan(postfix, "virtual_mailbox_domains = {cf}/old.cf\n")
    assert (
        len(plan(postfix, "virtual_mailbox_domains = {cf}/old.cf\n", keep_cf=True).draft.tables)
        == 1
    )


def test_odd_limits_and_lists_keep_their_meaning(postfix: Path) -> None:
    """A negative expansion_limit limits nothing, and a domain list of commas matches nothing."""
    (postfix / "odd.cf").write_text(
        f"{CF}query = SELECT a FROM b WHERE c = '%s'\nexpansion_limit = -1\ndomain = ,\n"
    )
    (table,) = plan(postfix, "virtual_mailbox_domains = {cf}/odd.cf\n").draft.tables
    assert "expansion_limit" not in table.settings
    assert table.settings["domain"] == [","]


def test_hundreds_of_maps(postfix: Path, tmp_path: Path) -> None:
    """A main.cf with hundreds of tables is imported with all of them, each name once."""
    names = [f"t{number}" for number in range(300)]
    for name in names:
        (postfix / f"{name}.cf").write_text(f"{CF}query = SELECT 1 FROM {name} WHERE a = '%s'\n")
    members = ",\n  ".join(f"{{cf}}/{name}.cf" for name in names)
    made = plan(postfix, f"virtual_alias_maps = {members}\n")
    assert made.draft.maps[0].settings["tables"] == names
    written = toml_writer.write(made.draft, tmp_path / "out" / "mailmapd.toml")
    assert written[-1].stat().st_size > 10_000


def test_a_password_stays_out_of_the_report(postfix: Path) -> None:
    """The report names files, never what is in them."""
    made = plan(postfix, "virtual_alias_maps = {cf}/aliases.cf\n")
    assert "pa#ss" not in report(made, [Path("x")])


def changes(made: MovePlan) -> dict[str, str]:
    """Return what a plan writes into main.cf."""
    return {change.parameter: change.value for change in made.changes if change.service is None}


def test_what_inherits_a_moved_value_and_cannot_move_keeps_it(postfix: Path) -> None:
    """alias_maps = $virtual_alias_maps goes on with the old table, and what refers to alias_maps with it."""
    made = plan(
        postfix, "virtual_alias_maps = proxy:{cf}/aliases.cf\nalias_maps = $virtual_alias_maps\n"
    )
    assert changes(made)["alias_maps"] == f"proxy:mysql:{postfix}/aliases.cf"
    assert "local_recipient_maps" not in changes(made)
    assert "alias_maps: it refers to virtual_alias_maps" in report(made, [Path("x")])


def test_a_default_that_searches_otherwise_gets_a_map_of_its_own(postfix: Path) -> None:
    """With an old compatibility level relay_domains is mydestination, with its own keys and no flush by users."""
    (postfix / "main.cf").write_text(
        f"mydestination = localhost, proxy:mysql:{postfix}/mysql-domains.cf\n"
    )
    made = plan_import(postfix, use_postconf=False)
    moved = changes(made)
    assert moved.pop("proxy_read_maps").endswith(f" proxy:mysql:{postfix}/mysql-domains.cf")
    assert moved == {
        "mydestination": "localhost, socketmap:unix:mailmapd/socketmap:mydestination",
        "relay_domains": "localhost, socketmap:unix:mailmapd/socketmap:relay_domains",
        "fast_flush_domains": f"localhost, proxy:mysql:{postfix}/mysql-domains.cf",
    }
    found = {section.name: section.settings for section in made.draft.maps}
    assert found["relay_domains"]["search"] == "domain"
    assert found["mydestination"]["fold"] == "ascii"


def test_what_a_service_sees_otherwise_is_not_changed_for_it(postfix: Path) -> None:
    """A service whose option makes another value of a moved parameter, or of one that is kept, goes on to see it."""
    (postfix / "master.cf").write_text(
        "smtp inet n - y - - smtpd -o mine=hash:/b\n"
        f"lmtp unix - - n - - lmtp -o relay_domains=mysql:{postfix}/aliases.cf\n"
    )
    made = plan(
        postfix,
        "mine = {cf}/all.cf\nvirtual_mailbox_maps = $mine\nvirtual_transport = lmtp:x\n"
        "relay_domains = {cf}/all.cf\n",
    )
    assert "socketmap:" in changes(made)["virtual_mailbox_maps"]
    own = {
        (change.service.name, change.parameter): change.value
        for change in made.changes
        if change.service is not None
    }
    assert own.pop(("lmtp", "relay_domains")).startswith("socketmap:")
    assert own == {
        ("smtp", "virtual_mailbox_maps"): "hash:/b",
        ("lmtp", "fast_flush_domains"): f"mysql:{postfix}/aliases.cf",
    }


def test_what_a_service_cannot_keep_keeps_the_parameter(postfix: Path) -> None:
    """A value with white space that only an option could hold keeps the parameter as it is for all."""
    (postfix / "master.cf").write_text(
        "smtp inet n - y - - smtpd -o { mine = inline:{ {a = b c} } }\n"
    )
    made = plan(
        postfix,
        "mine = {cf}/all.cf\nvirtual_mailbox_maps = $mine\nrelay_domains = {cf}/all.cf\n",
    )
    assert changes(made).keys() == {"relay_domains", "fast_flush_domains"}
    assert any("because it holds white space" in refusal.reason for refusal in made.refusals)


def test_a_table_that_stays_behind_a_proxy_stays_approved(postfix: Path) -> None:
    """What an option keeps asking by way of proxymap is listed in proxy_read_maps, once."""
    (postfix / "master.cf").write_text(
        "smtp inet n - y - - smtpd\n -o { smtpd_recipient_restrictions = check_recipient_access"
        " inline:{ { boss@example.com = REJECT no thanks } }, check_recipient_access"
        f" proxy:mysql:{postfix}/aliases.cf, reject_unauth_destination }}\n"
    )
    made = plan(postfix, "virtual_alias_maps = proxy:{cf}/aliases.cf\n")
    assert changes(made)["proxy_read_maps"].endswith(
        f"$smtp_nested_header_checks proxy:mysql:{postfix}/aliases.cf"
    )


def test_a_proxy_before_a_rewritten_bundle_goes(postfix: Path) -> None:
    """proxymap(8) would refuse a bundle that it has not approved, so that Postfix opens the new one itself."""
    made = plan(postfix, "relay_recipient_maps = proxy:unionmap:{{static:x,{cf}/aliases.cf}}\n")
    assert changes(made) == {
        "relay_recipient_maps": "unionmap:{static:x,socketmap:unix:mailmapd/socketmap:relay_recipient_maps}"
    }


@pytest.mark.parametrize(
    ("parameter", "reader"),
    [
        ("authorized_submit_users", "postdrop"),
        ("authorized_mailq_users", "postqueue"),
        ("authorized_flush_users", "postqueue"),
        ("local_login_sender_maps", "postdrop"),
        ("fast_flush_domains", "postqueue"),
    ],
)
def test_what_users_programs_read_stays(postfix: Path, parameter: str, reader: str) -> None:
    """A table that a program reads with the rights of its user, or of postdrop, is not put behind our socket."""
    made = plan(postfix, f"{parameter} = {{cf}}/all.cf\nvirtual_alias_maps = {{cf}}/all.cf\n")
    assert parameter not in changes(made)
    (refusal,) = made.refusals
    assert f"{reader} reads it with the rights of" in refusal.reason


def test_each_member_of_postscreens_access_list_is_a_map(postfix: Path) -> None:
    """Postscreen goes on to the next table after "dunno", so that two tables may not become one."""
    made = plan(postfix, "postscreen_access_list = {cf}/aliases.cf, {cf}/all.cf\n")
    assert [section.settings["tables"] for section in made.draft.maps] == [["aliases"], ["all"]]
    assert changes(made)["postscreen_access_list"].count("socketmap:unix:") == 2


def test_another_name_for_the_null_sender_is_one_exact_key(postfix: Path) -> None:
    """Smtpd asks smtpd_null_access_lookup_key as it is; no part of it may be found."""
    made = plan(
        postfix,
        "smtpd_null_access_lookup_key = null@no.where\n"
        "smtpd_sender_restrictions = check_sender_access {cf}/all.cf\n",
    )
    assert "unionmap:{texthash:/dev/null,socketmap:" in changes(made)["smtpd_sender_restrictions"]
    assert made.draft.maps[0].settings["search"] == "exact"


@pytest.mark.parametrize(
    ("parameter", "utf8", "fold"),
    [
        ("virtual_alias_maps", "yes", None),
        ("virtual_alias_maps", "no", "ascii"),
        ("header_checks", "yes", "none"),
        ("smtpd_reject_filter_maps", "yes", "none"),
        ("lmtp_delivery_status_filter", "yes", "none"),
        ("relay_clientcerts", "yes", "ascii"),
        ("smtp_reply_filter", "yes", "ascii"),
        ("mailbox_transport_maps", "yes", "utf8"),
        ("mailbox_transport_maps", "no", "none"),
        ("mynetworks", "no", "ascii"),
    ],
)
def test_a_map_folds_as_postfix_opens_its_tables(
    postfix: Path, parameter: str, utf8: str, fold: str | None
) -> None:
    """The flags of the parameter and smtputf8_enable decide whether keys are folded and checked."""
    made = plan(postfix, f"smtputf8_enable = {utf8}\n{parameter} = {{cf}}/all.cf\n")
    assert made.draft.maps[0].settings.get("fold") == fold


def test_one_bad_map_is_one_line_of_the_report(postfix: Path) -> None:
    """A missing file, a domain list with a table and a query that writes stay, each with its reason; the rest moves."""
    (postfix / "listed.cf").write_text(f"{CF}query = SELECT '%s'\ndomain = texthash:/doms\n")
    (postfix / "writes.cf").write_text(f"{CF}query = UPDATE a SET b = 1 WHERE c = '%s'\n")
    made = plan(
        postfix,
        "virtual_alias_maps = {cf}/missing.cf\nrelay_recipient_maps = {cf}/listed.cf\n"
        "transport_maps = {cf}/writes.cf\nvirtual_mailbox_domains = {cf}/mysql-domains.cf\n",
    )
    assert list(changes(made)) == ["virtual_mailbox_domains"]
    assert [table.name for table in made.draft.tables] == ["domains"]
    reasons = "\n".join(refusal.reason for refusal in made.refusals)
    assert "missing.cf: cannot be read" in reasons
    assert "listed.cf: line 6: domain:" in reasons
    assert "UPDATE writes to the database" in reasons


def test_other_databases_are_in_the_report(postfix: Path) -> None:
    """sqlite:, pgsql:, ldap: and a memcache: without a mysql: backup are named, wherever they stand."""
    (postfix / "mc.cf").write_text("memcache = inet:localhost:11211\nkey_format = x-%s\n")
    made = plan(
        postfix,
        "virtual_alias_maps = {cf}/all.cf sqlite:/s.cf\nrelay_domains = proxy:pgsql:/p.cf\n"
        "smtpd_sender_restrictions = check_sender_access ldap:/l.cf\n"
        f"transport_maps = memcache:{postfix}/mc.cf\nvirtual_alias_map = {{cf}}/all.cf\n"
        "multi_instance_directories = /etc/postfix-out\n",
    )
    text = report(made, [Path("x")])
    for part in (
        "sqlite:/s.cf: reads a file",
        "pgsql:/p.cf: asks PostgreSQL",
        "ldap:/l.cf: asks LDAP",
    ):
        assert part in text
    assert "mc.cf: has no backup that is a mysql: table" in text
    assert "no parameter of that name; did you mean virtual_alias_maps?" in text
    assert "/etc/postfix-out is another instance of Postfix" in text


def test_sqlite_alone_is_said(postfix: Path) -> None:
    """A main.cf that asks no mysql: table but sqlite: is told so, not that it names none."""
    with pytest.raises(ConfigError, match=r"sqlite:/s.cf: reads a file on this host"):
        plan(postfix, "virtual_alias_maps = sqlite:/s.cf\n")


PROXY_READ_MAPS = (
    "proxy_read_maps = $virtual_alias_maps $relay_domains $virtual_mailbox_limit_maps"
    " $virtual_mailbox_map $mine\n"
)


@pytest.mark.parametrize("keep_cf", [False, True])
def test_a_file_that_the_daemon_would_refuse_stays(postfix: Path, keep_cf: bool) -> None:
    """A host or character set that cannot be is one line of the report, and not the end of a daemon with all maps."""
    query = "query = SELECT '%s'\n"
    text = CF.replace("db1.example.net, ", "")
    (postfix / "host.cf").write_text(text.replace("unix:", "/var/lib/x.sock,") + query)
    (postfix / "charset.cf").write_text(f"{text}charset = utf8mb4_general_ci\n{query}")
    (postfix / "literal.cf").write_text(f"{text}charset = gbk\nquery = SELECT 'ä' WHERE a = '%s'\n")
    made = plan(
        postfix,
        "virtual_alias_maps = {cf}/host.cf\nrelay_domains = {cf}/charset.cf\n"
        "transport_maps = {cf}/literal.cf\nvirtual_mailbox_domains = {cf}/mysql-domains.cf\n",
        keep_cf=keep_cf,
    )
    assert list(changes(made)) == ["virtual_mailbox_domains"]
    assert [refusal.faults[0].where for refusal in made.refusals] == [
        "line 1: hosts",
        "line 5: charset",
        "line 5: charset",
    ]


def test_a_list_of_approved_tables_hides_nothing(postfix: Path) -> None:
    """What proxy_read_maps names, or a longer name begins with, is in the report as what nobody names."""
    made = plan(
        postfix,
        f"{PROXY_READ_MAPS}virtual_alias_maps = proxy:ldap:/l.cf\nrelay_domains = sqlite:/s.cf\n"
        "virtual_mailbox_limit_maps = proxy:{cf}/all.cf\nvirtual_mailbox_map = {cf}/all.cf\n"
        "virtual_mailbox_maps = $mine\nmine = {cf}/all.cf, proxy:pgsql:/p.cf\n"
        "smtpd_sender_login_maps = $virtual_mailbox_maps, $virtual_alias_maps\n",
    )
    found = {refusal.where.rpartition(" ")[2]: refusal.reason for refusal in made.refusals}
    assert "l.cf: asks LDAP" in found["virtual_alias_maps"]
    assert "s.cf: reads a file" in found["relay_domains"]
    assert "VDA patch" in found["virtual_mailbox_limit_maps"]
    assert "did you mean virtual_mailbox_maps?" in found["virtual_mailbox_map"]
    assert "p.cf: asks PostgreSQL" in found["virtual_mailbox_maps"]
    assert "mine" not in found


def test_misspelt_options_of_services_are_in_the_report(postfix: Path) -> None:
    """A parameter that Postfix does not know is told in master.cf as in main.cf."""
    (postfix / "master.cf").write_text(
        f"smtp inet n - y - - smtpd -o smtpd_sender_restriction=check_sender_access,mysql:{postfix}/all.cf\n"
    )
    made = plan(postfix, "virtual_alias_maps = {cf}/all.cf\n")
    (refusal,) = made.refusals
    assert refusal.where == "master.cf line 1: smtp/inet -o smtpd_sender_restriction"
    assert refusal.reason.endswith("did you mean smtpd_sender_restrictions?")


def test_what_postfix_does_not_expand_is_no_end_of_the_import(postfix: Path) -> None:
    """A list of characters with a "$" in it is a value like any other, and the maps move."""
    characters = (
        "smtpd_expansion_filter = 01234567!\"#$%&'()*+,-./\nforward_expansion_filter = $!\n"
    )
    made = plan(postfix, f"{characters}virtual_alias_maps = {{cf}}/all.cf\n")
    assert "virtual_alias_maps" in changes(made)


def test_dollar_signs_of_what_stays_are_kept(postfix: Path) -> None:
    """A pattern beside a moved table, in a list that another parameter holds, goes on to end where it ended."""
    pattern = r"regexp:{{ {{/^boss@x\.test$$/ REJECT}} }}"
    made = plan(
        postfix,
        f"mine = check_sender_access {pattern}, check_sender_access {{cf}}/all.cf\n"
        "smtpd_sender_restrictions = $mine\nvirtual_transport = virtual\n"
        "virtual_mailbox_maps = unionmap:{{inline:{{a=$$b}},{cf}/all.cf}}\n",
    )
    moved = changes(made)
    assert (
        r"regexp:{ {/^boss@x\.test$$/ REJECT} }, check_sender_access"
        in (moved["smtpd_sender_restrictions"])
    )
    assert "inline:{a=$$b}" in moved["virtual_mailbox_maps"]
    (kept,) = [change.value for change in made.changes if change.service]
    assert "inline:{a=$$b}" in kept


def test_a_memcache_moves_as_the_table_behind_it(postfix: Path) -> None:
    """memcache: with a mysql: backup and no rule about keys becomes a map of that table."""
    (postfix / "mc.cf").write_text(
        f"memcache = inet:localhost:11211\nbackup = proxy:mysql:{postfix}/all.cf\nkey_format = %s\n"
    )
    made = plan(postfix, f"virtual_alias_maps = proxy:memcache:{postfix}/mc.cf\n")
    assert made.members == {"virtual_alias_maps": (f"{postfix}/all.cf",)}
    assert made.refusals == []


def test_braces_that_postfix_refuses_are_refused(postfix: Path) -> None:
    """A table in braces in a list of tables is no value that Postfix takes, and is not rewritten."""
    with pytest.raises(ConfigError, match="stands in braces, which Postfix refuses"):
        plan(postfix, "virtual_alias_maps = {{ {cf}/all.cf }}\n")


def test_a_file_may_be_named_relative_to_the_queue(postfix: Path) -> None:
    """mysql:./x.cf is a file below queue_directory, where Postfix's daemons are."""
    (postfix / "queue").mkdir()
    (postfix / "queue" / "x.cf").write_text(f"{CF}query = SELECT '%s'\n")
    made = plan(postfix, f"queue_directory = {postfix}/queue\nrelay_domains = mysql:./x.cf\n")
    assert made.members == {"relay_domains": (f"{postfix}/queue/x.cf",)}


def test_defaults_that_are_written_out_make_no_second_database(postfix: Path) -> None:
    """One server, account and database is one section, whatever defaults a file repeats; an option
    group is another account.
    """
    same = f"{CF}query = SELECT '%s'\n"
    (postfix / "one.cf").write_text(f"{same}option_file = /my.cnf\noption_group = client\n")
    (postfix / "two.cf").write_text(
        f"{same}option_file = /my.cnf\ncharset = utf8mb4\nretry_interval = 60\n"
    )
    (postfix / "three.cf").write_text(f"{same}option_file = /my.cnf\noption_group = other\n")
    made = plan(postfix, "virtual_alias_maps = {cf}/one.cf {cf}/two.cf {cf}/three.cf\n")
    assert [database.name for database in made.draft.databases] == ["mail", "mail_2"]
    assert [table.settings["database"] for table in made.draft.tables] == ["mail", "mail", "mail_2"]


def test_hosts_that_are_written_otherwise_make_no_second_database(
    postfix: Path, tmp_path: Path
) -> None:
    """One server is one database, whether its port or inet: is written out, in Dovecot's file as well."""
    files = {"a": "127.0.0.1", "b": "inet:127.0.0.1:3306", "c": "127.0.0.1:3307"}
    for name, host in files.items():
        text = CF.replace("db1.example.net, unix:/run/mysqld/mysqld.sock", host)
        (postfix / f"{name}.cf").write_text(f"{text}query = SELECT '%s'\n")
    made = plan(postfix, "virtual_alias_maps = {cf}/a.cf {cf}/b.cf {cf}/c.cf\n")
    assert [database.name for database in made.draft.databases] == ["mail", "mail_2"]
    sql = tmp_path / "dovecot-sql.conf.ext"
    sql.write_text(
        "driver = mysql\nconnect = host=127.0.0.1 port=3306 dbname=mail user=mail password=x\n"
        "user_query = SELECT home FROM m WHERE u = '%u'\n"
    )
    assert is_same_server(
        {"hosts": ["localhost"]}, {"hosts": [f"unix:{os.path.realpath(CLIENT_SOCKET)}"]}
    )
    option = {"option_file": "/my.cnf"}
    assert not is_same_server({"hosts": ["db"], **option}, {"hosts": ["db:3306"], **option})
    draft = made.draft
    draft.databases[0] = replace(draft.databases[0], password="x")
    import_dovecot_sql(draft, [sql])
    assert draft.tables[-1].settings["database"] == "mail"


def test_a_queue_elsewhere_gets_units_of_its_own(postfix: Path) -> None:
    """The report says which command prints the units for another queue_directory, and nothing for the usual one."""
    line = "virtual_alias_maps = {cf}/all.cf\n"
    config = [Path("/etc/mailmapd/mailmapd.toml")]
    elsewhere = report(plan(postfix, f"{line}queue_directory = /srv/queue\n"), config)
    assert "mailmapd snippets systemd --config /etc/mailmapd/mailmapd.toml" in elsewhere
    assert "snippets systemd" not in report(plan(postfix, line), config)


def test_the_socket_belongs_to_postfixs_group(postfix: Path) -> None:
    """The listener that is written lets the group of Postfix's daemons in, and nobody else."""
    made = plan(postfix, "virtual_alias_maps = {cf}/all.cf\n")
    assert made.draft.listen["socketmap"] == [
        {"address": "unix:/var/spool/postfix/mailmapd/socketmap", "group": "postfix"}
    ]
    made = plan(postfix, "mail_owner = nobody\nvirtual_alias_maps = {cf}/all.cf\n")
    group = grp.getgrgid(pwd.getpwnam("nobody").pw_gid).gr_name
    assert made.draft.listen["socketmap"][0]["group"] == group
