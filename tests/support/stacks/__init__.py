"""Six ways in which real installations keep mail in MySQL.

Tables, rows, Postfix's maps and main.cf, written for these tests.

Every stack holds the same mail (see `world`), as far as its tables have a place for it.
"""

from __future__ import annotations

from support.stacks.froxlor import FROXLOR
from support.stacks.iredmail import IREDMAIL
from support.stacks.ispmail import ISPMAIL
from support.stacks.postfixadmin import POSTFIXADMIN
from support.stacks.stack import Stack
from support.stacks.tutorial import TUTORIAL
from support.stacks.vimbadmin import VIMBADMIN

STACKS = (TUTORIAL, POSTFIXADMIN, ISPMAIL, IREDMAIL, VIMBADMIN, FROXLOR)

__all__ = ["STACKS", "Stack"]
