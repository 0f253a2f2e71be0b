"""DSN families: names that lead to a second PostgreSQL move their tables there, and no record is the worse for it."""

from __future__ import annotations

import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import combinations_with_replacement
from pathlib import Path
from typing import cast

import psycopg
import pytest

from fraud_daemons import bootstrap
from fraud_daemons.acceptance.tracing import trace
from fraud_daemons.bus.dead_letters import bury
from fraud_daemons.config.dsns import GROUPS, SCHEMA_OF
from fraud_daemons.config.profiles import load_profile
from fraud_daemons.errors import ConfigurationError, TransientFault
from fraud_daemons.postgres_runtime.connector import Connection, close_thread_connections
from fraud_daemons.postgres_runtime.provisioning import SERVICE_SCHEMAS
from fraud_daemons.runtime.activity import Activity
from fraud_daemons.state import progress, runs
from fraud_daemons.supervision.substrate.postgres import PostgresServer, start_server
from fraud_daemons.workers.case_labels import case_management, label_store
from fraud_daemons.workers.decision_lane import decision_fabric
from fraud_daemons.workers.rtdl_core import context_store_flow_binding, online_feature_plane
from tests.case_labels_records import trigger
from tests.integration.test_retiring import another_run_begins, decide, owners
from tests.integration.test_run_progress import Watched
from tests.integration.whole_line import BEHIND_THE_GATE, TRANSACTIONS, ask_for_report, reporter, stream_the_world
from tests.line import ROOT, AdvanceOnly
from tests.two_servers import TwoServers

MOVED = (
    "WSP_CHECKPOINT_DSN", "DF_REPLAY_DSN", "DF_CHECKPOINT_DSN",
    "DLA_INDEX_DSN", "CASE_MGMT_LOCATOR", "LABEL_STORE_LOCATOR", "ARCHIVE_WRITER_LEDGER_DSN",
)  # fmt: skip
"""Workers with the bus alternate with workers that publish to it by outbox; the ladder's steps stay behind."""
THE_OTHERS = tuple(name for name in SCHEMA_OF if name not in MOVED)
"""With MOVED every name: the bus and the gate's admissions too, so that those publish by outbox who did not before."""
ROUNDS_MAX = 3000
SMALL = {"loop.batch_records_max": 25, "evidence.linger_seconds": 0.0, "evidence.segment_records_max": 20,
         "trim.log_age_seconds": 0.0}  # fmt: skip
"""Records are trimmed as soon as everybody on both servers is past them."""


class OtherServer:
    """A second server that a test may stop and start again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._server: PostgresServer = self._stack.enter_context(start_server(folder))

    def dsn(self, name: str = "postgres") -> str:
        return self._server.dsn(name)

    def restart(self) -> None:
        self.stop()
        self._server = self._stack.enter_context(start_server(self._folder, password=self._server.password))

    def stop(self) -> None:
        self._stack.close()


@pytest.fixture
def other() -> Iterator[OtherServer]:
    with tempfile.TemporaryDirectory(prefix="fp", dir="/tmp") as folder:
        server = OtherServer(Path(folder))
        yield server
        close_thread_connections()
        server.stop()


@pytest.fixture
def two(
    request: pytest.FixtureRequest, postgres_server: PostgresServer, other: OtherServer, short_dir: Path
) -> Iterator[TwoServers]:
    from fraud_daemons.evidence.s3 import S3EvidenceStore, S3Settings

    store = request.getfixturevalue("object_store")
    name = f"two_{uuid.uuid4().hex[:16]}"
    for dsn in (postgres_server.dsn(), other.dsn()):
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(f"create database {name}")
    settings = S3Settings(
        endpoint=store.endpoint, bucket=store.bucket, region="us-east-1",
        access_key=store.writer_access_key, secret_key=store.writer_secret_key,
    )  # fmt: skip
    yield TwoServers(
        postgres_server.dsn(name), other.dsn(name), moved=getattr(request, "param", MOVED), run_dir=short_dir,
        make_store=lambda: S3EvidenceStore(lambda: settings),
    )  # fmt: skip
    close_thread_connections()
    with psycopg.connect(postgres_server.dsn(), autocommit=True) as connection:
        connection.execute(f"drop database {name} with (force)")


def _step_all(activities: list[Activity]) -> tuple[bool, int]:
    """One step of each; whether all rest, and how many met a server that is away."""
    idle, away = True, 0
    for activity in activities:
        try:
            outcome = activity.step()
        except TransientFault:
            activity.forget()
            idle, away = False, away + 1
            continue
        idle = idle and outcome.records == 0 and outcome.rest_seconds > 0
    return idle, away


def _everyone(two: TwoServers) -> list[Activity]:
    """Every worker behind the gate, newly built."""
    return [activity for worker in BEHIND_THE_GATE for activity in two.activities(worker, settings=SMALL)]


def _finish(two: TwoServers, activities: list[Activity]) -> None:
    for _ in range(ROUNDS_MAX):
        idle, _ = _step_all(activities)
        two.clock.advance(1.0)
        with two.reading() as at:
            if idle and not progress.behind(at):
                return
    raise AssertionError("not idle")


def test_the_line_over_two_servers(two: TwoServers, other: OtherServer, short_dir: Path) -> None:
    """A world through every worker over two servers, one of them stopped and started in the middle and every worker killed
    there: every equation of the report holds, by ids."""
    stream_the_world(two, short_dir)
    activities = _everyone(two)
    for _ in range(6):
        _step_all(activities)
    half = [two.sql(f"select count(*) from {table}")[0][0] for table in ("df.decisions", "case_trigger.triggers")]
    assert 0 < half[0] < TRANSACTIONS, "the middle"
    other.stop()
    assert _step_all(activities)[1] >= 4, "workers whose server is away say so, and stay"
    other.restart()
    close_thread_connections()
    activities = _everyone(two)
    _finish(two, activities)
    report = ask_for_report(two, reporter(two))
    assert report is not None
    assert [e for e in report["equations"] if e["missing"] or e["surplus"]] == []
    assert report["verdict"] == "PASS"
    assert report["stages"]["decided"] == TRANSACTIONS
    assert report["caught_up"]
    assert report["terms"]["dead_lettered"] == 0
    _each_schema_stands_once(two)
    decision_id = two.bodies("decisions")[0]["decision_id"]
    with two.reading() as at:
        traced = trace(at, two.run, decision_id)
    assert traced is not None
    _state_is_given_up_on_both(two)
    assert all(stage["reached"] for stage in traced["stages"] if stage["stage"] in ("admitted", "bound", "featured", "decided", "audited"))  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("two", [THE_OTHERS], indirect=True, ids=["the others"])
def test_the_line_with_every_other_name_moved(two: TwoServers, short_dir: Path) -> None:
    """The bus on the second server, and every component there that was on the first before: every equation holds, whoever
    stayed behind publishes by outbox, and each table stands where its name leads and nowhere else."""
    stream_the_world(two, short_dir)
    _finish(two, _everyone(two))
    report = ask_for_report(two, reporter(two))
    assert report is not None
    assert [e for e in report["equations"] if e["missing"] or e["surplus"]] == []
    assert report["verdict"] == "PASS"
    assert report["stages"]["decided"] == TRANSACTIONS
    tables = "select distinct table_schema from information_schema.tables"
    with psycopg.connect(two.there) as there, psycopg.connect(two.here) as here:
        stand = [{row[0] for row in server.execute(tables)} & set(SCHEMA_OF.values()) for server in (here, there)]
        producers = {row[0] for row in there.execute("select distinct producer from bus.producers")}
    assert stand == [{SCHEMA_OF[name] for name in MOVED}, {SCHEMA_OF[name] for name in THE_OTHERS}]
    assert {"decision_fabric", "decision_log_audit", "case_management", "label_store"} <= producers
    assert not {"context_store_flow_binding", "online_feature_plane", "action_layer", "case_trigger"} & producers


@pytest.mark.parametrize("name", sorted(SCHEMA_OF))
def test_each_name_moves_its_schema_and_no_other(name: str) -> None:
    """With its group, or with the bus it commits with: what stands elsewhere is that schema alone, and what every server has."""
    together = next((names for names in GROUPS.values() if name in names), (name,))
    together = ("EVENT_BUS_DSN", "IG_ADMISSION_DSN") if name in ("EVENT_BUS_DSN", "IG_ADMISSION_DSN") else together
    elsewhere = dict.fromkeys(together, "host=elsewhere dbname=x")
    profile = load_profile("local_parity", root=ROOT, environment={"PLATFORM_DSN": "host=here dbname=x", **elsewhere})
    here, there = bootstrap.servers(profile)
    assert set(there.schemas) - set(SERVICE_SCHEMAS) == {SCHEMA_OF[one] for one in together}
    assert set(here.schemas).isdisjoint({SCHEMA_OF[one] for one in together})
    assert set(here.schemas) | set(there.schemas) == set(bootstrap.SCHEMAS)


def _state_is_given_up_on_both(two: TwoServers) -> None:
    """The run is retired by the reporter's role, and each owner deletes its rows on its own server by its own."""
    another_run_begins(two)
    assert decide(two) == {}
    two.clock.advance(61)
    two.drain(owners(two))
    for table in ("ig.admissions", "df.decisions", "dla.chains", "csfb.bindings", "wsp.journal"):
        assert two.sql(f"select count(*) from {table}") == [(0,)]


def _each_schema_stands_once(two: TwoServers) -> None:
    """State where its name leads and nowhere else; what publishes from over there went through its outbox."""
    tables = "select distinct table_schema from information_schema.tables where table_schema in ('ig', 'csfb', 'bus', 'df', 'wsp')"
    with psycopg.connect(two.there) as there, psycopg.connect(two.dsn) as here:
        assert {row[0] for row in there.execute(tables)} == {"df", "wsp"}
        assert {row[0] for row in here.execute(tables)} == {"ig", "csfb", "bus"}
        producers = {row[0] for row in here.execute("select distinct producer from bus.producers")}
        assert {"decision_fabric", "decision_log_audit", "case_management", "label_store"} <= producers
        assert not {"context_store_flow_binding", "online_feature_plane", "action_layer", "case_trigger"} & producers
        assert there.execute("select count(*) from outbox.pending").fetchone() == (0,)
        trimmed = {row[0] for row in here.execute("select distinct topic from bus.trimmed")}
        assert {"traffic", "flows.bound", "decisions"} <= trimmed, (
            "behind readers of both servers, by the archive's own role"
        )
    with psycopg.connect(two.there, user="fp_ig", password="secret of fp_ig") as gate:
        assert gate.execute("select count(*) from df.decisions").fetchone() == (TRANSACTIONS,), "GET /v1/decisions"
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            gate.execute("select count(*) from dla.chains")


def test_records_that_the_plane_set_aside_are_decided_from_another_server(two: TwoServers, short_dir: Path) -> None:
    """The feature plane's letters are on its own server, the decisions on another: each is found and decided, once."""
    stream_the_world(two, short_dir)
    two.work(context_store_flow_binding.WORKER)
    two.drain(two.pass_through(online_feature_plane.WORKER))
    bound = two.records("flows.bound")[:3]
    with two.database.scope() as connection:
        for record in bound:
            bury(connection, worker="online_feature_plane", record=record, reason="r", detail="", at=two.clock.now())
    for _ in range(2):
        two.work(decision_fabric.WORKER)
    decided = two.sql("select flow_id, feature_status from df.decisions order by decided_position")
    assert decided == [(record.event_id, "ABSENT") for record in bound]


def test_a_record_on_its_way_between_the_servers_is_found(two: TwoServers) -> None:
    """A worker of the second server takes it, and its outbox is sent on, each before any statement of a look at the run: it
    never shows as through."""
    two.begin_run()
    two.sql("delete from bus.subscribers")  # of these only two work here
    [cases, *_] = two.activities(case_management.WORKER)
    last = [two.context_for(label_store.WORKER).consumer(AdvanceOnly(), topics=("case_events",))]
    two.drain([cases, *last])

    def look(before: Callable[[int], None]) -> tuple[list[progress.Behind], int]:
        asked = Counter[str]()

        def next_one(_: int) -> None:
            before(asked.total())
            asked["statements"] += 1

        with psycopg.connect(two.here, autocommit=True) as here, psycopg.connect(two.there, autocommit=True) as there:
            sides = {False: Watched(here, next_one), True: Watched(there, next_one)}
            return progress.behind_on(lambda name: cast("Connection", sides[name in two.moved]), two.run), asked.total()

    statements = look(lambda _: None)[1] + 3
    for first, second in combinations_with_replacement(range(statements), 2):
        if (first + second) % 3:
            continue
        two.append("case_triggers", [trigger(1000 * first + second, run=two.run, card=None)])
        due = [first, second]

        def move(statement: int, due: list[int] = due) -> None:
            while due and due[0] == statement:
                due.pop(0)
                cases.step()

        assert look(move)[0], f"missed, moved before statements {first} and {second}"
        two.drain([cases, *last])
        assert look(lambda _: None)[0] == []


def test_the_report_counts_the_sessions_of_each_server(two: TwoServers) -> None:
    """Sessions that came and went on the second server are in the sum and under its name; where nobody noted how many it had
    opened before, its own figure and the sum are not known."""
    profile = two.profile()
    operator = bootstrap.operator_database(profile, "run")
    two.clock.advance(77_777)  # a second of its own: governance objects of all tests are in one store
    two.run = bootstrap.begin_run(profile, operator, live=False, note="", clock=two.clock, by="ada").platform_run_id
    before = _sessions(two.there)
    for _ in range(5):
        psycopg.connect(two.there).close()
    _until(lambda: _sessions(two.there) >= before + 5)
    report = ask_for_report(two, reporter(two))
    assert report is not None
    by_server = report["sessions_opened_by_server"]
    assert list(by_server) == ["PLATFORM_DSN", "WSP_CHECKPOINT_DSN"]
    assert by_server["WSP_CHECKPOINT_DSN"] >= 5
    assert report["sessions_opened"] == sum(by_server.values())
    two.clock.advance(1)
    with operator.scope() as connection:
        two.run = runs.begin(connection, at=two.clock.now(), live=False, note="").platform_run_id
    later = ask_for_report(two, reporter(two))
    assert later is not None
    assert isinstance(later["sessions_opened_by_server"]["PLATFORM_DSN"], int)
    assert (later["sessions_opened_by_server"]["WSP_CHECKPOINT_DSN"], later["sessions_opened"]) == (None, None)


def _sessions(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("select sessions from pg_stat_database where datname = current_database()").fetchone()
    assert row is not None
    return int(row[0])


def _until(condition: Callable[[], bool]) -> None:
    """A server adds a session to its counter when the session has ended, at the latest."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "the counter did not move"
        time.sleep(0.1)


def test_a_split_group_and_a_bus_without_its_admissions_are_refused_by_name(two: TwoServers) -> None:
    """Names whose tables commit together move together."""
    two.moved = ("AL_LEDGER_DSN",)
    with pytest.raises(ConfigurationError, match=r"AL_\*"):
        two.profile()
    two.moved = ("EVENT_BUS_DSN",)
    with pytest.raises(ConfigurationError, match="IG_ADMISSION_DSN and EVENT_BUS_DSN"):
        bootstrap.provision(two.profile())
