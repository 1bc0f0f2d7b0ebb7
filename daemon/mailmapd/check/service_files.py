"""Files that the service could not read at its next start, though the root who checks can.

Credentials that no line of the unit hands over; and files of Postfix, Dovecot or ours that are
closed to the service's account.
"""

from __future__ import annotations

import os
import pwd
import shlex
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from mailmapd.check.finding import Finding, Level
from mailmapd.config.schema import Config, TlsSection
from mailmapd.config.secrets import locate_secret, secret_files
from mailmapd.formats.systemd_unit import Unit

_LOADING = (
    *("LoadCredential", "LoadCredentialEncrypted", "SetCredential", "SetCredentialEncrypted"),
    "ImportCredential",
)
_LOOK = """\
for file; do
  if [ ! -x "${file%/*}/" ]; then printf 'folder %s\\0' "$file"
  elif [ ! -r "$file" ]; then printf 'file %s\\0' "$file"
  fi
done
"""
"""A shell's look at files: which of them it may not read, and whether the folder keeps it out or the file itself."""


def service_file_findings(
    config: Config, service: Unit, environment: Mapping[str, str] = os.environ
) -> Iterator[Finding]:
    """Yield what `service`, which runs this configuration, could not read."""
    store = environment.get("CREDENTIALS_DIRECTORY", "")
    secrets = {
        where: locate_secret(config.file, file, environment)
        for where, file in secret_files(config).items()
    }
    credentials = {
        where: path.name for where, path in secrets.items() if store and path.parent == Path(store)
    }
    for where, name in credentials.items():
        yield from _not_loaded(where, name, service)
    files = {config.file: Path(config.file).absolute(), **secrets, **_other_files(config)}
    own = {where: path for where, path in files.items() if where not in credentials}
    account = service.values.get("User", ["root"])[-1]
    closed = _closed({path for path in own.values() if path.exists()}, account)
    for where, path in own.items():
        if path in closed:
            problem = f"{account}, as whom the service runs, may not read {path}"
            remedy = f"setfacl -m u:{account}:r {shlex.quote(str(path))}"
            if closed[path] == "folder":
                remedy = f"move it into a folder that {account} may enter, such as /etc/mailmapd"
            yield Finding(Level.FAULT, "closed_file", where, problem, remedy)


def _not_loaded(where: str, name: str, service: Unit) -> Iterator[Finding]:
    """Yield a finding if the unit does not load a credential."""
    loaded = [value.partition(":")[0] for key in _LOADING for value in service.values.get(key, [])]
    if any(fnmatchcase(name, pattern) for pattern in loaded):
        return
    folder = f"/etc/systemd/system/{service.name}.d"
    problem = f"{service.name} does not load the credential {name}, so its next start fails"
    remedy = (
        f"install -d {folder}; printf '[Service]\\nLoadCredential={name}\\n' > {folder}/{name}.conf; "
        f"systemctl daemon-reload; systemctl restart {service.name}"
    )
    yield Finding(Level.FAULT, "credential", where, problem, remedy)


def _other_files(config: Config) -> dict[str, Path]:
    """Return the files that are no secrets of ours and that the daemon reads, by the key that names each."""
    named: dict[str, str | None] = {}
    for name, database in config.databases.items():
        where = f"database.{name}"
        for key in ("path", "option_file", "server_public_key"):
            named[f"{where}.{key}"] = getattr(database, key)
        named |= _tls_files(f"{where}.tls", database.tls)
    for name, table in config.tables.items():
        named[f"table.{name}.postfix_cf"] = table.postfix_cf
    for name, section in config.dicts.items():
        named[f"dict.{name}.dovecot_sql"] = section.dovecot_sql
    if config.cluster is not None:
        named |= _tls_files("cluster.tls", config.cluster.tls)
    folder = Path(config.file).resolve().parent
    return {where: folder / file for where, file in named.items() if file is not None}


def _tls_files(where: str, tls: TlsSection | None) -> dict[str, str | None]:
    return (
        {}
        if tls is None
        else {f"{where}.{key}": getattr(tls, key) for key in ("ca", "cert", "key")}
    )


def _closed(files: Iterable[Path], account: str) -> dict[Path, str]:
    """Return the files that an account may not read, each with what is closed: ``file`` or ``folder``.

    The kernel says so to a process of that account, so that access lists count; only root can make one.
    """
    try:
        found = pwd.getpwnam(account)
    except KeyError:
        return {}
    if os.geteuid() != 0 or found.pw_uid == 0:
        return {}
    done = subprocess.run(  # noqa: S603 (our own lines)
        ["/bin/sh", "-c", _LOOK, "sh", *map(str, files)],
        user=found.pw_uid,
        group=found.pw_gid,
        extra_groups=os.getgrouplist(account, found.pw_gid),
        capture_output=True,
        check=False,
    )
    lines = [line.partition(b" ") for line in done.stdout.split(b"\0") if line]
    return {Path(os.fsdecode(path)): what.decode() for what, _, path in lines}
