"""Sealing a topic into evidence: fixed ranges, put once, hash-linked, resumed after a crash at any boundary."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import orjson
import pytest
import structlog

from fraud_daemons.bus.port import OutRecord, Record
from fraud_daemons.bus.postgres_log import PostgresBus
from fraud_daemons.clock import Clock, ManualClock, SystemClock
from fraud_daemons.errors import AnotherCopyError, FatalFault
from fraud_daemons.evidence.port import EvidenceConflict, EvidenceStore, PutOutcome
from fraud_daemons.evidence.s3 import S3EvidenceStore, S3Settings
from fraud_daemons.postgres_runtime.connector import Connection, ConnectOptions, DsnSource, close_thread_connections
from fraud_daemons.postgres_runtime.provisioning import SERVICE_SCHEMAS, provision
from fraud_daemons.runtime.database import Database
from fraud_daemons.runtime.sealing import Sealer, rendered


def render(_connection: Connection, records: Sequence[Record]) -> list[Any]:
    return [{"event_id": record.event_id} for record in records]


class Cut(Exception):
    """The power goes."""


class CuttingStore:
    """A real store in front of which the power can go: before the next put, or right after it."""

    def __init__(self, store: EvidenceStore) -> None:
        self._store = store
        self.cut: str | None = None
        self.outcomes: list[PutOutcome] = []

    def put_once(self, key: str, body: bytes, *, sha256: str) -> PutOutcome:
        if self.cut == "before":
            raise Cut
        outcome = self._store.put_once(key, body, sha256=sha256)
        self.outcomes.append(outcome)
        if self.cut == "after":
            raise Cut
        return outcome

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class Setting:
    def __init__(self, dsn: str, store: EvidenceStore, run: str) -> None:
        provision(dsn, schemas=("bus", "ig", *SERVICE_SCHEMAS), passwords=None, application_name="test")
        self.database = Database(DsnSource(f"TEST {dsn}", lambda: dsn), ConnectOptions(application_name="test"))
        self.bus = PostgresBus(self.database.scope)
        self.bus.ensure_topics(["t"], partitions=1)
        self.store = CuttingStore(store)
        self.run = run

    def feed(self, start: int, count: int, *, run: str | None = None) -> None:
        with self.bus.transaction() as log:
            log.append([OutRecord("t", "k", f"e{n}", run or self.run, b"{}") for n in range(start, start + count)])

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        with self.database.scope() as connection:
            return connection.execute(statement).fetchall()

    def sealer(self, *, clock: Clock | None = None, linger_seconds: float = 0.0) -> Sealer:
        return Sealer(
            name="w.receipts", family="ig/receipts", schema="ig", topics=["t"], entries=rendered(self.bus, render), database=self.database,
            bus=self.bus, store=self.store, clock=clock or SystemClock(), log=structlog.get_logger(), segment_records_max=10,
            linger_seconds=linger_seconds,
        )  # fmt: skip

    def drain(self) -> None:
        sealer, idle = self.sealer(), 0
        while idle < 2:
            idle = idle + 1 if sealer.step().rest_seconds > 0 else 0

    def objects(self, run: str | None = None) -> list[tuple[str, dict[str, Any], str]]:
        found = []
        for facts in self.store.list(f"{run or self.run}/ig/receipts/"):
            body = self.store.get(facts.key)
            found.append((facts.key, orjson.loads(body), hashlib.sha256(body).hexdigest()))
        return found


@pytest.fixture
def setting(database: str, object_store: Any, request: pytest.FixtureRequest) -> Iterator[Setting]:
    store = S3EvidenceStore(
        lambda: S3Settings(
            object_store.endpoint,
            object_store.bucket,
            "us-east-1",
            object_store.writer_access_key,
            object_store.writer_secret_key,
        )
    )
    run = "run_" + hashlib.sha256(request.node.name.encode()).hexdigest()[:12]
    yield Setting(database, store, run)
    close_thread_connections()


def test_a_topic_on_which_more_comes_waits_for_a_full_object_but_not_for_ever(setting: Setting) -> None:
    """A still topic is sealed after the linger, a moving one when its object is full, or after four times the linger."""
    clock = ManualClock()
    sealer = setting.sealer(clock=clock, linger_seconds=1.0)
    sealer.step()  # the claim

    def after(seconds: float, *, come: int, first: int) -> int:
        if come:
            setting.feed(first, come)
        clock.advance(seconds)
        while not sealer.step().rest_seconds:
            pass
        return len(setting.objects())

    assert after(0.0, come=1, first=0) == 0
    assert after(1.1, come=0, first=0) == 1, "it stood still for the linger"
    assert [after(0.9, come=1, first=n) for n in (1, 2, 3, 4)] == [1, 1, 1, 1], "more kept coming"
    assert after(1.6, come=1, first=5) == 2, "four lingers are enough"
    assert after(0.1, come=10, first=6) == 3, "a full object waits for nothing"
    assert sorted(len(document["records"]) for _, document, _ in setting.objects()) == [1, 5, 10]


def test_every_record_is_in_one_object_and_objects_are_linked(setting: Setting) -> None:
    """Forty-five records become five segments; each names the hash of the one before."""
    setting.feed(0, 45)
    setting.drain()
    objects = setting.objects()
    assert [r["event_id"] for _, document, _ in objects for r in document["records"]] == [f"e{n}" for n in range(45)]
    previous = ""
    for key, document, sha256 in objects:
        assert document["previous_sha256"] == previous
        assert sha256[:16] in key
        previous = sha256


@pytest.mark.parametrize("cut", ["before", "after"])
def test_a_crash_around_the_put_repeats_the_same_bytes(setting: Setting, cut: str) -> None:
    """The ledger row was committed: a new copy puts the same object; one already there is recognised, never written over."""
    setting.feed(0, 10)
    first = setting.sealer()
    first.step()
    first.step()
    setting.store.cut = cut
    with pytest.raises(Cut):
        first.step()
    setting.store.cut = None
    setting.drain()
    assert [r["event_id"] for _, d, _ in setting.objects() for r in d["records"]] == [f"e{n}" for n in range(10)]
    assert setting.store.outcomes[-1] is (PutOutcome.ALREADY_THERE if cut == "after" else PutOutcome.WRITTEN)


def test_a_sealer_that_slept_through_its_successors_start_completes_nothing(setting: Setting) -> None:
    """Its segment stays open until the successor, which writes the same bytes, says that it is complete."""
    setting.feed(0, 4)
    old = setting.sealer()
    while old.step().rest_seconds or not setting.sql("select count(*) from ig.segments")[0][0]:
        pass  # until the range is fixed and its object not yet written
    new = setting.sealer()
    new.step()  # claims
    with pytest.raises(AnotherCopyError):
        old.step()
    assert setting.sql("select state from ig.segments") == [("INTENT",)]
    new.step()
    assert setting.sql("select state from ig.segments") == [("COMPLETE",)]
    assert len(setting.objects()) == 1


def test_a_segment_that_is_too_much_is_made_smaller(setting: Setting) -> None:
    """After an overload the next ranges are halved, down to one record, and grow back; every record is in one object."""
    setting.feed(0, 21)
    sealer = setting.sealer()
    for _ in range(3):
        assert sealer.shrink()
    assert not sealer.shrink()
    idle = 0
    while idle < 2:
        idle = idle + 1 if sealer.step().rest_seconds > 0 else 0
    sizes = [row[0] for row in setting.sql("select records from ig.segments order by first_position")]
    assert sizes == [1, 2, 4, 8, 6]


def test_runs_never_share_an_object(setting: Setting) -> None:
    """The prefix comes from the record's own run id: interleaved runs give separate objects."""
    other = setting.run + "_b"
    for n in range(0, 20, 2):
        setting.feed(n, 1)
        setting.feed(n + 1, 1, run=other)
    setting.drain()
    assert [r["event_id"] for _, d, _ in setting.objects() for r in d["records"]] == [f"e{n}" for n in range(0, 20, 2)]
    assert [r["event_id"] for _, d, _ in setting.objects(other) for r in d["records"]] == [
        f"e{n}" for n in range(1, 20, 2)
    ]


def test_other_bytes_under_a_key_are_a_conflict_and_stay(setting: Setting) -> None:
    """Evidence is never overwritten: the same key with other bytes is refused and the first bytes remain."""
    key = f"{setting.run}/x.json"
    setting.store.put_once(key, b"first", sha256=hashlib.sha256(b"first").hexdigest())
    assert (
        setting.store.put_once(key, b"first", sha256=hashlib.sha256(b"first").hexdigest()) is PutOutcome.ALREADY_THERE
    )
    with pytest.raises(EvidenceConflict):
        setting.store.put_once(key, b"second", sha256=hashlib.sha256(b"second").hexdigest())
    assert setting.store.get(key) == b"first"


def test_a_record_changed_under_the_ledger_stops_the_sealer(setting: Setting) -> None:
    """When the records of an intended segment no longer give its hash, nothing is written and the worker is held."""
    setting.feed(0, 10)
    first = setting.sealer()
    first.step()
    first.step()  # intended, not written
    with setting.database.scope() as connection:
        connection.execute("update bus.log set event_id = 'other' where topic = 't' and \"position\" = 3")
    second = setting.sealer()
    second.step()
    with pytest.raises(FatalFault, match="other bytes"):
        second.step()
    assert setting.objects() == []
