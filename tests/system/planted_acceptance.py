"""Defects for `platform accept`, each planted in a running platform for as long as one gate measures, and taken out again.

A plant is a context manager around one gate; what it does is real: an event sent twice, a worker stopped, killed again and
again, frozen, a session left open in a transaction, a connection per batch, a log moved away, an object written over, rows
lost and doubled, an index dropped, a migration forgotten.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.client import HTTPConnection
from typing import Any, Final

import boto3
import orjson
import psycopg

from fraud_daemons.acceptance.gates import GATES, Gate
from fraud_daemons.acceptance.gates.scene import Scene
from fraud_daemons.acceptance.gates.verdicts import Finding
from fraud_daemons.domain.envelope import make_event
from fraud_daemons.worlds.sealed import open_world
from tests.system.platform_under_test import PlatformUnderTest, wait_until
from tests.system.test_report_names_defects import planted

VICTIM: Final = "case_trigger"
INCIDENT: Final = "psycopg.OperationalError: could not connect: Address already in use (0x00002740/10048)"
Plant = Callable[[PlatformUnderTest, Scene], AbstractContextManager[Any]]


def gates_with(platform: PlatformUnderTest, *plants: tuple[str, Plant]) -> dict[str, Gate]:
    """All gates in their order, some of them measured while a defect is there, or several."""
    gates = dict(GATES)
    for name, plant in plants:
        gates[name] = _measured_with(gates[name], plant, platform)
    return gates


def _measured_with(gate: Gate, plant: Plant, platform: PlatformUnderTest) -> Gate:
    def measure(scene: Scene) -> Finding:
        with plant(platform, scene):
            return gate(scene)

    return measure


def ready_again(platform: PlatformUnderTest) -> None:
    wait_until(lambda: platform.status()["verdict"] == "running ready", seconds=60, what="all packs ready again")


def sent_by_another(index: int) -> Plant:
    """A transaction of the world, sent by somebody who holds the producer's key, just before the producer comes to it."""

    @contextmanager
    def plant(platform: PlatformUnderTest, scene: Scene) -> Iterator[None]:
        world = open_world(scene.profile.path("worlds"), scene.world)
        [row] = world.read("traffic", index, 1)
        event = make_event(
            event_type="traffic", payload=row["payload"], occurred_at=row["occurred_at"], source_seq=row["source_seq"],
            platform_run_id=scene.run, scenario_run_id=world.scenario_run_id, world=scene.world,
            producer="world_stream_producer",
        )  # fmt: skip
        gate = HTTPConnection("127.0.0.1", platform.gate_port(), timeout=30)
        gate.request(
            "POST", "/v1/events", orjson.dumps([event]), {"X-API-Key": platform.secret("gate", "producer_key")}
        )
        answer = gate.getresponse()
        said = answer.read()
        gate.close()
        assert answer.status == 200, said
        yield

    return plant


@contextmanager
def a_slow_gate(platform: PlatformUnderTest, _: Scene) -> Iterator[None]:
    """It takes connections and answers nobody for a while: shorter than the producer waits for an answer."""
    pid = platform.pid("ingestion_gate")
    os.kill(pid, signal.SIGSTOP)
    thaw = threading.Timer(9.0, os.kill, (pid, signal.SIGCONT))
    thaw.start()
    try:
        yield
    finally:
        thaw.join()
        ready_again(platform)


@contextmanager
def a_frozen_worker(platform: PlatformUnderTest, scene: Scene) -> Iterator[None]:
    """Its process runs, its loop does not: longer than a beat may be old, shorter than the watchdog's patience."""
    pid = platform.pid(VICTIM)
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(scene.profile.get("loop.beat_age_seconds_max") + 1.5)
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
        ready_again(platform)


@contextmanager
def a_stopped_worker(platform: PlatformUnderTest, _: Scene) -> Iterator[None]:
    platform.say("stop", VICTIM)
    try:
        yield
    finally:
        platform.say("start", VICTIM)


@contextmanager
def a_crash_loop(platform: PlatformUnderTest, scene: Scene) -> Iterator[None]:
    """In the middle of the hold, twice within 50 ms of its start: back before anybody looks."""

    def kill() -> None:
        time.sleep(min(1.5, scene.hold_seconds / 3))
        for _ in range(2):
            pid = platform.pid(VICTIM) if _ == 0 else _pid_of_beat(platform)
            platform.kill(pid)
            time.sleep(0.05)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield
    finally:
        thread.join()
        ready_again(platform)


def _pid_of_beat(platform: PlatformUnderTest) -> int:
    """The pid the supervisor has just given it, without a command's time."""
    lock = platform.run_dir / "events.ndjson"
    starts = [json.loads(line) for line in lock.read_text().splitlines() if f'"{VICTIM}"' in line]
    return int(next(r["pid"] for r in reversed(starts) if r["kind"] in ("start", "restart")))


@contextmanager
def a_leaked_transaction(platform: PlatformUnderTest, _: Scene) -> Iterator[None]:
    """A session from before the hold that began a transaction and forgot it."""
    with psycopg.connect(platform.dsn(), application_name="leak") as leak:
        leak.execute("select 1")
        time.sleep(0.2)
        yield


@contextmanager
def a_session_in_the_hold(platform: PlatformUnderTest, scene: Scene) -> Iterator[None]:
    """Opened and closed between two looks."""

    def once() -> None:
        time.sleep(scene.hold_seconds / 3)
        psycopg.connect(platform.dsn(), application_name="passer-by").close()

    thread = threading.Thread(target=once)
    thread.start()
    try:
        yield
    finally:
        thread.join()


@contextmanager
def a_connection_per_batch(platform: PlatformUnderTest, _: Scene) -> Iterator[None]:
    """As long as events flow: connect, ask, close, for every batch."""
    stop = threading.Event()

    def churn() -> None:
        while not stop.wait(0.2):
            with psycopg.connect(platform.dsn(), application_name="per batch") as connection:
                connection.execute("select 1")

    thread = threading.Thread(target=churn)
    thread.start()
    threading.Timer(2.0, stop.set).start()  # the stream is over by then, and the counters can settle
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def a_log_moved_away(platform: PlatformUnderTest, _: Scene) -> Iterator[None]:
    log = platform.run_dir / "logs" / f"{VICTIM}.log"
    elsewhere = platform.run_dir / "elsewhere.log"
    log.rename(elsewhere)
    try:
        yield
    finally:
        elsewhere.rename(log)


@contextmanager
def a_word_of_the_incident(platform: PlatformUnderTest, _: Scene) -> Iterator[None]:
    log = platform.run_dir / "logs" / f"{VICTIM}.crash.log"
    before = log.read_bytes()
    log.write_bytes(before + INCIDENT.encode() + b"\n")
    try:
        yield
    finally:
        log.write_bytes(before)


@contextmanager
def one_lost_one_doubled(platform: PlatformUnderTest, scene: Scene) -> Iterator[None]:
    """A trigger swallowed and another doubled: every count is as it should be."""
    with planted(platform, "case_trigger.triggers", "trigger_id", scene.run):
        yield


@contextmanager
def an_edited_receipt(platform: PlatformUnderTest, scene: Scene) -> Iterator[None]:
    """One letter of one receipt object, written over by the store's owner."""
    keys = json.loads((platform.run_dir / "secrets.json").read_text())["objectstore"]
    port = json.loads((platform.run_dir / "ports.json").read_text())["objectstore_port"]
    client = boto3.client(
        "s3", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1",
        aws_access_key_id=keys["access_key"], aws_secret_access_key=keys["secret_key"],
    )  # fmt: skip
    bucket = scene.profile.get("objectstore.bucket")
    listed = client.list_objects_v2(Bucket=bucket, Prefix=f"{scene.run}/ig/receipts/")["Contents"]
    key = listed[0]["Key"]
    body = client.get_object(Bucket=bucket, Key=key)["Body"].read()
    client.put_object(Bucket=bucket, Key=key, Body=body.replace(b'"admitted_at":"2', b'"admitted_at":"3', 1))
    yield


@contextmanager
def a_dropped_index(platform: PlatformUnderTest, _: Scene) -> Iterator[None]:
    with psycopg.connect(platform.dsn(), autocommit=True) as connection:
        row = connection.execute("select indexdef from pg_indexes where indexname = 'chains_open'").fetchone()
        assert row
        connection.execute("drop index dla.chains_open")
        try:
            yield
        finally:
            connection.execute(row[0])


@contextmanager
def a_stale_schema(platform: PlatformUnderTest, _: Scene) -> Iterator[None]:
    """The server knows nothing of the newest migration of one schema."""
    with psycopg.connect(platform.dsn(), autocommit=True) as connection:
        connection.execute(
            "create temp table forgotten as select * from _yoyo_migration where migration_id like 'reporter_%'"
            " order by migration_id desc limit 1"
        )
        connection.execute("delete from _yoyo_migration where migration_id in (select migration_id from forgotten)")
        try:
            yield
        finally:
            connection.execute("insert into _yoyo_migration select * from forgotten")
