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

from mailmapd.check.files_read import FileRead
from mailmapd.check.finding import Finding, Level
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
    files: Iterable[FileRead], service: Unit, environment: Mapping[str, str] = os.environ
) -> Iterator[Finding]:
    """Yield which of the files `service`, which runs this configuration, could not read."""
    store = environment.get("CREDENTIALS_DIRECTORY", "")
    own = []
    for file in files:
        if store and file.path.parent == Path(store):
            yield from _not_loaded(file.where, file.path.name, service)
        else:
            own.append(file)
    account = service.values.get("User", ["root"])[-1]
    closed = _closed({file.path for file in own if os.path.exists(file.path)}, account)  # noqa: PTH110
    for file in own:
        if file.path in closed:
            problem = f"{account}, as whom the service runs, may not read {file.path}"
            remedy = f"setfacl -m u:{account}:r {shlex.quote(str(file.path))}"
            if closed[file.path] == "folder":
                remedy = f"move it into a folder that {account} may enter, such as /etc/mailmapd"
            yield Finding(Level.FAULT, "closed_file", file.where, problem, remedy)


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
