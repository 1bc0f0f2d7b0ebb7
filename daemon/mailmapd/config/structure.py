"""From TOML's tables to the schema's classes, collecting every fault instead of stopping at the first.

cattrs does the walking. Its hooks here are strict (a number is not a text, a text is not a list),
and its grouped exceptions become Faults that name the TOML key and say what to write instead.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import attrs
from cattrs import Converter, override
from cattrs.errors import ClassValidationError, ForbiddenExtraKeysError, IterableValidationError
from cattrs.gen import make_dict_structure_fn

from mailmapd.config import schema
from mailmapd.config.address import Address, parse_address
from mailmapd.config.duration import parse_duration
from mailmapd.config.size import check_size
from mailmapd.errors import Fault

Hook = Callable[[Any, Any], Any]

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

_TYPE_WORDS = {
    str: "a text in quotes",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}
_NOT_A_TABLE = "must be a table ([section]), not a single value"

_SECTIONS = (
    schema.LimitsSection,
    schema.LogSection,
    schema.StateSection,
    schema.TlsSection,
    schema.ChangesSection,
    schema.DatabaseSection,
    schema.ClusterSection,
    schema.DovecotSection,
    schema.CacheSection,
    schema.TableCacheSection,
    schema.TableSection,
    schema.MapSection,
    schema.DictSection,
    schema.ListenAddress,
    schema.ListenSection,
    schema.Config,
)
"""Every class of the schema, each after the classes it is made of."""


def structure_config(
    file: str, document: Mapping[str, Any]
) -> tuple[schema.Config | None, list[Fault]]:
    """Return the configuration, or None and every fault of type, range or unknown key."""
    try:
        return make_converter().structure({**document, "file": file}, schema.Config), []
    except ClassValidationError as error:
        return None, list(_faults(file, error, ()))


@cache
def make_converter() -> Converter:
    """Return the strict converter for `schema.Config`, made once: it writes and compiles code for each class."""
    converter = Converter(forbid_extra_keys=True, detailed_validation=True)
    converter.register_structure_hook(str, _text)
    for wanted in (int, float, bool):
        converter.register_structure_hook(wanted, _strict(wanted))
    converter.register_structure_hook(
        schema.Seconds, lambda value, _: schema.Seconds(parse_duration(value))
    )
    converter.register_structure_hook(schema.Mode, _mode)
    for of_lines in (schema.Lines, schema.Secret):
        converter.register_structure_hook(of_lines, _lines)
    for named in (schema.FileName, schema.SecretFile, schema.FileWithSecret):
        converter.register_structure_hook(named, _file_name)
    converter.register_structure_hook(schema.Size, lambda value, _: schema.Size(check_size(value)))
    converter.register_structure_hook_func(lambda kind: kind == tuple[str, ...], _texts)
    converter.register_structure_hook_func(lambda kind: kind == str | tuple[str, ...], _search)
    converter.register_structure_hook_func(
        lambda kind: kind == Address, lambda value, _: parse_address(_text(value))
    )
    converter.register_structure_hook_func(
        lambda kind: kind == tuple[schema.ListenAddress, ...], _listen_addresses(converter)
    )
    converter.register_structure_hook_func(
        lambda kind: kind == schema.ListenAddress | None, _listen_address_or_none(converter)
    )
    for section in _SECTIONS:
        hook = _section_hook(converter, section)
        converter.register_structure_hook(
            section, _listen_address(hook) if section is schema.ListenAddress else _table(hook)
        )
    return converter


def _strict(wanted: type) -> Hook:
    def strict(value: object, _: object) -> object:
        if wanted is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if type(value) is not wanted:
            raise ValueError(f"must be {_TYPE_WORDS[wanted]}, not {_describe(value)}")
        if wanted is int and isinstance(value, int) and abs(value) > schema.MOST:
            raise ValueError(f"must be at most {schema.MOST}")
        return value

    return strict


def _describe(value: object) -> str:
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    return _TYPE_WORDS.get(type(value), type(value).__name__)


def _texts(value: object, _: object = None) -> tuple[str, ...]:
    if isinstance(value, str):
        raise ValueError(f"must be a list: write {_quoted([value])}")
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError('must be a list of texts, such as ["one", "two"]')
    return tuple(map(_text, value))


def _quoted(texts: list[str]) -> str:
    return json.dumps(texts, ensure_ascii=False)


def _search(value: object, _: object) -> str | tuple[str, ...]:
    return _text(value) if isinstance(value, str) else _texts(value)


def _mode(value: object, _: object) -> schema.Mode:
    if not isinstance(value, str) or not re.fullmatch(r"0?[0-7]{3}", value):
        raise ValueError('must be an octal file mode in quotes, such as "0660"')
    return schema.Mode(value, 8)


def _file_name(value: object, kind: type) -> object:
    name = _text(value)
    if not name:
        raise ValueError("must not be empty: name a file, or remove the key")
    return kind(name)


def _text(value: object, _: object = None) -> str:
    """Return a text of one line, which names, addresses and files are."""
    text = str(_strict(str)(value, str))
    odd = _CONTROL.search(text)
    if odd is not None:
        raise ValueError(f"holds a control character, {odd[0]!a}: write a text of one line")
    return text


def _lines(value: object, kind: type) -> object:
    """Return a text of any form, but for NUL, with which texts end in protocols and in C."""
    text = str(_strict(str)(value, str))
    if "\0" in text:
        raise ValueError("holds a NUL character: remove it")
    return kind(text)


def _listen_addresses(converter: Converter) -> Hook:
    def addresses(value: object, _: object) -> tuple[schema.ListenAddress, ...]:
        if isinstance(value, str):
            raise ValueError(f"must be a list of addresses: write {_quoted([value])}")
        if not isinstance(value, list):
            raise ValueError('must be a list of addresses, such as ["unix:/run/mailmapd/dict"]')
        return tuple(converter.structure(value, list[schema.ListenAddress]))

    return addresses


def _listen_address(full: Hook) -> Hook:
    def address(value: object, kind: object) -> object:
        if isinstance(value, str):
            return schema.ListenAddress(address=parse_address(value))
        if isinstance(value, int) and not isinstance(value, bool):
            raise ValueError(f'must be an address, not a port alone: write "127.0.0.1:{value}"')
        if not isinstance(value, dict):
            raise ValueError(
                'must be an address such as "unix:/run/mailmapd/dict", or a table {address = "…", group = "…"}'
            )
        return full(value, kind)

    return address


def _listen_address_or_none(converter: Converter) -> Hook:
    def address(value: object, _: object) -> object:
        return None if value is False else converter.structure(value, schema.ListenAddress)

    return address


def _table(full: Hook) -> Hook:
    def table(value: object, kind: object) -> object:
        if not isinstance(value, dict):
            raise ValueError(_NOT_A_TABLE)
        return full(value, kind)

    return table


def _section_hook(converter: Converter, section: type) -> Hook:
    """Return the hook of one class.

    Each value's range is checked with its type, so that every fault of a section is reported.
    """
    attrs.resolve_types(section)
    overrides = {
        attribute.name: override(
            rename=_toml_name(section, attribute.name), struct_hook=_in_range(converter, attribute)
        )
        for attribute in attrs.fields(section)
    }
    return make_dict_structure_fn(section, converter, _cattrs_forbid_extra_keys=True, **overrides)  # type: ignore[arg-type]


def _in_range(converter: Converter, attribute: Any) -> Hook:
    def in_range(value: object, _: object) -> object:
        if getattr(attribute.default, "factory", None) is dict and not isinstance(value, dict):
            raise ValueError(_NOT_A_TABLE)
        structured = converter.structure(value, attribute.type)
        if attribute.validator is not None:
            try:
                attribute.validator(None, attribute, structured)
            except ValueError as error:
                raise ValueError(_range_text(error, attribute.name)) from error
        return structured

    return in_range


def _range_text(error: ValueError, name: str) -> str:
    text = str(error.args[0])
    choices = re.match(r"'\w+' must be in \((.*?)\)", text)
    if choices:
        return f"must be one of {choices[1]}".replace("'", '"')
    if text.startswith("Length of"):
        return "must not be empty"
    return re.sub(r"^must be (\S+) (\S+): .*", r"must be \1 \2", text.removeprefix(f"'{name}' "))


def _toml_name(owner: type, attribute: str) -> str:
    return schema.TOML_NAMES.get(owner, {}).get(attribute, attribute)


def _faults(file: str, error: BaseException, path: tuple[str, ...]) -> Iterator[Fault]:
    if isinstance(error, ClassValidationError):
        noted, others = error.group_exceptions()
        for inner, note in noted:
            yield from _faults(file, inner, (*path, _toml_name(error.cl, note.name)))
        for inner in others:
            yield from _faults(file, inner, path)
    elif isinstance(error, IterableValidationError):
        items, others = error.group_exceptions()
        for inner, item in items:
            step = f"[{item.index}]" if isinstance(item.index, int) else str(item.index)
            yield from _faults(file, inner, (*path, step))
        for inner in others:
            yield from _faults(file, inner, path)
    elif isinstance(error, ForbiddenExtraKeysError):
        for name in sorted(error.extra_fields):
            yield _unknown_key(file, path, name, error.cl)
    elif isinstance(error, KeyError):
        yield Fault(file, _dotted(path), "is missing", "add it")
    else:
        yield Fault(file, _dotted(path), str(error), "")


def _dotted(path: tuple[str, ...]) -> str:
    return ".".join(path).replace(".[", "[")


def _unknown_key(file: str, path: tuple[str, ...], name: str, owner: type) -> Fault:
    known = [
        _toml_name(owner, attribute.name)
        for attribute in attrs.fields(owner)
        if attribute.name != "file"
    ]
    near = difflib.get_close_matches(name, known, n=1)
    remedy = f'did you mean "{near[0]}"?' if near else f"known here: {', '.join(known)}"
    return Fault(file, _dotted((*path, name)), "unknown key", remedy)
