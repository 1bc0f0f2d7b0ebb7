"""Access lists of socket files, see acl(5): a way to let in a group that this process does not belong to.

Only root may give a file to a group that is not its own, but a file's owner may name any group in
the file's access list. The kernel takes and gives the list as an extended attribute:

    version 2 (32 bits) and for each entry: tag (16 bits), permissions rwx (16), id (32); little-endian
"""

from __future__ import annotations

import errno
import os
import struct

_NAME = "system.posix_acl_access"
_HEAD = struct.Struct("<I")
_ENTRY = struct.Struct("<HHI")
_VERSION = 2
_OWNER, _USER, _OWNING_GROUP, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_NO_ID = 0xFFFFFFFF
_ABSENT = {errno.ENODATA, errno.EOPNOTSUPP}


def let_in(path: str, mode: int, *, user: int = -1, group: int = -1) -> None:
    """Give a user, a group or both what `mode` gives to an owner and a group; -1 is nobody.

    A group that is let in takes the place of the file's own. Raises OSError.
    """
    owners, groups, others = mode >> 6 & 7, mode >> 3 & 7, mode & 7
    entries = [(_OWNER, owners, _NO_ID)]
    if user != -1:
        entries.append((_USER, owners, user))
    entries.append((_OWNING_GROUP, groups if group == -1 else 0, _NO_ID))
    if group != -1:
        entries.append((_GROUP, groups, group))
    mask = groups | (owners if user != -1 else 0)
    entries += [(_MASK, mask, _NO_ID), (_OTHER, others, _NO_ID)]
    packed = [_ENTRY.pack(*entry) for entry in entries]
    os.setxattr(path, _NAME, _HEAD.pack(_VERSION) + b"".join(packed))


def forget(path: str) -> None:
    """Remove the access list of a file, if it has one. Raises OSError."""
    try:
        os.removexattr(path, _NAME)
    except OSError as error:
        if error.errno not in _ABSENT:
            raise


def groups_of(path: str) -> list[int]:
    """Return the groups that the access list of a file lets in."""
    try:
        packed = os.getxattr(path, _NAME)
    except OSError as error:
        if error.errno in _ABSENT:
            return []
        raise
    entries = _ENTRY.iter_unpack(packed[_HEAD.size :])
    return [number for tag, _, number in entries if tag == _GROUP]
