"""COMMIT and its answer: lost, refused, or on a server that takes no writes."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from fraud_daemons.acceptance.wire_proxy import Strike, WireProxy
from fraud_daemons.errors import CommitAmbiguous, PoisonFault, TransientFault
from fraud_daemons.postgres_runtime.connector import (
    DsnSource,
    close_thread_connections,
    postgres_threadlocal_connection,
)
from tests.integration.connector_faults.asking import OPTIONS, ask, grown, source_of, until

pytestmark = pytest.mark.datastore
# ruff: noqa: PT012 - a scope's body and its failure belong together: what is tested is the scope around them


def test_while_no_server_takes_writes_it_is_patience_by_name(database: str) -> None:
    """The primary turns read only under an open session. With target_session_attrs the connector goes to no such server
    again: 25006 until one takes writes, and then the same scope works."""
    name = sql.Identifier(str(conninfo_to_dict(database)["dbname"]))
    source = source_of(lambda: make_conninfo(database, target_session_attrs="read-write"))
    with psycopg.connect(database, autocommit=True) as owner:
        owner.execute("create table effects (id integer primary key)")
        ask(source)
        owner.execute(sql.SQL("alter database {} set default_transaction_read_only = on").format(name))
        with (
            pytest.raises(TransientFault, match="25006"),
            postgres_threadlocal_connection(source, OPTIONS) as connection,
        ):
            connection.execute("set transaction read only")
            connection.execute("insert into effects values (1)")
        with pytest.raises(TransientFault) as caught:
            ask(source)
        assert caught.value.reason == "postgres: 25006"
        owner.execute(sql.SQL("set default_transaction_read_only = off"))
        owner.execute(sql.SQL("alter database {} reset default_transaction_read_only").format(name))
        with postgres_threadlocal_connection(source, OPTIONS) as connection:
            connection.execute("insert into effects values (1)")
        close_thread_connections()


@pytest.mark.parametrize(("strike", "kept"), [(Strike.COMMIT_ANSWER, 1), (Strike.COMMIT, 0)])
def test_a_commit_without_an_answer_is_ambiguous_and_its_repeat_has_the_effect_once(
    proxy: WireProxy, far: DsnSource, database: str, strike: Strike, kept: int, before: dict[str, int]
) -> None:
    """Cut exactly between COMMIT and its answer, or before it arrives: the caller learns the same, the table does not.
    Repeated under the same key the effect is there once, either way."""

    def work() -> None:
        with postgres_threadlocal_connection(far, OPTIONS) as connection:
            connection.execute("insert into effects values (1) on conflict do nothing")

    ask(far)
    proxy.arm(strike)
    with pytest.raises(CommitAmbiguous, match="the answer to COMMIT was lost"):
        work()
    assert proxy.figures["commit_answers_lost"] + proxy.figures["commits_lost"] == 1
    with psycopg.connect(database) as seen:
        until(
            lambda: (
                seen.execute("select count(*) from pg_locks where relation = 'effects'::regclass").fetchone() != (1,)
            )
        )
        assert seen.execute("select count(*) from effects").fetchone() == (kept,)
    work()
    with psycopg.connect(database) as seen:
        assert seen.execute("select count(*) from effects").fetchone() == (1,)
    assert grown(before) == {"opened": 2, "reused": 1, "evicted": 1, "ambiguous": 1}


def test_a_commit_that_the_server_refuses_is_not_ambiguous(database: str, before: dict[str, int]) -> None:
    """A deferred constraint speaks at COMMIT: the answer came, so it is poison as anywhere else."""
    source = source_of(lambda: database)
    with postgres_threadlocal_connection(source, OPTIONS) as connection:
        connection.execute("create table deferred (n integer unique deferrable initially deferred)")
    with pytest.raises(PoisonFault, match="23505"), postgres_threadlocal_connection(source, OPTIONS) as connection:
        connection.execute("insert into deferred values (1), (1)")
    assert "ambiguous" not in grown(before)


def test_a_link_reset_in_the_middle_of_an_answer_is_transient(proxy: WireProxy, far: DsnSource) -> None:
    """Half an answer is no answer: the scope fails as transient and the next one works on a new session."""
    ask(far)
    proxy.arm(Strike.STATEMENT)
    with pytest.raises(TransientFault), postgres_threadlocal_connection(far, OPTIONS) as connection:
        connection.execute("select repeat('x', 100000)")
    assert proxy.figures["statements_reset"] == 1
    ask(far)
