"""No command of the documentation has a secret among its words, where every account of the machine sees it in `ps`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.guide import PROJECT, blocks

PAGES = sorted(
    [
        *PROJECT.glob("*.md"),
        *PROJECT.glob("docs/*.md"),
        *PROJECT.glob("docs/man/*"),
        *(path for path in PROJECT.glob("configs/**/*") if path.is_file()),
        *PROJECT.glob("daemon/**/*.py"),
        *(path for path in PROJECT.glob("systemd/*") if path.is_file()),
        PROJECT / "compose.yaml",
        PROJECT / "Containerfile",
    ]
)
_HERE_TEXT = re.compile(r"<<-?\s*['\"]?(\w+)['\"]?\n.*?^\s*\1$", re.MULTILINE | re.DOTALL)
_HERE_STRING = re.compile(r"<<<\s*(?:'[^']*'|\"[^\"]*\"|\S+)")
_IN_THE_SHELL = re.compile(r"\b(?:printf|echo)\b[^|;&\n]*")
"""What the shell does itself, without another process."""

_VARIABLE = re.compile(r"\$\{?(?:\w*(?:pass|secret|token|plain|hash|key)\w*)\b", re.IGNORECASE)
_OPTION = re.compile(
    r"--(?:password|pass|secret|token)[= ](?!\s)[\"'$\w…]"
    r"|\bdoveadm pw\b[^`\n|]* -p\b"
    r"|\b(?:mysql|mariadb|mysqldump|mysqladmin)\b[^`\n|]* -p[^\s`]"
    r"|\bcurl\b[^`\n|]* (?:--user|-u) [^\s`]+:[^\s`]"
    r"|\bcurl\b[^`\n|]*Authorization:"
    r"|\b(?:redis|valkey)-cli\b[^`\n|]* (?:-a|--pass|ACL SETUSER|CONFIG SET requirepass)"
    r"|\b(?:mysql|mariadb)\b[^`\n]* -e [^\n`]*(?:IDENTIFIED BY|PASSWORD\()"
    r"|\bdoveadm auth test\b +[^\s`|]+ +[^\s`|]",
)


def said_to_others(text: str) -> str:
    """Return shell lines without what goes to a command by its standard input, or never leaves the shell."""
    for part in (_HERE_TEXT, _HERE_STRING, _IN_THE_SHELL):
        text = part.sub("", text)
    return text


def told(text: str) -> Iterator[str]:
    """Yield each secret among the words of a command, in blocks of shell commands and anywhere else."""
    for language, code in blocks(text):
        if language == "sh":
            yield from (match[0] for match in _VARIABLE.finditer(said_to_others(code)))
    yield from (match[0] for match in _OPTION.finditer(text))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_no_secret_among_the_words_of_a_command(path: Path) -> None:
    """Passwords, tokens and hashes go to commands by standard input or by files."""
    assert list(told(path.read_text(encoding="utf-8", errors="replace"))) == []


@pytest.mark.parametrize(
    "line",
    [
        'sed -i "s/x/$password/" file',
        'doveadm pw -s SHA512-CRYPT -p "$plain"',
        "doveadm auth test you@example.com secret",
        "mysql -pSecret virtual_email",
        "mysql -e \"CREATE USER u IDENTIFIED BY 'x'\"",
        "curl --user you@example.com:secret imaps://localhost",
        "curl -H 'Authorization: Bearer x' http://localhost/flush",
        "redis-cli -a secret ping",
        "mysql mail -e \"UPDATE u SET p = '$hash'\"",
    ],
)
def test_such_lines_are_found(line: str) -> None:
    """What would show a secret is seen."""
    assert list(told(f"```sh\n{line}\n```\n"))


@pytest.mark.parametrize(
    "line",
    [
        "password=$(openssl rand -hex 24)",
        "mysql mail <<SQL\nCREATE USER u IDENTIFIED BY '$password';\nSQL",
        "printf '%s\\n' \"$plain\" | doveadm pw -s SHA512-CRYPT",
        "mysql mail <<< \"UPDATE u SET p = '$hash'\"",
        "doveadm auth test you@example.com",
        "install -m 600 /dev/stdin /etc/credstore/mail-db-password",
    ],
)
def test_other_lines_are_not(line: str) -> None:
    """What goes by standard input is no matter."""
    assert list(told(f"```sh\n{line}\n```\n")) == []
