"""One consumer, SIGKILLed before and after every statement it sends: state, output and checkpoint stay one thing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import orjson
import pytest
import structlog

from fraud_daemons.bus import outbox
from fraud_daemons.bus.port import OutRecord, Record, TopicPartition
from fraud_daemons.bus.postgres_log import PostgresBus
from fraud_daemons.clock import SystemClock
from fraud_daemons.postgres_runtime.connector import ConnectOptions, DsnSource, close_thread_connections
from fraud_daemons.postgres_runtime.provisioning import SERVICE_SCHEMAS, provision
from fraud_daemons.runtime.consumer import Consumer, Pace, StatelessHandler
from fraud_daemons.runtime.database import Database
from fraud_daemons.runtime.unit_of_work import UnitOfWork
from tests.faults.killing import killed_at

RUN = "platform_20260101T000000Z"
BATCH = 7
KILL_POINTS_MAX = 200
STEPS_MAX = 60


class Doubler(StatelessHandler):
    """Writes a row per record and publishes one record per record."""

    def handle(self, records: Sequence[Record], unit: UnitOfWork) -> None:
        rows = [(r.event_id, orjson.loads(r.body)["n"] * 2) for r in records]
        unit.connection.execute(
            "insert into doubled select * from unnest(%s::text[], %s::bigint[])",
            ([i for i, _ in rows], [n for _, n in rows]),
        )
        for event_id, doubled in rows:
            unit.publish("out", key=event_id, event_id=event_id, platform_run_id=RUN, body={"n": doubled})


class Setting:
    """A database with a bus, a state table and a consumer between topics `in` and `out`."""

    def __init__(self, dsn: str, *, same_server: bool) -> None:
        self.dsn = dsn
        self.same_server = same_server
        provision(dsn, schemas=("bus", *SERVICE_SCHEMAS), passwords=None, application_name="test")
        self.database = Database(DsnSource(f"TEST {dsn}", lambda: dsn), ConnectOptions(application_name="test"))
        # a second name for the same server: the consumer then treats the bus as another system
        other = self.database if same_server else Database(DsnSource(f"BUS {dsn}", lambda: dsn), self.database.options)
        self.bus = PostgresBus(other.scope)
        self.bus.ensure_topics(["in", "out"], partitions=1)
        with self.database.scope() as connection:
            connection.execute(
                "create table doubled (event_id text not null, n bigint not null)"
            )  # no key: a double shows

    def feed(self, start: int, count: int) -> None:
        with self.bus.transaction() as log:
            log.append(
                [OutRecord("in", "k", f"e{n}", RUN, orjson.dumps({"n": n})) for n in range(start, start + count)]
            )

    def drain(self) -> None:
        consumer = Consumer(
            name="doubler", handler=Doubler(), topics=["in"], database=self.database, bus=self.bus,
            same_server=self.same_server, clock=SystemClock(), log=structlog.get_logger(), pace=Pace(batch_records_max=BATCH),
        )  # fmt: skip
        idle = 0
        for _ in range(STEPS_MAX):
            outcome = consumer.step()
            idle = idle + 1 if outcome.records == 0 and outcome.rest_seconds > 0 else 0
            if idle == 2:
                break

    def facts(self) -> tuple[list[str], list[str], int]:
        """(ids in state, ids published in order, records still in the outbox)."""
        with self.database.scope() as connection:
            state = [row[0] for row in connection.execute("select event_id from doubled")]
            waiting = len(outbox.pending(connection, "doubler"))
        with self.bus.transaction() as log:
            published = [record.event_id for record in log.read({TopicPartition("out", 0): 0}, limit=100_000)]
        return state, published, waiting


@pytest.fixture(params=[True, False], ids=["outbox is the log", "outbox forwarded"])
def setting(request: pytest.FixtureRequest, database: str) -> Iterator[Setting]:
    yield Setting(database, same_server=request.param)
    close_thread_connections()


def test_a_kill_at_any_statement_loses_and_repeats_nothing(setting: Setting) -> None:
    """For every boundary between statements of a drain: killed there and started again, each record is in the state
    once, published once and in order, and the outbox is empty."""
    fed = killed = 0
    for point in range(1, KILL_POINTS_MAX):
        setting.feed(fed, 10)
        fed += 10
        close_thread_connections()
        was_killed = killed_at(point, setting.drain)
        killed += was_killed
        setting.drain()
        state, published, waiting = setting.facts()
        expected = [f"e{n}" for n in range(fed)]
        assert sorted(state, key=lambda e: int(e[1:])) == expected, f"state differs after a kill at boundary {point}"
        assert published == expected, f"output differs after a kill at boundary {point}"
        assert waiting == 0
        if not was_killed:
            break
    else:
        pytest.fail(f"the drain has more than {KILL_POINTS_MAX} boundaries; the last ones were never tested")
    assert killed >= 40, "the kills did not happen"
