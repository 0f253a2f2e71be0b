"""The action ledger: intents, the calls they took, and how they ended. An intent has one row and one outcome, for ever."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from fraud_daemons.postgres_runtime.connector import Connection
from fraud_daemons.postgres_runtime.statements import load
from fraud_daemons.state.source_record import SourceRecord

_SQL = "fraud_daemons.state.sql"


class IntentKey(NamedTuple):
    """Key of an intent and of its outcome."""

    platform_run_id: str
    intent_id: str


@dataclass(frozen=True, slots=True)
class NewIntent:
    """An intent as it came, and what is to become of it: `PENDING` waits for a call, `DONE` has ended here."""

    intent: Mapping[str, Any]
    record: SourceRecord
    content_hash: str
    executor: str
    state: str

    @property
    def key(self) -> IntentKey:
        return IntentKey(self.intent["platform_run_id"], self.intent["intent_id"])


@dataclass(frozen=True, slots=True)
class NewOutcome:
    """An `action_outcomes` record, the bytes to publish and the key to publish them under."""

    outcome: Mapping[str, Any]
    body: bytes
    record_key: str

    @property
    def key(self) -> IntentKey:
        return IntentKey(self.outcome["platform_run_id"], self.outcome["intent_id"])


@dataclass(frozen=True, slots=True)
class Pending:
    """An intent that waits for a call. `attempts` counts calls begun, `failures` those known to have failed."""

    key: IntentKey
    record_key: str
    body: bytes
    attempts: int
    failures: int


@dataclass(frozen=True, slots=True)
class Retry:
    """A call that failed and is made again, not before a time."""

    key: IntentKey
    reason: str
    not_before: datetime


def live_runs(connection: Connection, runs: Iterable[str]) -> set[str]:
    """Those of `runs` that are marked live: only they may reach anybody outside."""
    rows = connection.execute(
        "select platform_run_id from control.runs where live and platform_run_id = any(%s)", (sorted(set(runs)),)
    )
    return {row[0] for row in rows}


def add_intents(connection: Connection, rows: Sequence[NewIntent], *, at: datetime) -> set[IntentKey]:
    """Store intents; returns the keys that were new."""
    if not rows:
        return set()
    columns: dict[str, Any] = {
        name: [row.intent[name] for row in rows]
        for name in ("platform_run_id", "intent_id", "decision_id", "flow_id", "action", "origin")
    }
    columns |= {
        "record_key": [row.record.key for row in rows],
        "content_hash": [row.content_hash for row in rows],
        "body": [row.record.body for row in rows],
        "executor": [row.executor for row in rows],
        "state": [row.state for row in rows],
        "at": at,
    }
    return {IntentKey(*row) for row in connection.execute(load(_SQL, "actions_add_intents.sql"), columns)}


def add_outcomes(connection: Connection, rows: Sequence[NewOutcome], *, at: datetime) -> set[IntentKey]:
    """Store how intents ended; returns the keys that had no outcome before."""
    if not rows:
        return set()
    columns: dict[str, Any] = {
        name: [row.outcome[name] for row in rows]
        for name in ("platform_run_id", "intent_id", "decision_id", "status", "executor", "attempts", "detail")
    }
    columns |= {"body": [row.body for row in rows], "at": at}
    return {IntentKey(*row) for row in connection.execute(load(_SQL, "actions_add_outcomes.sql"), columns)}


def content_hashes(connection: Connection, keys: Iterable[IntentKey]) -> dict[IntentKey, str]:
    """What the stored intents say, to tell a repeat from an anomaly."""
    wanted = sorted(set(keys))
    rows = connection.execute(
        "select platform_run_id, intent_id, content_hash from al.intents"
        " join unnest(%b::text[], %b::text[]) as w(platform_run_id, intent_id) using (platform_run_id, intent_id)",
        ([key.platform_run_id for key in wanted], [key.intent_id for key in wanted]),
    )
    return {IntentKey(run, intent): content for run, intent, content in rows}


def keep_conflicts(connection: Connection, met: Sequence[NewIntent], *, at: datetime) -> None:
    """Intents under a known id with other content: kept, never executed."""
    with connection.cursor() as cursor:
        cursor.executemany(
            'insert into al.conflicts (platform_run_id, intent_id, content_hash, topic, "partition", "position", body, met_at)'
            " values (%s, %s, %s, %s, %s, %s, %s, %s) on conflict do nothing",
            [
                (
                    *row.key,
                    row.content_hash,
                    row.record.topic,
                    row.record.partition,
                    row.record.position,
                    row.record.body,
                    at,
                )
                for row in met
            ],
        )


def count_repeats(connection: Connection, met: Sequence[NewIntent]) -> None:
    """Intents that came again as they were."""
    counts = Counter((row.key.platform_run_id, row.record.topic) for row in met)
    where = sorted(counts)
    connection.execute(
        "insert into al.repeats as r (platform_run_id, topic, repeats) select * from unnest(%b::text[], %b::text[], %b::bigint[])"
        " on conflict (platform_run_id, topic) do update set repeats = r.repeats + excluded.repeats",
        ([run for run, _ in where], [topic for _, topic in where], [counts[w] for w in where]),
    )


def due(connection: Connection, *, at: datetime, besides: Iterable[IntentKey], limit: int) -> list[Pending]:
    """The oldest intents that wait for a call and may have it now, apart from those being called."""
    rows = connection.execute(
        "select platform_run_id, intent_id, record_key, body, attempts, failures from al.intents"
        " where state = 'PENDING' and not_before <= %s and intent_id <> all(%s) order by arrival limit %s",
        (at, [key.intent_id for key in besides], limit),
    )
    return [Pending(IntentKey(row[0], row[1]), *row[2:]) for row in rows]


def begin_calls(connection: Connection, pending: Sequence[Pending]) -> None:
    """Count a call as begun. Committed before the call, so that the ledger never knows of fewer than were made."""
    connection.execute(
        "update al.intents i set attempts = i.attempts + 1"
        " from unnest(%b::text[], %b::text[]) as p(platform_run_id, intent_id)"
        " where i.platform_run_id = p.platform_run_id and i.intent_id = p.intent_id",
        ([row.key.platform_run_id for row in pending], [row.key.intent_id for row in pending]),
    )


def call_again(connection: Connection, retries: Sequence[Retry]) -> None:
    """Count failed calls and say when the next may be made."""
    if not retries:
        return
    connection.execute(
        "update al.intents i set failures = i.failures + 1, last_failure = r.reason, not_before = r.not_before"
        " from unnest(%b::text[], %b::text[], %b::text[], %b::timestamptz[])"
        " as r(platform_run_id, intent_id, reason, not_before)"
        " where i.platform_run_id = r.platform_run_id and i.intent_id = r.intent_id and i.state = 'PENDING'",
        (
            [retry.key.platform_run_id for retry in retries],
            [retry.key.intent_id for retry in retries],
            [retry.reason for retry in retries],
            [retry.not_before for retry in retries],
        ),
    )
