"""Why a connect failed: each cause by its own name at the first try, and never a password in the words."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from fraud_daemons.acceptance.wire_proxy import WireProxy
from fraud_daemons.errors import FatalFault, PlatformError, TransientFault
from fraud_daemons.postgres_runtime.connector import ConnectOptions, close_thread_connections
from tests.integration.connector_faults.asking import ask, grown, source_of, succeeds, until

pytestmark = pytest.mark.datastore


REFUSALS: dict[str, tuple[str | None, dict[str, Any], str]] = {
    "wrong password": (None, {"password": "wrong"}, "28P01"),
    "no such role": (None, {"user": "nobody_here"}, "28P01"),
    "may not log in": ("alter role {role} nologin", {}, "28000"),
    "no such database": (None, {"dbname": "nowhere"}, "3D000"),
    "may not connect": ("revoke connect on database {database} from public", {}, "42501"),
    "database closed": ("alter database {database} allow_connections false", {}, "55000"),
    "no free slot": ("alter role {role} connection limit 0", {}, "53300"),
    "a refused port": (None, {"host": "127.0.0.1", "port": 1}, "refused"),
    "no socket": (None, {"host": "/nowhere"}, "refused"),
}


@pytest.mark.parametrize("cause", REFUSALS)
def test_a_refused_connect_is_told_by_its_code_at_once(
    database: str, login: str, cause: str, before: dict[str, int]
) -> None:
    """Within 5 s of the first try each cause has its own name, found by a second, watched connect; no password is quoted."""
    statement, changed, code = REFUSALS[cause]
    name = str(conninfo_to_dict(database)["dbname"])
    if statement:
        with psycopg.connect(make_conninfo(database, dbname="postgres"), autocommit=True) as owner:
            owner.execute(sql.SQL(statement).format(role=sql.Identifier(login), database=sql.Identifier(name)))
    dsn = make_conninfo(database, **{"user": login, "password": "right", **changed})
    begun = time.monotonic()
    with pytest.raises(PlatformError) as caught:
        ask(source_of(lambda: dsn))
    assert time.monotonic() - begun < 5
    assert f"postgres: {code}" in caught.value.reason
    assert not {"wrong", "right"} & set(str(caught.value).split())
    assert grown(before).get("diagnosed", 0) == (0 if code == "refused" else 1)
    with psycopg.connect(make_conninfo(database, dbname="postgres"), autocommit=True) as owner:
        owner.execute(sql.SQL("alter database {} allow_connections true").format(sql.Identifier(name)))


def test_a_session_option_that_the_server_does_not_know_is_a_fault_of_configuration(database: str) -> None:
    """A code that no text of ours names comes through: it was read from the server's own answer."""

    class Odd(ConnectOptions):
        def parameters(self) -> dict[str, Any]:
            return {**super().parameters(), "options": "-c fraud_platform=1"}

    with pytest.raises(FatalFault, match="42704"):
        ask(source_of(lambda: database), Odd())


def test_the_same_refusal_is_diagnosed_once(database: str, login: str, before: dict[str, int]) -> None:
    """Who tries again for hours does not connect twice each time: the same words have the same cause."""
    with psycopg.connect(database, autocommit=True) as owner:
        owner.execute(sql.SQL("alter role {} connection limit 0").format(sql.Identifier(login)))
    dsn = make_conninfo(database, user=login, password="right")
    source = source_of(lambda: dsn)
    for _ in range(3):
        with pytest.raises(TransientFault, match="53300"):
            ask(source)
    assert grown(before) == {"diagnosed": 1, "waited": 3, "retried": 6}


def test_of_several_addresses_the_one_that_a_server_answers_speaks(
    proxy: WireProxy, database: str, before: dict[str, int]
) -> None:
    """A host name with an address where nobody listens and one where the password is wrong is a wrong password; two hosts
    of which one is gone are one server."""
    hosts = {"host": "127.0.0.2,127.0.0.1", "port": f"{proxy.port},{proxy.port}"}
    wrong = make_conninfo(database, **hosts, password="wrong")
    with pytest.raises(TransientFault) as caught:
        ask(source_of(lambda: wrong))
    assert caught.value.reason == "postgres: 28P01"
    assert grown(before)["diagnosed"] == 1
    ask(source_of(lambda: make_conninfo(database, **hosts)))


def test_full_slots_are_patience_and_pass_by_themselves(short_dir: Path) -> None:
    """A server without a free slot says 53300; as soon as one is free the same scope works."""
    from fraud_daemons.supervision.substrate.postgres import start_server

    with start_server(short_dir, connections_max=5) as server:  # three of them are the owner's own
        with psycopg.connect(server.dsn(), autocommit=True) as owner:
            owner.execute("create role worker login password 'right'")
        dsn = server.dsn(user="worker", password="right")
        others = [psycopg.connect(dsn) for _ in range(2)]
        source = source_of(lambda: dsn)
        with pytest.raises(TransientFault) as caught:
            ask(source)
        assert caught.value.reason == "postgres: 53300"
        others.pop().close()
        until(lambda: succeeds(lambda: ask(source)))
        others.pop().close()
        close_thread_connections()
