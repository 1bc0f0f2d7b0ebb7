"""Expansion of $name, compared with what postconf itself prints."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from mailmapd.errors import ConfigError
from mailmapd.formats.expansion import ExpansionError, expand, references
from mailmapd.formats.main_cf import MainCf, known_defaults, parse_main_cf, read_main_cf

VALUES = {"a": "one", "b": "$a two", "empty": "", "path": "/etc/x", "level": "3.6"}

EXPRESSIONS = {
    "$a": "one",
    "x${b}y": "xone twoy",
    "$(b)": "one two",
    "$nowhere|": "|",
    "${a?yes}${empty?no}${nowhere?no}": "yes",
    "${a:no}${empty:yes}${nowhere:yes}": "yesyes",
    "${a?{is set}:{is not}}": "is set",
    "${empty ? {is set} : {is not}}": "is not",
    "${nowhere:$path/file}": "/etc/x/file",
    "${{$a} == {one} ? {equal} : {other}}": "equal",
    "${{$a} != {one} ? {equal} : {other}}": "other",
    "${{10} > {9} ? {number}}": "number",
    "${{$level} <level {3.10} ? {older} : {newer}}": "older",
    "$$a": "$a",
    "${a??odd:{b}text}": "?odd:{b}text",
    "hash:$path/y, pcre:${path}": "hash:/etc/x/y, pcre:/etc/x",
}


@pytest.mark.parametrize(("text", "expected"), EXPRESSIONS.items())
def test_every_form_of_expansion(text: str, expected: str) -> None:
    """Each form of $name gives the text that postconf(5) promises."""
    assert expand(text, VALUES.get) == expected


@pytest.mark.skipif(shutil.which("postconf") is None, reason="Postfix is not installed")
def test_the_same_as_postconf(tmp_path: Path) -> None:
    """Our expansion and that of `postconf -x` agree on every form."""
    lines = [f"{name} = {value}" for name, value in VALUES.items()]
    lines += [f"v{index} = {text}" for index, text in enumerate(EXPRESSIONS)]
    lines.append(f"relocated_maps = {' '.join(f'$v{index}' for index in range(len(EXPRESSIONS)))}")
    (tmp_path / "main.cf").write_text("\n".join(lines))
    (tmp_path / "master.cf").touch()
    names = [f"v{index}" for index in range(len(EXPRESSIONS))]
    done = subprocess.run(
        ["postconf", "-c", str(tmp_path), "-xh", *names], capture_output=True, text=True, check=True
    )
    ours = read_main_cf(tmp_path)
    assert [ours.value(name) for name in names] == done.stdout.splitlines()


def test_a_cycle_names_its_way() -> None:
    """A value that refers to itself is refused, with the names on the way."""
    with pytest.raises(ExpansionError, match=r"\$x → \$y → \$x"):
        expand("$x", {"x": "a $y", "y": "b $x"}.get)


@pytest.mark.parametrize("text", ["${a", "$", "${{a} ~ {b} ? {c}}", "${a ? {b} c}", "${a b}"])
def test_broken_syntax_is_refused(text: str) -> None:
    """What Postfix would stop at is an error here as well."""
    with pytest.raises(ExpansionError):
        expand(text, VALUES.get)


def test_references_are_direct_ones() -> None:
    """References are the names written in a value, not those in their values."""
    assert references("$b ${empty:$path} $(nowhere)") == {"b", "empty", "path", "nowhere"}


def test_a_cycle_in_main_cf_names_file_and_line(tmp_path: Path) -> None:
    """A cycle is one clear line: file, line, parameter and the way round."""
    (tmp_path / "main.cf").write_text("a = $b\n\nb = $a\ntransport_maps = $a\n")
    main_cf = read_main_cf(tmp_path, use_postconf=False)
    with pytest.raises(
        ConfigError,
        match=rf"{tmp_path}/main.cf: line 4: transport_maps: refers to itself: \$a → \$b → \$a",
    ):
        main_cf.value("transport_maps")


def test_main_cf_lines() -> None:
    """Continuation lines, comments between them, CRLF, a missing final newline and repeated
    parameters read as Postfix reads them.
    """
    entries = parse_main_cf(
        "# first\r\na = one,\r\n   two\r\n# between\r\n\r\n\tthree\r\nb=\r\na2 =x = y\nb = last",
        "main.cf",
    )
    assert {name: (entry.value.split(), entry.line) for name, entry in entries.items()} == {
        "a": (["one,", "two", "three"], 2),
        "b": (["last"], 9),
        "a2": (["x", "=", "y"], 8),
    }


def test_every_broken_line_is_named() -> None:
    """All lines without an equals sign are reported at once, each with its number."""
    with pytest.raises(ConfigError) as caught:
        parse_main_cf("a = b\nno equals\nc = d\n= nothing\n", "main.cf")
    assert [fault.where for fault in caught.value.faults] == ["line 2", "line 4"]


def test_an_unreadable_main_cf_is_one_line(tmp_path: Path) -> None:
    """A directory without main.cf is one fault that names the file."""
    with pytest.raises(
        ConfigError, match=rf"{tmp_path}/main.cf: cannot be read: No such file or directory"
    ):
        read_main_cf(tmp_path)


def test_options_come_before_main_cf(tmp_path: Path) -> None:
    """A service's -o options win over main.cf, also inside other values."""
    main_cf = MainCf(tmp_path / "main.cf", parse_main_cf("a = one\nb = $a", "main.cf"), {})
    assert main_cf.with_overrides({"a": "two"}).value("b") == "two"


@pytest.mark.skipif(shutil.which("postconf") is None, reason="Postfix is not installed")
def test_known_defaults_are_postfix_defaults(tmp_path: Path) -> None:
    """The defaults known without Postfix are those that `postconf -d` prints."""
    (tmp_path / "main.cf").write_text("")
    (tmp_path / "master.cf").touch()
    installed = read_main_cf(tmp_path)
    host_bound = {"myhostname", "mydomain", "alias_maps", "config_directory"}
    for name, value in known_defaults().items():
        if name not in host_bound:
            assert installed.raw(name) == value, name
