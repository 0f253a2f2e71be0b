"""The connector while the world around it fails: refused logins by name, lost COMMITs, restarts, a server that is away."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from fraud_daemons.acceptance.wire_proxy import Strike, WireProxy
from fraud_daemons.errors import (
    CommitAmbiguous,
    ConfigurationError,
    FatalFault,
    PlatformError,
    PoisonFault,
    TransientFault,
)
from fraud_daemons.postgres_runtime import connecting
from fraud_daemons.postgres_runtime.connector import (
    ConnectOptions,
    DsnSource,
    close_thread_connections,
    counters,
    listening_connection,
    postgres_threadlocal_connection,
)
from fraud_daemons.postgres_runtime.scope_watch import LongScope, ScopeWatch
from tests.proxied import proxied, through

if TYPE_CHECKING:
    pass

pytestmark = pytest.mark.datastore
# ruff: noqa: PT012 - a scope's body and its failure belong together: what is tested is the scope around them

OPTIONS = ConnectOptions(application_name="connector_faults")
STALLED = ConnectOptions(application_name="connector_faults", connect_timeout=2.0, client_deadline=1.5)


def source_of(read: Callable[[], str]) -> DsnSource:
    """A source of its own name: no test sees what another's DSN has been through."""
    return DsnSource(f"TEST_{uuid.uuid4().hex}", read)


@pytest.fixture(autouse=True)
def own_bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test has the whole burst of connects, and leaves no session of this thread."""
    monkeypatch.setattr(connecting, "_bucket", connecting.ConnectBucket())
    yield
    close_thread_connections()


@pytest.fixture
def before() -> dict[str, int]:
    return counters()


@pytest.fixture
def proxy(database: str) -> Iterator[WireProxy]:
    """A network of its own between this test and its database, with a table of unique keys behind it."""
    with psycopg.connect(database) as owner:
        owner.execute("create table effects (id integer primary key)")
    with proxied(database) as running:
        yield running
        close_thread_connections()


@pytest.fixture
def far(proxy: WireProxy, database: str) -> DsnSource:
    """The database as it is reached through the proxy."""
    return source_of(lambda: through(proxy, database))


def grown(before: dict[str, int]) -> dict[str, int]:
    return {name: value - before[name] for name, value in counters().items() if value != before[name]}


def ask(source: DsnSource, options: ConnectOptions = OPTIONS) -> int:
    """One healthy scope; its session's pid."""
    with postgres_threadlocal_connection(source, options) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
        return connection.info.backend_pid


# ---------------------------------------------------------------- why a connect failed

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


# ---------------------------------------------------------------- COMMIT and its answer


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


# ---------------------------------------------------------------- a dead link


def test_a_link_that_dies_while_an_answer_is_due_ends_at_the_deadline(proxy: WireProxy, far: DsnSource) -> None:
    """The peer's kernel lives and acknowledges, so neither keepalive nor tcp_user_timeout can see it: ours does."""
    ask(far, STALLED)
    begun = time.monotonic()
    with pytest.raises(TransientFault) as caught, postgres_threadlocal_connection(far, STALLED) as connection:
        threading.Timer(0.2, proxy.stall).start()
        connection.execute("select pg_sleep(0.6)")
    assert caught.value.reason == "postgres: no answer"
    assert time.monotonic() - begun < 1.5 + 2
    proxy.pass_on()
    ask(far, STALLED)


@pytest.mark.slow
def test_with_the_defaults_a_dead_link_is_noticed_within_ten_seconds(proxy: WireProxy, far: DsnSource) -> None:
    """The published figure: 10 s, with the options every worker has."""
    ask(far)
    begun = time.monotonic()
    with pytest.raises(TransientFault), postgres_threadlocal_connection(far, OPTIONS) as connection:
        threading.Timer(0.5, proxy.stall).start()
        connection.execute("select pg_sleep(2)")
    assert time.monotonic() - begun <= 10


CUT_OFF = """
import subprocess, sys, threading, time
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from fraud_daemons.acceptance.wire_proxy import WireProxy
from fraud_daemons.errors import TransientFault
from fraud_daemons.postgres_runtime.connector import ConnectOptions, DsnSource, postgres_threadlocal_connection
def link(state): subprocess.run(["ip", "link", "set", "lo", state], check=True)
link("up")
parts = conninfo_to_dict(sys.argv[1])
with WireProxy(f"{parts['host']}/.s.PGSQL.{parts['port']}") as proxy:
    far = DsnSource("far", lambda: make_conninfo(sys.argv[1], host="127.0.0.1", port=proxy.port))
    try:
        with postgres_threadlocal_connection(far, ConnectOptions(statement_timeout=60, client_deadline=70)) as connection:
            threading.Timer(0.5, link, ["down"]).start()
            begun = time.monotonic()
            connection.execute("select pg_sleep(30)")
    except TransientFault as fault:
        print(time.monotonic() - begun, fault.reason, sep=";")
"""


@pytest.mark.slow
def test_a_cable_that_is_pulled_is_noticed_within_ten_seconds_whatever_the_deadline(database: str) -> None:
    """No packet passes any more, in a network namespace of its own whose only link goes down: the kernel's keepalives end
    the wait, even of a session whose own deadline is 70 s. It needs root, for the namespace."""
    alone = (
        subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False) if shutil.which("ip") else None
    )
    if alone is None or alone.returncode != 0:
        pytest.skip("needs root and iproute2")
    command = ["unshare", "--net", sys.executable, "-c", CUT_OFF, database]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    seconds, reason = done.stdout.strip().split(";")
    assert reason == "postgres: connection lost"
    assert float(seconds) - 0.5 <= 10


def test_the_kernel_watches_the_link_too(far: DsnSource) -> None:
    """Keepalives find a dead peer within 9 s, tcp_user_timeout data that nobody acknowledges within 8 s."""
    with postgres_threadlocal_connection(far, OPTIONS) as connection:
        link = socket.socket(fileno=connection.fileno())
        try:
            assert link.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            idle, interval, times = (
                link.getsockopt(socket.IPPROTO_TCP, option)
                for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            )
            assert idle + interval * times <= 9
            assert link.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 8000
        finally:
            link.detach()


# ---------------------------------------------------------------- siblings


def test_no_error_reaches_a_scope_after_a_restart_with_idle_sessions(short_dir: Path, before: dict[str, int]) -> None:
    """Four idle sessions in this thread and one in another, all dead after the server's restart: every next scope works,
    the first within half a second, without a pause between the dead ones."""
    from fraud_daemons.supervision.substrate.postgres import start_server

    dsn = ""
    sources = [source_of(lambda: dsn) for _ in range(4)]
    password, first_borrows = None, []
    for round_ in range(3):
        with start_server(short_dir, password=password, connections_max=20) as server:
            dsn, password = server.dsn(), server.password
            begun = time.monotonic()
            ask(sources[0])
            if round_:
                first_borrows.append(time.monotonic() - begun)
            for source in sources[1:]:
                ask(source)
    assert min(first_borrows) <= 0.5
    assert grown(before) == {"opened": 12, "evicted": 8}
    close_thread_connections()


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ("select pg_terminate_backend(pg_backend_pid())", "57P01"),
        ("insert into effects values (7)", "25006"),
    ],
)
def test_what_one_session_learns_of_the_server_outdates_its_siblings(
    database: str, end: str, code: str, before: dict[str, int]
) -> None:
    """After 57P01 or 25006 no session of the process to that server is used again, in whatever thread it is; those to
    another server stay."""
    dsn = database
    sources = [source_of(lambda: dsn) for _ in range(2)]
    elsewhere = source_of(lambda: through(tunnel, database))
    with proxied(database) as tunnel, Neighbour(sources[0]) as neighbour:
        with postgres_threadlocal_connection(sources[0], OPTIONS) as connection:
            connection.execute("create table effects (id integer primary key)")
        pids = [ask(source) for source in (*sources, elsewhere)]
        theirs = neighbour.ask()
        with (
            pytest.raises(TransientFault, match=code),
            postgres_threadlocal_connection(sources[0], OPTIONS) as connection,
        ):
            if code == "25006":
                connection.execute("set transaction read only")
            connection.execute(end)
        assert listening_connection(sources[1], OPTIONS) is None
        after = [ask(source) for source in (*sources, elsewhere)]
        assert after[0] != pids[0]
        assert after[1] != pids[1]
        assert after[2] == pids[2]
        assert neighbour.ask() != theirs
        moved = grown(before)
        assert (moved["evicted"], moved["siblings_evicted"]) == (3, 2)
        close_thread_connections()


class Neighbour:
    """Another thread with a session of its own, asked one scope at a time."""

    def __init__(self, source: DsnSource) -> None:
        self._source = source
        self._wanted, self._answered = threading.Semaphore(0), threading.Semaphore(0)
        self._ended = False
        self._pid = 0
        self._thread = threading.Thread(target=self._live)

    def __enter__(self) -> Neighbour:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._wanted.release()
        self._thread.join(10)

    def ask(self) -> int:
        self._wanted.release()
        assert self._answered.acquire(timeout=10)
        return self._pid

    def _live(self) -> None:
        while self._wanted.acquire(timeout=30) and not self._ended:
            self._pid = ask(self._source)
            self._answered.release()
        close_thread_connections()


# ---------------------------------------------------------------- one prober, and a limit


def test_while_the_server_is_away_one_thread_tries_and_the_others_wait_for_it(
    proxy: WireProxy, far: DsnSource, before: dict[str, int]
) -> None:
    """Six threads want a session from a server that is silent: one connect goes out, six learn the same."""
    proxy.stall()
    with pytest.raises(TransientFault):
        ask(far, STALLED)
    accepted = proxy.figures["accepted"]
    faults = in_threads(6, lambda: caught(lambda: ask(far, STALLED)))
    assert [type(fault) for fault in faults] == [TransientFault] * 6
    assert {fault.reason for fault in faults} == {"postgres: connect timeout"}
    assert proxy.figures["accepted"] - accepted == 1
    assert grown(before)["waited"] == 7


def test_what_the_prober_finds_wrong_with_the_settings_is_a_fault_of_configuration_for_all() -> None:
    """A DSN that cannot even be read: whoever waited for the prober gets the same reason, and not an error of its own."""

    def unreadable() -> str:
        time.sleep(0.2)  # the others come meanwhile
        raise ConfigurationError(["secrets.json: not JSON"], source="secrets")

    source = source_of(unreadable)
    assert caught(lambda: ask(source)).reason == "config: secrets.json: not JSON"
    faults = in_threads(4, lambda: caught(lambda: ask(source)))
    assert {fault.reason for fault in faults} == {"config: secrets.json: not JSON"}
    assert all(isinstance(fault, FatalFault) for fault in faults)


def test_when_the_server_is_back_those_who_waited_get_sessions_of_their_own(proxy: WireProxy, far: DsnSource) -> None:
    """The prober's success lets the others connect at once; none of them sees an error."""
    proxy.refuse()
    with pytest.raises(TransientFault, match="refused"):
        ask(far)
    proxy.pass_on()
    proxy.slow(delay_seconds=0.1)  # the prober is still at it when the others come
    accepted = proxy.figures["accepted"]
    pids = in_threads(6, lambda: ask(far))
    assert len(set(pids)) == 6
    assert proxy.figures["accepted"] - accepted == 6


def test_connects_have_a_limit_per_second(database: str, before: dict[str, int]) -> None:
    """A caller that wants a new session each time gets its burst and then the rate, whatever the cause of its haste."""
    options = ConnectOptions(application_name="hasty", age_max=0.0, connects_per_second_max=4.0)
    source = source_of(lambda: database)
    begun = time.monotonic()
    for _ in range(22):
        ask(source, options)
    assert time.monotonic() - begun > 0.9
    assert grown(before)["opened"] == 22
    assert grown(before)["throttled"] >= 3


def test_who_would_wait_too_long_for_a_connect_is_told_so(database: str, before: dict[str, int]) -> None:
    """Beyond its patience a scope fails as transient, by name, and no connect was tried."""
    options = ConnectOptions(application_name="hasty", age_max=0.0, connects_per_second_max=0.25, connect_timeout=1.0)
    source = source_of(lambda: database)
    ask(source, options)
    with pytest.raises(TransientFault) as told:
        ask(source, options)
    assert told.value.reason == "postgres: connects throttled"
    assert grown(before) == {"opened": 1, "evicted": 1, "throttled": 1, "waited": 1}


# ---------------------------------------------------------------- scopes held too long, and fork


def test_a_scope_held_too_long_is_told_once_with_the_stack_that_holds_it(database: str, before: dict[str, int]) -> None:
    """The report names thread, DSN and the very line that does not come back."""
    source = source_of(lambda: database)
    options = ConnectOptions(application_name="long", scope_seconds_max=0.2)
    told: list[LongScope] = []
    release = threading.Event()

    def sits_on_its_session() -> None:
        with postgres_threadlocal_connection(source, options) as connection:
            connection.execute("select 1")
            release.wait(20)
        close_thread_connections()

    holder = threading.Thread(target=sits_on_its_session, name="the_holder")
    with ScopeWatch(told.append, look_seconds=0.05):
        holder.start()
        until(lambda: bool(told))
        ask(source, options)  # a short one beside it is nobody's business
        time.sleep(0.3)
        release.set()
        holder.join(10)
    assert len(told) == 1
    assert (told[0].source, told[0].thread) == (source.name, "the_holder")
    assert told[0].seconds >= 0.2
    assert "sits_on_its_session" in told[0].stack
    assert "release.wait(20)" in told[0].stack
    assert grown(before)["scopes_long"] == 1


FORKING = """
import gc, os, sys, threading
from fraud_daemons.postgres_runtime.connector import *
source = DsnSource("forking", lambda: sys.argv[1])
def pid():
    with postgres_threadlocal_connection(source) as connection:
        return connection.execute("select pg_backend_pid()").fetchone()[0]
asked, answered, others = threading.Semaphore(0), threading.Semaphore(0), []
def neighbour():
    while asked.acquire():
        others.append(pid())
        answered.release()
threading.Thread(target=neighbour, daemon=True).start()
def both():
    asked.release(); answered.acquire()
    return pid(), others[-1]
mine = both()
child = os.fork()
if child == 0:
    gc.collect()
    assert pid() not in mine
    assert counters()["opened"] == 1
    sys.exit(0)  # an orderly end: everything is finalised, and must not say goodbye on the parent's sockets
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert both() == mine
assert counters()["opened"] == 2
"""


def test_a_child_and_its_end_do_not_touch_its_parents_sessions(database: str) -> None:
    """A fork from a process with two threads and their sessions: the child opens its own, counts for itself, leaves in
    good order, and both sessions of the parent are as before."""
    done = subprocess.run(
        [sys.executable, "-c", FORKING, database], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


# ---------------------------------------------------------------- the tools of this file


def caught(work: Callable[[], object]) -> PlatformError:
    try:
        work()
    except PlatformError as fault:
        return fault
    raise AssertionError("it succeeded")


def succeeds(work: Callable[[], object]) -> bool:
    try:
        work()
    except TransientFault:
        return False
    return True


def in_threads(number: int, work: Callable[[], Any]) -> list[Any]:
    """What each thread's work gave; all begin together."""
    together, found = threading.Barrier(number), []

    def run() -> None:
        together.wait(10)
        try:
            found.append(work())
        finally:
            close_thread_connections()

    threads = [threading.Thread(target=run) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(found) == number
    return found


def until(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.02)
