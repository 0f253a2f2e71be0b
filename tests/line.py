"""A line to test workers on: a provisioned database with every schema and topic, and workers built as `bootstrap` would.

Use the `line` fixture of conftest.py. No process is started: a test appends input, drains a worker's activities step by
step and looks at what stands in the database and on the bus.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import psycopg
import structlog

from fraud_daemons.bus.port import OutRecord, Record
from fraud_daemons.bus.postgres_log import PostgresBus
from fraud_daemons.clock import ManualClock
from fraud_daemons.config.profiles import load_profile
from fraud_daemons.errors import PoisonFault
from fraud_daemons.evidence.port import EvidenceStore
from fraud_daemons.postgres_runtime.connector import ConnectOptions, DsnSource, close_thread_connections
from fraud_daemons.runtime.activity import Activity
from fraud_daemons.runtime.consumer import StatelessHandler
from fraud_daemons.runtime.database import Database
from fraud_daemons.runtime.signals import StopRequest
from fraud_daemons.runtime.unit_of_work import UnitOfWork
from fraud_daemons.runtime.worker import Worker, WorkerContext

RUN = "platform_20260101T000000Z"
ROUNDS_MAX = 2000
ROOT = Path(__file__).resolve().parents[1]

_EVENT_ID_OF = {
    "flows.bound": "flow_id",
    "flows.featured": "flow_id",
    "decisions": "decision_id",
    "action_intents": "intent_id",
    "action_outcomes": "intent_id",
    "audit_chains": "chain_id",
    "case_triggers": "trigger_id",
    "case_events": "case_id",
    "labels": "label_id",
    "control": "stream_id",
}


class AdvanceOnly(StatelessHandler):
    """The pass-through: reads everything, does nothing, moves the checkpoint. A fact that survives it proves nothing."""

    def handle(self, records: Sequence[Record], unit: UnitOfWork) -> None:
        """Nothing."""


class Line:
    """One provisioned database, its bus, and workers on it. `clock` is manual: time moves when a test says so."""

    def __init__(self, dsn: str, *, run_dir: Path, make_store: Callable[[], EvidenceStore], run: str = RUN) -> None:
        self.dsn = dsn
        self.run = run
        self.clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
        self.make_store = make_store
        self.database = Database(DsnSource(f"TEST {dsn}", lambda: dsn), ConnectOptions(application_name="test"))
        self.bus = PostgresBus(self.database.scope)
        self.secrets: dict[str, Any] = {}
        self.ports: dict[str, int] = {}
        self.run_dir = run_dir

    def database_for(self, worker: Worker) -> Database:
        """The database with the sessions that `bootstrap` would give `worker`."""
        return replace(self.database, options=replace(self.database.options, keeps_plans=worker.keeps_plans))

    def context_for(
        self, worker: Worker, *, pack: str = "test", settings: Mapping[str, Any] | None = None
    ) -> WorkerContext:
        """What `bootstrap` would give `worker`; `settings` override the profile ({"loop.batch_records_max": 10})."""
        overrides = {"profile.run_dir": str(self.run_dir), **(settings or {})}
        return WorkerContext(
            worker=worker,
            pack=pack,
            profile=load_profile("local_parity", root=ROOT, environment={}, overrides=overrides),
            database=self.database_for(worker),
            bus=self.bus,
            same_server=True,
            make_store=self.make_store,
            read_secrets=lambda: self.secrets,
            port_of=lambda service: self.ports[service],
            database_of=lambda _name: self.database_for(worker),
            long_database_of=lambda _name: self.database,
            clock=self.clock,
            log=structlog.get_logger(worker.name),
            stop=StopRequest(),
        )

    def activities(self, worker: Worker, *, settings: Mapping[str, Any] | None = None) -> list[Activity]:
        """The worker's activities, newly built: a restart."""
        return list(worker.build(self.context_for(worker, settings=settings)))

    def pass_through(self, worker: Worker) -> list[Activity]:
        """The worker replaced by "advance the checkpoint only": its fact check must fail on this."""
        return [self.context_for(worker).consumer(AdvanceOnly(), topics=worker.consumes)]

    def append(
        self,
        topic: str,
        bodies: Iterable[Mapping[str, Any]],
        *,
        key: Callable[[Mapping[str, Any]], str] | None = None,
        event_id: Callable[[Mapping[str, Any]], str] | None = None,
    ) -> list[tuple[int, int] | None]:
        """Append bodies to a topic under their own run; returns (partition, position) per record."""
        key_of, id_of = key or _key, event_id or (lambda body: _event_id(topic, body))
        records = [
            OutRecord(topic, key_of(body), id_of(body), _run(body, self.run), orjson.dumps(body)) for body in bodies
        ]
        with self.bus.transaction() as log:
            return log.append(records)

    def drain(self, activities: Sequence[Activity], *, advance_seconds: float = 0.0) -> int:
        """Step until every activity rests; poison is isolated as the loop would. Returns the records handled.

        `advance_seconds` moves the clock each round, for activities that linger.
        """
        handled = 0
        for _ in range(ROUNDS_MAX):
            idle = True
            for activity in activities:
                try:
                    outcome = activity.step()
                except PoisonFault as fault:
                    activity.forget()
                    if not activity.isolate(fault):
                        raise
                    idle = False
                    continue
                handled += outcome.records
                idle = idle and outcome.records == 0 and outcome.rest_seconds > 0
            self.clock.advance(advance_seconds)
            if idle:
                return handled
        raise AssertionError(f"not idle after {ROUNDS_MAX} rounds")

    def work(self, worker: Worker, *, settings: Mapping[str, Any] | None = None, advance_seconds: float = 0.0) -> int:
        """Build `worker` anew and drain it."""
        return self.drain(self.activities(worker, settings=settings), advance_seconds=advance_seconds)

    def records(self, topic: str) -> list[Record]:
        """Everything on a topic, by partition and position."""
        with self.bus.transaction() as log:
            found = log.read(log.beginnings([topic]), limit=1_000_000)
        return sorted(found, key=lambda record: (record.partition, record.position))

    def bodies(self, topic: str) -> list[dict[str, Any]]:
        """The JSON bodies of everything on a topic, by partition and position."""
        return [orjson.loads(record.body) for record in self.records(topic)]

    def sql(self, statement: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        """Plain SQL from outside, on a connection of its own; commits."""
        with psycopg.connect(self.dsn) as connection:
            cursor = connection.execute(statement, parameters)  # type: ignore[call-overload]
            return cursor.fetchall() if cursor.description else []

    def fresh_checkpoints(self) -> None:
        """Forget where every consumer was: the next drain reads the whole input again from position 0."""
        self.sql("delete from checkpoints.positions")

    def begin_run(self, run: str | None = None, *, live: bool = False) -> str:
        """Make a run known in control.runs."""
        name = run or self.run
        self.sql(
            "insert into control.runs (platform_run_id, started_at, live) values (%s, %s, %s) on conflict do nothing",
            (name, self.clock.now(), live),
        )
        return name


@contextmanager
def at_work(
    activities: Callable[[], Sequence[Activity]], *, clock: ManualClock | None = None, advance_seconds: float = 0.0
) -> Iterator[None]:
    """`activities`, made in a thread of their own, take steps there until the block ends; `clock` moves with each round."""
    stop = threading.Event()

    def work() -> None:
        made = activities()
        while not stop.wait(0.01):
            if clock is not None:
                clock.advance(advance_seconds)
            for activity in made:
                try:
                    activity.step()
                except PoisonFault as fault:
                    activity.forget()
                    activity.isolate(fault)
        close_thread_connections()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=10)
        assert not thread.is_alive()


def _payload(body: Mapping[str, Any]) -> Mapping[str, Any]:
    payload = body.get("payload")
    return payload if isinstance(payload, Mapping) else body


def _key(body: Mapping[str, Any]) -> str:
    payload = _payload(body)
    return str(body.get("card_token") or body.get("subject") or payload.get("flow_id") or body.get("case_id") or "")


def _event_id(topic: str, body: Mapping[str, Any]) -> str:
    return str(body.get(_EVENT_ID_OF.get(topic, "event_id")) or body.get("event_id") or "")


def _run(body: Mapping[str, Any], default: str) -> str:
    pins = body.get("pins") or {}
    return str(body.get("platform_run_id") or pins.get("platform_run_id") or default)
