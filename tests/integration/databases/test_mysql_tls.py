"""TLS to TCP hosts, with certificates made on the spot."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator

import pytest

from mailmapd.databases.mysql.binlog.events import Event, RowsChanged
from mailmapd.databases.mysql.database import MysqlDatabase
from mailmapd.databases.settings import MysqlSettings, TlsSettings
from mailmapd.errors import DatabaseUnavailable
from support.certificates import Certificates, make_certificates
from support.followed import LOGGED, Followed
from support.mariadb import MariaDB, private_directory
from support.mysql_lookups import USER, Connect, mailbox, prepare, settings_for, statement
from support.sha2_server import Sha2Server


@pytest.fixture(scope="module")
def certificates() -> Iterator[Certificates]:
    with private_directory() as folder:
        yield make_certificates(folder)


@pytest.fixture(scope="module")
def tls_server(certificates: Certificates) -> Iterator[MariaDB]:
    files = (certificates.ca, certificates.server, certificates.server_key)
    with (
        private_directory() as directory,
        MariaDB(directory, tcp=True, tls=files, settings=LOGGED) as server,
    ):
        yield prepare(server)


@pytest.fixture
def server(tls_server: MariaDB) -> MariaDB:
    """The server, whose account may do without TLS unless the test demands it."""
    tls_server.run_sql(f"ALTER USER {USER}@127.0.0.1 REQUIRE NONE")
    return tls_server


def over_tls(
    connect: Connect, server: MariaDB, tls: TlsSettings, host: str = "127.0.0.1"
) -> MysqlDatabase:
    return connect(settings_for(server, hosts=(f"{host}:{server.port}",), tls=tls, pool_size=2))


async def cipher(database: MysqlDatabase) -> bytes:
    result = await database.fetch(statement("SHOW SESSION STATUS LIKE 'Ssl_cipher'"))
    return result.rows[0][1] or b""


async def refusal(database: MysqlDatabase) -> str:
    with pytest.raises(DatabaseUnavailable) as caught:
        await database.fetch(statement("SELECT 1"))
    return str(caught.value)


async def test_tls(server: MariaDB, connect: Connect, certificates: Certificates) -> None:
    """With an authority given, the server is verified, the session encrypted, and lookups of any size run over it."""
    server.run_sql(f"ALTER USER {USER}@127.0.0.1 REQUIRE SSL")
    database = over_tls(connect, server, TlsSettings(ca=str(certificates.ca)))
    assert await cipher(database) != b""
    results = await asyncio.gather(
        *[database.fetch(mailbox(b"user@example.com")) for _ in range(100)]
    )
    assert {result.rows for result in results} == {((b"example.com/user/",),)}
    assert (await database.fetch(statement("SELECT REPEAT('x', 300000)"))).rows == (
        (b"x" * 300_000,),
    )
    assert (
        sum(
            [
                len(rows)
                async for _, rows in database.stream(statement("SELECT * FROM seq_1_to_20000"))
            ]
        )
        == 20_000
    )


async def test_log(server: MariaDB, certificates: Certificates) -> None:
    """A log comes over TLS as well, also more of it at a time than fits in what is read at one go."""
    server.run_sql(f"ALTER USER {USER}@127.0.0.1 REQUIRE SSL")
    server.run_sql(f"GRANT REPLICATION SLAVE ON *.* TO {USER}@127.0.0.1")
    server.run_sql("CREATE OR REPLACE TABLE lookups.logged (word VARCHAR(20), much MEDIUMTEXT)")
    settings = settings_for(
        server,
        hosts=(f"127.0.0.1:{server.port}",),
        tls=TlsSettings(ca=str(certificates.ca)),
    )

    def words(events: list[Event]) -> list[bytes]:
        changed = [event for event in events if isinstance(event, RowsChanged)]
        images = [change.after for event in changed for change in event.changes]
        return [image[0] for image in images if image and isinstance(image[0], bytes)]

    def wanted(_schema: str, table: str, _count: int) -> tuple[int, ...] | None:
        return (0,) if table == "logged" else None

    async with Followed(server, wanted, settings=settings) as followed:
        server.run_sql(
            "INSERT INTO lookups.logged SELECT CONCAT('word', seq), REPEAT('x', 1000) FROM lookups.seq_1_to_10000"
        )
        server.run_sql("INSERT INTO lookups.logged VALUES ('last', REPEAT('x', 200000))")
        await followed.until(lambda events: b"last" in words(events))
    assert followed.lost is None
    assert words(followed.events) == [*(b"word%d" % n for n in range(1, 10_001)), b"last"]


async def test_refused_without_tls(server: MariaDB, connect: Connect) -> None:
    """An account that requires TLS is refused without it, and the text says who."""
    server.run_sql(f"ALTER USER {USER}@127.0.0.1 REQUIRE SSL")
    text = await refusal(connect(settings_for(server, hosts=(f"127.0.0.1:{server.port}",))))
    assert f"Access denied for user '{USER}'" in text


async def test_unknown_authority(server: MariaDB, connect: Connect) -> None:
    """A certificate of an unknown authority is refused, unless verify is off."""
    assert "certificate is refused" in await refusal(over_tls(connect, server, TlsSettings()))
    assert await cipher(over_tls(connect, server, TlsSettings(verify=False))) != b""


async def test_wrong_name(server: MariaDB, connect: Connect, certificates: Certificates) -> None:
    """A certificate for another name is refused."""
    assert "certificate is refused" in await refusal(
        over_tls(connect, server, TlsSettings(ca=str(certificates.ca)), host="127.1")
    )


async def test_client_certificate(
    server: MariaDB, connect: Connect, certificates: Certificates
) -> None:
    """An account may demand a certificate of ours."""
    server.run_sql(f"ALTER USER {USER}@127.0.0.1 REQUIRE SUBJECT '/CN=client'")
    assert "Access denied" in await refusal(
        over_tls(connect, server, TlsSettings(ca=str(certificates.ca)))
    )
    ours = TlsSettings(
        ca=str(certificates.ca), cert=str(certificates.client), key=str(certificates.client_key)
    )
    assert await cipher(over_tls(connect, server, ours)) != b""


async def test_ciphers(server: MariaDB, connect: Connect, certificates: Certificates) -> None:
    """An impossible cipher list is an error that says so."""
    impossible = TlsSettings(ca=str(certificates.ca), ciphers="NONSENSE")
    assert "cipher" in (await refusal(over_tls(connect, server, impossible))).lower()


async def test_missing_file(server: MariaDB, connect: Connect) -> None:
    """A missing certificate file is named."""
    assert "/nowhere/ca.pem" in await refusal(
        over_tls(connect, server, TlsSettings(ca="/nowhere/ca.pem"))
    )


async def test_server_without_tls(lookup_server: MariaDB, connect: Connect) -> None:
    """A server that offers no TLS does not get the login in clear."""
    assert "offers none" in await refusal(over_tls(connect, lookup_server, TlsSettings()))


async def test_unix_socket(server: MariaDB, connect: Connect, certificates: Certificates) -> None:
    """TLS settings do not hinder a UNIX socket, which never leaves the machine."""
    database = connect(settings_for(server, tls=TlsSettings(ca=str(certificates.ca))))
    assert await cipher(database) == b""


async def test_restart(server: MariaDB, connect: Connect, certificates: Certificates) -> None:
    """A restart between lookups is not noticed over TLS either."""
    database = over_tls(connect, server, TlsSettings(ca=str(certificates.ca)))
    assert await cipher(database) != b""
    server.restart()
    assert await cipher(database) != b""


async def test_caching_sha2(connect: Connect, certificates: Certificates) -> None:
    """Over TLS, MySQL 8's login gives the password as it is, inside the encryption."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server, certificates.server_key)
    with Sha2Server(b"secret", tls=context) as server:
        host = f"127.0.0.1:{server.port}"
        settings = MysqlSettings(
            hosts=(host,), user="mail", password="secret", tls=TlsSettings(ca=str(certificates.ca))
        )
        database = connect(settings)
        assert (await database.fetch(statement("SELECT 1"))).rows == ((b"mail",),)
        await database.close()
    assert server.ways == ["tls"]
