"""Decisions: written once per run and flow, read by the gate and the commands. What meets an earlier decision - a repeat,
a late vector, an anomaly - is kept beside it and never changes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from fraud_daemons.domain.policy import Policy
from fraud_daemons.domain.posture import Posture
from fraud_daemons.postgres_runtime.connector import Connection, ConnectionOf
from fraud_daemons.postgres_runtime.statements import load
from fraud_daemons.state.source_record import SourceRecord

_SQL = "fraud_daemons.state.sql"


class FlowKey(NamedTuple):
    """Key of a decision."""

    platform_run_id: str
    flow_id: str


@dataclass(frozen=True, slots=True)
class NewDecision:
    """A decision to be stored: its record, the bytes to publish and the record it was made from."""

    decision: Mapping[str, Any]
    body: bytes
    made_from: SourceRecord
    snapshot_hash: str | None = None
    """Of the vector that came with the record, used or not."""

    @property
    def key(self) -> FlowKey:
        return FlowKey(self.decision["platform_run_id"], self.decision["flow_id"])


class Earlier(NamedTuple):
    """What a later record of the same flow is compared with."""

    core_digest: str
    feature_status: str
    policy_digest: str
    posture_mode: str
    decided_from: tuple[str, int, int]


@dataclass(frozen=True)
class Listed:
    """One line of a listing."""

    decision_id: str
    flow_id: str
    platform_run_id: str
    outcome: str
    score: int
    feature_status: str
    context_status: str
    posture_mode: str
    occurred_at: datetime
    decided_at: datetime


def insert(
    connection: Connection, rows: Sequence[NewDecision], *, policy: Policy, posture: Posture, at: datetime
) -> set[FlowKey]:
    """Store decisions made under one policy and posture; returns the keys that were new."""
    if not rows:
        return set()
    decisions = [row.decision for row in rows]
    columns: dict[str, Any] = {
        name: [decision[name] for decision in decisions]
        for name in (
            "platform_run_id", "flow_id", "decision_id", "outcome", "score", "feature_status", "context_status",
            "core_digest", "snapshot_hash", "occurred_at", "source_seq", "card_token",
        )
    }  # fmt: skip
    columns |= {
        "decided_topic": [row.made_from.topic for row in rows],
        "decided_partition": [row.made_from.partition for row in rows],
        "decided_position": [row.made_from.position for row in rows],
        "body": [row.body for row in rows],
        "policy_id": policy.policy_id,
        "policy_revision": policy.revision,
        "policy_digest": policy.digest,
        "posture_mode": str(posture.mode),
        "posture_sequence": posture.sequence,
        "decided_at": at,
    }
    return {FlowKey(*row) for row in connection.execute(load(_SQL, "decisions_insert.sql"), columns)}


def first_decided_by(connection: Connection, runs: Sequence[str], *, digest: str, at: datetime) -> list[str]:
    """Note that these runs have decisions made by the policy; those of them that had none before."""
    if not runs:
        return []
    rows = connection.execute(
        "insert into df.policies (platform_run_id, digest, first_at) select run, %s, %s from unnest(%b::text[]) as r(run)"
        " order by run on conflict do nothing returning platform_run_id",
        (digest, at, list(runs)),
    )
    return sorted(row[0] for row in rows)


def earlier(connection: Connection, keys: Iterable[FlowKey]) -> dict[FlowKey, Earlier]:
    """The stored decisions of these flows, as far as there are any."""
    wanted = sorted(set(keys))
    rows = connection.execute(
        "select platform_run_id, flow_id, core_digest, feature_status, policy_digest, posture_mode, decided_topic,"
        " decided_partition, decided_position from df.decisions"
        " join unnest(%b::text[], %b::text[]) as w(platform_run_id, flow_id) using (platform_run_id, flow_id)",
        ([key.platform_run_id for key in wanted], [key.flow_id for key in wanted]),
    )
    return {FlowKey(row[0], row[1]): Earlier(row[2], row[3], row[4], row[5], (row[6], row[7], row[8])) for row in rows}


def set_aside(at: ConnectionOf, *, limit: int) -> list[tuple[Any, ...]]:
    """Fields of the bound records in the feature plane's dead letters that are still undecided, wherever that plane's letters are."""
    plane, ours = at("OFP_PROJECTION_DSN"), at("DF_REPLAY_DSN")
    if plane is ours:
        return list(ours.execute(load(_SQL, "decisions_set_aside.sql"), {"limit": limit}))
    found: list[tuple[Any, ...]] = []
    behind = (-1, -1)
    while len(found) < limit:  # ends with the letters: pages of them, and there are few
        page = plane.execute(
            load(_SQL, "decisions_letters_of_plane.sql"),
            {"partition": behind[0], "position": behind[1], "limit": limit},
        ).fetchall()
        if not page:
            break
        behind = (page[-1][1], page[-1][2])
        done = {
            (row[0], row[1])
            for row in ours.execute(
                load(_SQL, "decisions_passed.sql"),
                {"partitions": [row[1] for row in page], "positions": [row[2] for row in page],
                 "runs": [row[5] for row in page], "flows": [row[4] for row in page]},
            )
        }  # fmt: skip
        found += [row for row in page if (row[1], row[2]) not in done]
    return found[:limit]


def keep_late_features(connection: Connection, met: Sequence[NewDecision], *, at: datetime) -> None:
    """Vectors that came after their flow had been decided without them."""
    connection.execute(
        'insert into df.late_features (platform_run_id, flow_id, decision_id, snapshot_hash, "partition", "position", met_at)'
        " select r, f, d, s, p, n, %s from unnest(%b::text[], %b::text[], %b::text[], %b::text[], %b::integer[], %b::bigint[])"
        " as l(r, f, d, s, p, n) on conflict do nothing",
        (
            at,
            [row.key.platform_run_id for row in met],
            [row.key.flow_id for row in met],
            [row.decision["decision_id"] for row in met],
            [row.snapshot_hash for row in met],
            [row.made_from.partition for row in met],
            [row.made_from.position for row in met],
        ),
    )


def keep_conflicts(connection: Connection, met: Sequence[NewDecision], *, at: datetime) -> None:
    """Records of a decided flow with other content than the one it was decided from."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into df.conflicts (platform_run_id, flow_id, core_digest, decision_id, topic,"
            ' "partition", "position", body, met_at) values (%s, %s, %s, %s, %s, %s, %s, %s, %s) on conflict do nothing',
            [
                (
                    *row.key,
                    row.decision["core_digest"],
                    row.decision["decision_id"],
                    row.made_from.topic,
                    row.made_from.partition,
                    row.made_from.position,
                    row.made_from.body,
                    at,
                )
                for row in met
            ],
        )


def count_repeats(connection: Connection, met: Sequence[NewDecision]) -> None:
    """Records that changed nothing because their flow had been decided from them or from their equal."""
    counts = Counter((row.key.platform_run_id, row.made_from.topic) for row in met)
    where = sorted(counts)
    connection.execute(
        "insert into df.repeats as r (platform_run_id, topic, repeats) select * from unnest(%b::text[], %b::text[], %b::bigint[])"
        " on conflict (platform_run_id, topic) do update set repeats = r.repeats + excluded.repeats",
        ([run for run, _ in where], [topic for _, topic in where], [counts[w] for w in where]),
    )


def body_of(connection: Connection, decision_id: str) -> bytes | None:
    """The published bytes of a decision; None when there is none."""
    row = connection.execute("select body from df.decisions where decision_id = %s", (decision_id,)).fetchone()
    return None if row is None else bytes(row[0])


def made_from(bus: Connection, topic: str, partition: int, position: int) -> bytes | None:
    """The bytes of the record a decision was made from; None when the bus was trimmed. `bus` = to EVENT_BUS_DSN."""
    row = bus.execute(
        'select body from bus.log where topic = %s and "partition" = %s and "position" = %s',
        (topic, partition, position),
    ).fetchone()
    return None if row is None else bytes(row[0])


def listing(
    connection: Connection,
    *,
    run: str | None = None,
    outcome: str | None = None,
    since: datetime | None = None,
    after: str | None = None,
    limit: int = 50,
    only: Mapping[str, str | None] | None = None,
) -> list[Listed]:
    """Decisions, newest first; `after` = the decision_id that ended the page before. `only` = posture, features, card, flow."""
    chosen = {**dict.fromkeys(("posture", "features", "card", "flow")), **(only or {})}
    rows = connection.execute(
        load(_SQL, "decisions_list.sql"),
        {"run": run, "outcome": outcome, "since": since, "after": after, "limit": limit, **chosen},
    )
    return [Listed(*row) for row in rows]
