"""Any main.cf: after an import no parameter has another value than before, unless it was meant to have one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailmapd.errors import ConfigError
from mailmapd.importers.postfix.parameters import PARAMETERS, Parameter
from mailmapd.importers.postfix.plan import plan_import
from mailmapd.importers.postfix.switch import switch_over
from support.process import program

NAMES = (
    *(
        "virtual_alias_maps",
        "virtual_mailbox_maps",
        "virtual_alias_domains",
        "virtual_mailbox_domains",
    ),
    *("mydestination", "relay_domains", "fast_flush_domains", "alias_maps", "local_recipient_maps"),
    *(
        "transport_maps",
        "canonical_maps",
        "smtp_tls_policy_maps",
        "lmtp_generic_maps",
        "header_checks",
    ),
    *("smtpd_sender_login_maps", "smtpd_sender_restrictions", "smtpd_recipient_restrictions"),
    *(
        "mynetworks",
        "authorized_submit_users",
        "relay_recipient_maps",
        "proxy_read_maps",
        "mine",
        "theirs",
    ),
)
TABLES = (
    "mysql:{cf}/a.cf",
    "proxy:mysql:{cf}/a.cf",
    "proxy:mysql:{cf}/b.cf",
    "hash:/x",
    "proxy:hash:/y",
)
REFERENCES = (
    *("${0}", "${{{0}}}", "$({0})", "${{{0}?mysql:{{cf}}/b.cf}}", "${{{0}:static:x}}"),
    *("${{{0}?{{${0}}}:{{hash:/z}}}}", "${{{{${0}}} != {{}} ? {{${0}}} : {{static:y}}}}"),
    "${{{{$compatibility_level}} >=level {{3}} ? {{${0}}} : {{hash:/q}}}}",
)
WORDS = ("example.com", "localhost", "permit_mynetworks", "!no.test", "regexp:{{ {{/a$$/ b}} }}")
BUNDLES = ("unionmap:{{static:x,{0}}}", "proxy:unionmap:{{{0},static:x}}")


@st.composite
def members(draw: st.DrawFn, level: int) -> str:
    """Return one member of a list, which refers only to names of a lower level: no value contains itself."""
    kind = draw(st.sampled_from(("table", "table", "reference", "word", "bundle")))
    if kind == "table":
        return draw(st.sampled_from(TABLES))
    if kind == "bundle":
        return draw(st.sampled_from(BUNDLES)).format(draw(st.sampled_from(TABLES)))
    if kind == "reference" and level:
        return draw(st.sampled_from(REFERENCES)).format(
            NAMES_IN_ORDER[draw(st.integers(0, level - 1))]
        )
    return draw(st.sampled_from(WORDS))


OWN = ("proxy_read_maps", "process_id", "process_name")
"""What names the program that tells it, and the list of approved tables, which grows on purpose."""

NAMES_IN_ORDER = tuple(sorted(NAMES))


@st.composite
def values(draw: st.DrawFn, level: int, separator: str = ", ") -> str:
    """Return a list for a parameter of this level."""
    return separator.join(draw(st.lists(members(level), min_size=1, max_size=3)))


@st.composite
def files(draw: st.DrawFn) -> tuple[str, str]:
    """Return main.cf and the options of three services."""
    chosen = draw(st.lists(st.integers(0, len(NAMES) - 1), unique=True, min_size=1, max_size=8))
    lines = [
        f"compatibility_level = {draw(st.sampled_from(('0', '2', '3.6')))}",
        *(f"{NAMES_IN_ORDER[level]} = {draw(values(level))}" for level in sorted(chosen)),
    ]
    services = []
    for service in (
        "smtp inet n - y - - smtpd",
        "local unix - n n - - local",
        "lmtp unix - - n - - lmtp",
    ):
        options = draw(st.lists(st.integers(0, len(NAMES) - 1), unique=True, max_size=2))
        written = [f"  -o {NAMES_IN_ORDER[name]}={draw(values(name, ','))}" for name in options]
        services.append("\n".join([service, *written]))
    return "\n".join(lines) + "\n", "\n".join(services) + "\n"


def expanded(folder: Path, overrides: dict[str, str]) -> dict[str, str]:
    """Return every parameter's value as Postfix expands it, for a program with these options."""
    options = [part for name, value in overrides.items() for part in ("-o", f"{name}={value}")]
    done = subprocess.run(
        [program("postconf", "postfix"), "-c", str(folder), "-x", *options],
        capture_output=True,
        text=True,
        check=True,
    )
    pairs = (line.partition(" =") for line in done.stdout.splitlines())
    return {name: value.strip() for name, _, value in pairs}


def views(folder: Path, names: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """Return the values of main.cf and of each service."""
    for file in ("main.cf", "master.cf"):
        os.utime(folder / file, (0, 0))  # Postfix waits until a fresh file has settled
    found = {"": expanded(folder, {})}
    for service in names:
        done = subprocess.run(
            [program("postconf", "postfix"), "-c", str(folder), "-P", service],
            capture_output=True,
            text=True,
            check=True,
        )
        pairs = (line.partition(" = ") for line in done.stdout.splitlines())
        own = {name.rpartition("/")[2]: value for name, _, value in pairs}
        found[service] = expanded(folder, own) if own else found[""]
    return found


@pytest.mark.servers
@settings(
    max_examples=20,
    deadline=None,
    derandomize=True,  # the same files in every run; raise max_examples to look for others
    suppress_health_check=[HealthCheck.too_slow],
)
@given(files())
def test_no_parameter_changes_without_being_meant_to(written: tuple[str, str]) -> None:
    """Every value that differs after the pasted lines is one that the plan moves, in main.cf and for each service."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        for table in ("a", "b"):
            text = "hosts = localhost\nuser = u\npassword = p\ndbname = d\nquery = SELECT '%s'\n"
            (folder / f"{table}.cf").write_text(text)
        for file, text in zip(("main.cf", "master.cf"), written, strict=True):
            (folder / file).write_text(text.replace("{cf}", name))
        try:
            plan = plan_import(folder)
        except ConfigError:  # nothing can move, so that nothing is printed
            return
        services = ("smtp/inet", "local/unix", "lmtp/unix")
        before = views(folder, services)
        lines = "\n".join(
            line for line in switch_over(plan).splitlines() if not line.startswith("postfix ")
        )
        done = subprocess.run(
            ["sh", "-e"], input=lines, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        after = views(folder, services)
        moved: dict[str, set[str]] = {view: set() for view in before}
        for change in plan.changes:
            if not change.keeps:
                service = change.service
                moved["" if service is None else f"{service.name}/{service.type}"].add(
                    change.parameter
                )
        for view, values_before in before.items():
            for parameter, value in values_before.items():
                # what main.cf changes is meant for those who see main.cf's value
                meant = parameter in moved[view] or (
                    parameter in moved[""] and value == before[""].get(parameter)
                )
                if not meant and parameter not in OWN:
                    # postconf tells no parameter of one's own that nothing refers to any more
                    _holds(parameter, value, after[view].get(parameter, value), after[view])


def _tables(value: str) -> list[str]:
    """Return the words of a value; a table is the same by way of proxymap(8)."""
    return [word.removeprefix("proxy:") for word in value.replace(",", " ").split()]


def _holds(parameter: str, before: str, after: str, view: dict[str, str]) -> None:
    """Assert that a value is the same, or inherited from a parameter that answers alike."""
    if _tables(before) == _tables(after):
        return
    assert parameter in PARAMETERS, (parameter, before, after)
    own = PARAMETERS[parameter]
    assert not own.private_reader, (parameter, before, after)
    assert any(
        view.get(other.name) == after and _answers_alike(own, other)
        for other in PARAMETERS.values()
    ), (parameter, before, after)


def _answers_alike(own: Parameter, other: Parameter) -> bool:
    if own.name.replace("_domains", "_maps") == other.name != own.name:
        return True  # the bare domains in a table of addresses are its domains
    return own.name != other.name and (own.keys, own.folding, own.parent_style, own.refused_by) == (
        other.keys,
        other.folding,
        other.parent_style,
        other.refused_by,
    )
