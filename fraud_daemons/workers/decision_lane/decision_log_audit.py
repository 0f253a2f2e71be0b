"""Keeps one lineage chain per decision, decision -> intents -> outcomes, and seals the closed ones into audit objects.

Decisions and outcomes come on two topics without an order between them, so each side is kept when it comes and a chain
closes with whichever is last. A closed chain is published once to `audit_chains`; from there the sealer writes it into
immutable, hash-linked objects. Chains never change after they have closed: a decision or an outcome that comes again
with other content is kept as an anomaly beside them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import orjson

from fraud_daemons.bus.port import Record
from fraud_daemons.domain.audit import close_chain
from fraud_daemons.errors import PoisonFault
from fraud_daemons.postgres_runtime.connector import Connection
from fraud_daemons.runtime.activity import Activity
from fraud_daemons.runtime.consumer import StatelessHandler
from fraud_daemons.runtime.sealing import rendered
from fraud_daemons.runtime.unit_of_work import UnitOfWork
from fraud_daemons.runtime.worker import Worker, WorkerContext
from fraud_daemons.state import audit_chains
from fraud_daemons.state.audit_chains import DecisionKey, Met, OutcomeKey, Progress

DECISIONS, OUTCOMES = "decisions", "action_outcomes"
FAMILY: Final = "dla/audit"

_DECISION_TEXTS = ("decision_id", "flow_id", "platform_run_id", "core_digest", "outcome")
_OUTCOME_TEXTS = ("intent_id", "decision_id", "platform_run_id", "status")
_BROKEN = (KeyError, TypeError, ValueError, AttributeError)

Parsed = tuple[Record, dict[str, Any]]


class DecisionLogAudit(StatelessHandler):
    """The handler: index what came, close what is complete."""

    def handle(self, records: Sequence[Record], unit: UnitOfWork) -> None:
        decisions: dict[DecisionKey, Parsed] = {}
        outcomes: dict[OutcomeKey, Parsed] = {}
        met: list[Met] = []
        for record in records:
            if record.topic == DECISIONS:
                decision = _parsed(record, _DECISION_TEXTS)
                if decisions.setdefault(_decision_key(decision), (record, decision))[1] is not decision:
                    met.append(_met_decision(record, decision))
            else:
                outcome = _parsed(record, _OUTCOME_TEXTS)
                if outcomes.setdefault(_outcome_key(outcome), (record, outcome))[1] is not outcome:
                    met.append(_met_outcome(record, outcome))
        new_outcomes = audit_chains.add_outcomes(
            unit.connection, [outcome for _, outcome in outcomes.values()], at=unit.now
        )
        new_decisions = audit_chains.add_chains(
            unit.connection, [(decision, record.key) for record, decision in decisions.values()], at=unit.now
        )
        met += [_met_decision(*parsed) for key, parsed in decisions.items() if key not in new_decisions]
        met += [_met_outcome(*parsed) for key, parsed in outcomes.items() if key not in new_outcomes]
        if met:
            _keep(met, unit)
        _close_empty((decisions[key] for key in decisions if key in new_decisions), unit)
        touched = {key for key in new_decisions if decisions[key][1]["intents"]}
        touched |= {_decision_key(outcomes[key][1]) for key in new_outcomes}
        _close_answered(touched, unit)


def _close_empty(decisions: Iterable[Parsed], unit: UnitOfWork) -> None:
    """Decisions without intents: most of them. Their chains are stored closed; here they are published."""
    closed_at = unit.now_text
    for record, decision in decisions:
        if not decision["intents"]:
            chain = close_chain(decision, (), closed_at=closed_at)
            if chain is not None:
                _publish(chain, record.key, unit)


def _close_answered(touched: Iterable[DecisionKey], unit: UnitOfWork) -> None:
    """Chains that got a decision or an outcome just now: closed when nothing is missing any more."""
    closed_at = unit.now_text
    moves: list[Progress] = []
    for found in audit_chains.open_chains(unit.connection, touched):
        decision = found.decision
        answers = [{"intent_id": intent, "status": status} for intent, status in found.outcomes]
        chain = close_chain(decision, answers, closed_at=closed_at)
        seen = len({intent for intent, _ in found.outcomes} & set(decision["intents"]))
        statuses = None if chain is None else tuple(outcome["status"] for outcome in chain["outcomes"])
        moves.append(Progress(decision["platform_run_id"], decision["chain_id"], seen, statuses))
        if chain is not None:
            _publish(chain, found.record_key, unit)
    audit_chains.progress(unit.connection, moves, at=unit.now)


def _publish(chain: Mapping[str, Any], record_key: str, unit: UnitOfWork) -> None:
    unit.publish(
        "audit_chains",
        key=record_key,
        event_id=chain["chain_id"],
        platform_run_id=chain["platform_run_id"],
        body=chain,
    )


def _keep(met: Sequence[Met], unit: UnitOfWork) -> None:
    """Records whose id is known: repeats are counted, other content is kept as an anomaly."""
    held = audit_chains.contents(unit.connection, met)
    repeats = [row for row in met if held[row.record.platform_run_id, row.record_id] == row.content]
    conflicts = [row for row in met if held[row.record.platform_run_id, row.record_id] != row.content]
    if repeats:
        audit_chains.count_repeats(unit.connection, repeats)
    if conflicts:
        audit_chains.keep_conflicts(unit.connection, conflicts, at=unit.now)


def _met_decision(record: Record, decision: Mapping[str, Any]) -> Met:
    return Met(record, decision["decision_id"], f"{decision['core_digest']}|{','.join(decision['intents'])}")


def _met_outcome(record: Record, outcome: Mapping[str, Any]) -> Met:
    return Met(record, outcome["intent_id"], f"{outcome['decision_id']}|{outcome['status']}")


def _decision_key(body: Mapping[str, Any]) -> DecisionKey:
    return DecisionKey(body["platform_run_id"], body["decision_id"])


def _outcome_key(body: Mapping[str, Any]) -> OutcomeKey:
    return OutcomeKey(body["platform_run_id"], body["intent_id"])


def _parsed(record: Record, texts: Sequence[str]) -> dict[str, Any]:
    try:
        if b"\\u0000" in record.body:
            raise ValueError("holds a NUL character")
        body: dict[str, Any] = orjson.loads(record.body)
        for name in texts:
            if not (isinstance(body[name], str) and body[name]):
                raise ValueError(f"{name} must be a text")
        if body["platform_run_id"] != record.platform_run_id:
            raise ValueError("platform_run_id is not the record's")
        if record.topic == DECISIONS and not _are_ids(body["intents"]):
            raise ValueError("intents must be a list of ids")
    except _BROKEN as error:
        what = f"{type(error).__name__}: {str(error)[:200]}"
        raise PoisonFault(
            f"{record.topic} {record.partition}/{record.position}: {what}", reason=f"{record.topic}: {what}"
        ) from error
    return body


def _are_ids(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(i, str) and i and "," not in i for i in value)


def _chains(_connection: Connection, records: Sequence[Record]) -> list[Any]:
    """What an audit object holds: the chains as published."""
    return [orjson.loads(record.body) for record in records]


def build(context: WorkerContext) -> list[Activity]:
    """The consumer and the sealer of what it closes."""
    return [
        context.consumer(DecisionLogAudit(), topics=WORKER.consumes),
        context.sealer(
            rendered(context.bus, _chains, same_server=context.same_server),
            family=FAMILY,
            topics=("audit_chains",),
            name="sealer",
        ),
    ]


WORKER = Worker(
    name="decision_log_audit",
    schema="dla",
    dsn="DLA_INDEX_DSN",
    build=build,
    keeps_plans=True,
    gathers=True,
    consumes=(DECISIONS, OUTCOMES),
    publishes=("audit_chains",),
    equations=("decided_equals_audit_chains", "audit_chains_equal_audit_objects"),
)
