"""Accounts: what an option file says of encryption, and files of TLS that are renewed."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailmapd.databases.host_list import parse_host
from mailmapd.databases.mysql.account import TlsContexts, account_for, check_option_file
from mailmapd.databases.settings import MysqlSettings, TlsSettings
from support.authority import Authority


def from_file(folder: Path, line: str) -> MysqlSettings:
    """Return settings whose option file says one thing."""
    file = folder / "my.cnf"
    file.write_text(f"[client]\n{line}\n")
    return MysqlSettings(hosts=("db.example.net",), option_file=str(file))


@pytest.mark.parametrize("line", ["ssl-enforce = 1", "tls-enforce", "ssl"])
def test_encryption_that_is_asked_for(line: str, tmp_path: Path) -> None:
    """An option file that wants TLS gets it, without an authority if it names none."""
    _, account = account_for(parse_host("db.example.net"), from_file(tmp_path, line))
    assert account.tls == TlsSettings(verify=False)


@pytest.mark.parametrize(
    "line", ["ssl-fp = ab:cd", "tls-fplist = /x", "ssl-crl = /x", "tls-crlpath = /x"]
)
def test_what_is_not_looked_at(line: str, tmp_path: Path) -> None:
    """An option that would let fewer servers in is refused by its name, and not passed over."""
    with pytest.raises(ValueError, match=line.partition(" ")[0].partition("-")[2]):
        check_option_file(from_file(tmp_path, line))


def test_renewed_files(tmp_path: Path) -> None:
    """A context is made once, and anew when its authority is another one."""
    first = Authority(tmp_path, "ca")
    contexts, tls = TlsContexts(), TlsSettings(ca=str(first.file))
    made = contexts.of(tls)
    assert contexts.of(tls) is made
    Authority(tmp_path, "ca")
    renewed = contexts.of(tls)
    assert renewed is not made
    assert contexts.of(tls) is renewed
    first.file.unlink()
    with pytest.raises(FileNotFoundError):
        contexts.of(tls)
