"""Writing mailmapd.toml: a draft as commented text, and its passwords to files that only their owner can read.

Files appear complete or not at all: each is written under a temporary name, synced and renamed, the configuration last.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mailmapd.errors import ConfigError, Fault
from mailmapd.importers.draft import Draft, DraftDatabase, DraftSection

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_ACCOUNT = "mailmapd"
_SECRET_MODE = 0o600
_CONFIG_MODE = (
    0o640  # what a query holds, such as a key of AES_DECRYPT, may have stood in a closed file
)
_LINE_WIDTH = 120  # characters; longer lists are written one item a line


def password_file_name(database: DraftDatabase) -> str:
    """Return the name of the file that holds a database's password, beside the configuration.

    It is none that the service could have a credential of, which would be taken for it.
    """
    return f"{database.name}-imported-password"


def render(draft: Draft) -> str:
    """Return the configuration as TOML."""
    blocks = [_comment(draft.comment)] if draft.comment else []
    if draft.listen:
        blocks.append(render_section("listen", draft.listen, ""))
    for database in draft.databases:
        settings = dict(database.settings)
        if database.password:
            settings["password_file"] = password_file_name(database)
        blocks.append(
            render_section(f"database.{toml_key(database.name)}", settings, database.comment)
        )
    for kind, sections in (("table", draft.tables), ("map", draft.maps), ("dict", draft.dicts)):
        blocks.extend(_draft_section(kind, section) for section in sections)
    return "\n".join(blocks)


def write(
    draft: Draft, path: Path, *, overwrite: bool = False, text: str | None = None
) -> list[Path]:
    """Write the configuration and its password files; return what was written, the configuration last.

    `text` is the whole configuration when the draft only adds to one. What is overwritten with
    something else is kept beside it, under another name (see `backup_name`). Password files belong to
    the daemon's account (``mailmapd``) when there is one, and the configuration to its group: nobody else
    can read it, because the files that it is made of may be closed, too. Raises ConfigError,
    with nothing changed, when a file exists already or cannot be written.
    """
    secrets = {
        path.parent / password_file_name(database): database.password
        for database in draft.databases
        if database.password
    }
    targets = {**secrets, path: render(draft) if text is None else text}
    taken = [target for target in targets if target.exists()]
    if taken and not overwrite:
        remedy = "choose another --output, or pass --force to replace it"
        raise ConfigError([Fault(str(target), "", "exists already", remedy) for target in taken])
    staged: dict[Path, Path] = {}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for target, content in targets.items():
            staged[target] = _stage(
                target, content, _CONFIG_MODE if target == path else _SECRET_MODE
            )
        for target, temporary in staged.items():
            _keep(target, targets[target])
            temporary.replace(target)
    except OSError as error:
        for temporary in staged.values():
            temporary.unlink(missing_ok=True)
        raise ConfigError(
            [
                Fault(
                    str(error.filename or path),
                    "",
                    f"cannot be written: {error.strerror}",
                    "check the folder",
                )
            ]
        ) from error
    return list(targets)


def backup_name(target: Path) -> Path:
    """Return the first free name for what stands at `target`: NAME.before-import, NAME.before-import.2 and so on."""
    name, number = target.with_name(f"{target.name}.before-import"), 2
    while name.exists():
        name, number = target.with_name(f"{target.name}.before-import.{number}"), number + 1
    return name


def _keep(target: Path, text: str) -> None:
    """Keep a file that is about to be replaced by another text: a second name for it, with owner and mode."""
    if target.exists() and target.read_bytes() != text.encode("utf-8", "surrogateescape"):
        os.link(target, backup_name(target))


def _stage(target: Path, text: str, mode: int) -> Path:
    """Write a file beside its target, under a name of its own, and sync it."""
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary = Path(name)
    temporary.chmod(mode)
    if mode == _SECRET_MODE:
        _give_to_daemon(temporary, user=_ACCOUNT)
    elif target.exists():
        _keep_permissions(target, temporary)
    else:
        _give_to_daemon(temporary)
    return temporary


def _keep_permissions(target: Path, temporary: Path) -> None:
    """Let a replaced configuration stay as closed as it was: somebody may write a password into it.

    One that everybody could read is for the daemon's group from now on.
    """
    status = target.stat()
    if os.getuid() == 0:
        os.chown(temporary, status.st_uid, status.st_gid)
    temporary.chmod(stat.S_IMODE(status.st_mode) & ~stat.S_IRWXO)
    if status.st_mode & stat.S_IROTH:
        _give_to_daemon(temporary)


def _give_to_daemon(path: Path, user: str | None = None) -> None:
    """Give root's file to the daemon's group, and to its account, where there is such an account."""
    if os.getuid() != 0:
        return
    try:
        shutil.chown(path, user=user, group=_ACCOUNT)
    except LookupError:
        return


def _draft_section(kind: str, section: DraftSection) -> str:
    plain = {
        key: value for key, value in section.settings.items() if not isinstance(value, Mapping)
    }
    nested = {key: value for key, value in section.settings.items() if isinstance(value, Mapping)}
    header = f"{kind}.{toml_key(section.name)}"
    return "".join(
        [
            render_section(header, plain, section.comment),
            *(
                render_section(f"{header}.{toml_key(key)}", value, "")
                for key, value in nested.items()
            ),
        ]
    )


def render_section(header: str, settings: Mapping[str, Any], comment: str) -> str:
    """Return one section with its comment above it."""
    return "".join([_comment(comment), f"[{header}]\n", *_assignments(settings)])


def _assignments(settings: Mapping[str, Any]) -> Iterator[str]:
    for key, value in settings.items():
        if value is not None:
            yield f"{toml_key(key)} = {toml_value(value)}\n"


def _comment(text: str) -> str:
    return "".join(f"# {line}".rstrip() + "\n" for line in text.splitlines())


def toml_key(name: str) -> str:
    """Return a name as a TOML key."""
    return name if _BARE_KEY.fullmatch(name) else toml_value(name)


def toml_value(value: object) -> str:
    """Return a text, number, truth, list or table as a TOML value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{toml_key(key)} = {toml_value(item)}' for key, item in value.items())} }}"
    if isinstance(value, Iterable) and not isinstance(value, str):
        items = [toml_value(item) for item in value]
        line = f"[{', '.join(items)}]"
        return (
            line
            if len(line) <= _LINE_WIDTH
            else "[\n" + "".join(f"  {item},\n" for item in items) + "]"
        )
    return _text(str(value))


def _text(text: str) -> str:
    """Return a TOML string: literal where that needs no escapes, so that SQL stays readable."""
    if "\\" in text or '"' in text:
        if "'" not in text and "\n" not in text and text.isprintable():
            return f"'{text}'"
        if "'''" not in text and not text.endswith("'") and text.replace("\n", "").isprintable():
            return f"'''{text}'''" if not text.startswith("\n") else f"'''\n{text}'''"
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
