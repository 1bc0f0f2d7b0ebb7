"""Parts of keys, rows and templates that have made table lookups differ.

What the generator of random tables picks from.
"""

from __future__ import annotations

# fmt: off

# No key can hold NUL or line feed: `postmap -q -` cannot carry them.
NOT_UTF8 = (b"\xff", b"\xc3(", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\x80abc", b"caf\xe9")
LOCALS = (
    "alice", "bob", "Carol", "user+ext", "user+", "+ext", "owner-list", "list-request", "with.dot", ".dot", "dot.", "a..b", "100%", "a_b",
    "%s", "%%", "%u@%d", "%25", "o'brien", "''", "'", "\\", "\\'", "a\\b", "\\\\", '"', '"quoted local"', '"a\\"b"', "a b", " lead",
    "trail ", "x' OR '1'='1", "x\\' OR 1=1 -- ", "x;y", "#hash", "-- ", "/*c*/", "`tick`", "$x", "${x}", "a,b", "(c)", "<x>", "tab\there",
    "\x01\x1a\x7f", "zoë", "ZOË", "straße", "STRASSE", "İstanbul", "ǅ", "\u017f", "\u212a", "Σίσυφος", "日本", "😀", "e\u0301", "\u00a0",
    "\u200b", "\u2028", "", "0", "-", "\r",
)
DOMAINS = (
    "example.com", "Example.COM", "sub.example.com", "other.example", "example.net", "a.b.c.d.e.f.g.h.i.j", "com", "localhost", "", ".",
    "..", "example..com", ".example.com", "example.com.", "..a..b..", "bücher.example", "BÜCHER.example", "xn--bcher-kva.example",
    "[127.0.0.1]", "o'domain.example", "back\\slash.example", "100%.example", "日本.example", "a.b", "a b.example",
)
DOMAIN_LISTS = (
    "example.com", "example.com, other.example", "Example.COM example.net", "!example.com, example.com", "a.b,,sub.example.com", "com",
    "bücher.example example.com", "!sub.example.com example.com sub.example.com", "[127.0.0.1], example.com", ".example.com",
)
CONDITIONS = (
    "address = '%s'", "address='%u@%d'", "local = '%u' AND domain = '%d'", "domain = '%d'", "local = '%u'", "address = '%S'",
    "local = '%U' AND domain = '%D'", "domain = '%2.%1'", "domain = '%3.%2.%1'", "domain LIKE '%%%1'", "address LIKE '%%%u%%'",
    "address LIKE '%s%%'", "'%s' LIKE CONCAT('%%', local, '%%') AND local <> ''", "address IN ('%s', '@%d')", "caseless = '%s'",
    "address = LOWER('%s')", "address = REPLACE('%s', '+ext', '')", ("JSON_VALUE(attributes, "
                                                                    "'$.owner') = '%u'"), "id = LENGTH('%s')",
    "address = SUBSTRING_INDEX('%s', '+', 1)", "domain = '%1'", "domain = '%9.%8'", "(address = '%s' OR local = '%s') AND id %% 2 = 1",
)
COLUMNS = (
    "destination", "destination", "destination", "destination, other", "other, destination, number", "number", "1", "'OK'", "address",
    "CONCAT('%u', '+x@', domain)", "CONCAT(destination, '')", "NULLIF(destination, '')", "other", "attributes", "COUNT(*)",
    "MAX(destination)", "GROUP_CONCAT(destination ORDER BY id)", ("JSON_VALUE(attributes, "
                                                                 "'$.quota')"), "IF(number > 50, destination, NULL)",
    "flag", "moment", "amount", "IFNULL(other, '%s')", "'%%'", "'a\\\\b'", "REPLACE(destination, ',', '\\n')", "HEX('%s')", "octets",
)
ECHOES = (
    "SELECT '%s'", "SELECT '%u'", "SELECT '%d'", "SELECT '%s', '%u', '%d'", "SELECT '%1'", "SELECT '%2', '%1'", "SELECT LENGTH('%s')",
    "SELECT '%U|%D|%S'", "SELECT CONCAT('%9', '-', '%1')", "SELECT '100%%', '%%s', '%s'", "SELECT HEX('%s'), CHAR_LENGTH('%s')",
    "SELECT 'x'", "SELECT '%s' UNION ALL SELECT '%u'", "SELECT REPEAT('%s', 3)", "SELECT CHARSET('%s'), COLLATION('%s')",
    "SELECT '%s' = 'ALICE@example.com'",
)
CALLS = ("CALL find('%s')", "CALL find('%u@%d')", "CALL quiet('%s')", "call find('@%d')")
RESULT_FORMATS = (
    "%s", "%u", "%d", "%S", "%U", "%D", "%1", "%2.%1", "%u@%D", "%U@%d", "lmtp:[%s]", "%%", "%s%%%s", "<%s>", "%s %s", "fixed", "%d/%u/",
    "%s,x", "smtp:[%1]:25", "'%s'", "a\\b%s", "%3", "%U+%u", "ümlaut-%s",
)
