"""The index of audit chains: which decision waits for which outcomes, and which chains are closed.

Outcomes are kept whether or not their decision is known: two topics have no order between them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from fraud_daemons.domain.audit import chain_id
from fraud_daemons.postgres_runtime.connector import Connection
from fraud_daemons.postgres_runtime.statements import load
from fraud_daemons.state.source_record import SourceRecord

_SQL = "fraud_daemons.state.sql"


class DecisionKey(NamedTuple):
    """A decision within its run."""

    platform_run_id: str
    decision_id: str


class OutcomeKey(NamedTuple):
    """An intent's outcome within its run."""

    platform_run_id: str
    intent_id: str


@dataclass(frozen=True, slots=True)
class OpenChain:
    """An open chain and the outcomes (intent_id, status) that have come for its decision."""

    decision: Mapping[str, Any]
    record_key: str
    outcomes: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a chain is now. `statuses` in the order of its intents when it closes, None while it stays open."""

    platform_run_id: str
    chain_id: str
    outcomes_seen: int
    statuses: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Met:
    """A record whose id is known already, and in short what it says, to tell a repeat from an anomaly."""

    record: SourceRecord
    record_id: str
    content: str


def add_outcomes(connection: Connection, outcomes: Sequence[Mapping[str, Any]], *, at: datetime) -> set[OutcomeKey]:
    """Keep outcomes; returns the keys that were new."""
    if not outcomes:
        return set()
    names = ("platform_run_id", "intent_id", "decision_id", "status")
    rows = connection.execute(
        "insert into dla.outcomes (platform_run_id, intent_id, decision_id, status, seen_at)"
        " select r, i, d, s, %s from unnest(%b::text[], %b::text[], %b::text[], %b::text[]) as o(r, i, d, s)"
        " on conflict do nothing returning platform_run_id, intent_id",
        (at, *([outcome[name] for outcome in outcomes] for name in names)),
    )
    return {OutcomeKey(*row) for row in rows}


def add_chains(
    connection: Connection, decisions: Sequence[tuple[Mapping[str, Any], str]], *, at: datetime
) -> set[DecisionKey]:
    """Open a chain per (decision, record key), closed at once where nothing was intended; returns what was new."""
    if not decisions:
        return set()
    chains = [chain_id(decision["decision_id"]) for decision, _ in decisions]
    decision_of = {chain: decision["decision_id"] for chain, (decision, _) in zip(chains, decisions, strict=True)}
    columns: dict[str, Any] = {
        name: [decision[name] for decision, _ in decisions]
        for name in ("platform_run_id", "decision_id", "flow_id", "core_digest", "outcome")
    }
    columns |= {
        "chain_id": chains,
        "record_key": [key for _, key in decisions],
        "intents": [",".join(decision["intents"]) for decision, _ in decisions],
        "at": at,
    }
    rows = connection.execute(load(_SQL, "audit_chains_add.sql"), columns)
    return {DecisionKey(run, decision_of[chain]) for run, chain in rows}


def open_chains(connection: Connection, decisions: Iterable[DecisionKey]) -> list[OpenChain]:
    """Those of the decisions whose chain is open, with what has come for them."""
    wanted = sorted(set(decisions))
    if not wanted:
        return []
    rows = connection.execute(
        load(_SQL, "audit_chains_open.sql"),
        {
            "runs": [key.platform_run_id for key in wanted],
            "decisions": [key.decision_id for key in wanted],
            "chains": [chain_id(key.decision_id) for key in wanted],
        },
    )
    names = ("platform_run_id", "chain_id", "decision_id", "flow_id", "record_key", "core_digest", "outcome", "intents")
    return [
        OpenChain(dict(zip(names, row, strict=False)), row[4], tuple(zip(row[8], row[9], strict=True))) for row in rows
    ]


def progress(connection: Connection, chains: Sequence[Progress], *, at: datetime) -> None:
    """Move chains on; what is closed stays closed."""
    if not chains:
        return
    connection.execute(
        load(_SQL, "audit_chains_progress.sql"),
        {
            "runs": [chain.platform_run_id for chain in chains],
            "chains": [chain.chain_id for chain in chains],
            "seen": [chain.outcomes_seen for chain in chains],
            "closes": [chain.statuses is not None for chain in chains],
            "statuses": [",".join(chain.statuses or ()) for chain in chains],
            "at": at,
        },
    )


def contents(connection: Connection, met: Sequence[Met]) -> dict[tuple[str, str], str]:
    """(run, id) -> what the index holds for decisions and outcomes that have been met again, as `Met.content`."""
    runs = [row.record.platform_run_id for row in met]
    ids = [row.record_id for row in met]
    rows = connection.execute(
        "select c.platform_run_id, c.decision_id, c.core_digest || '|' || array_to_string(c.intents, ',')"
        " from dla.chains c join unnest(%b::text[], %b::text[]) as w(r, i)"
        " on c.platform_run_id = w.r and c.chain_id = w.i"
        " union all select o.platform_run_id, o.intent_id, o.decision_id || '|' || o.status"
        " from dla.outcomes o join unnest(%b::text[], %b::text[]) as w(r, i) on o.platform_run_id = w.r and o.intent_id = w.i",
        (runs, [chain_id(i) for i in ids], runs, ids),
    )
    return {(run, identity): content for run, identity, content in rows}


def keep_conflicts(connection: Connection, met: Sequence[Met], *, at: datetime) -> None:
    """Records under a known id with other content; the chain stays as it was."""
    with connection.cursor() as cursor:
        cursor.executemany(
            'insert into dla.conflicts (platform_run_id, topic, record_id, content, "partition", "position", met_at)'
            " values (%s, %s, %s, %s, %s, %s, %s) on conflict do nothing",
            [
                (
                    row.record.platform_run_id,
                    row.record.topic,
                    row.record_id,
                    row.content,
                    row.record.partition,
                    row.record.position,
                    at,
                )
                for row in met
            ],
        )


def count_repeats(connection: Connection, met: Sequence[Met]) -> None:
    """Records that came again as they were."""
    counts = Counter((row.record.platform_run_id, row.record.topic) for row in met)
    where = sorted(counts)
    connection.execute(
        "insert into dla.repeats as r (platform_run_id, topic, repeats) select * from unnest(%b::text[], %b::text[], %b::bigint[])"
        " on conflict (platform_run_id, topic) do update set repeats = r.repeats + excluded.repeats",
        ([run for run, _ in where], [topic for _, topic in where], [counts[w] for w in where]),
    )
