"""The auth cache of `[dovecot]`: a finding when it cannot be told to forget."""

from __future__ import annotations

from collections.abc import AsyncIterator

from mailmapd.auth_cache.auth_master import AuthMaster, AuthMasterError
from mailmapd.check.finding import Finding, Level
from mailmapd.config.address import UnixAddress
from mailmapd.config.schema import DovecotSection

_NOBODY = b"nobody@elsewhere.invalid"  # a name that nobody has, see RFC 2606


async def auth_cache_findings(section: DovecotSection) -> AsyncIterator[Finding]:
    """Yield why Dovecot would not forget, if it would not."""
    if not isinstance(section.auth_master, UnixAddress):
        return  # the configuration's own fault
    master = AuthMaster(section.auth_master.path)
    try:
        await master.flush([_NOBODY])
    except AuthMasterError as error:
        remedy = "mailmapd snippets dovecot-2.3 (or dovecot-2.4) prints its socket and the cache's settings"
        yield Finding(Level.WARNING, "auth_cache", "dovecot.auth_master", str(error), remedy)
    finally:
        master.close()
