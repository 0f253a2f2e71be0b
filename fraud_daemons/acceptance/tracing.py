"""One event's whole way through the platform, stage by stage, out of the tables of every component.

    admitted -> bound -> featured -> decided -> acted -> audited -> case -> labelled

A stage not reached is said so, with what is known of the reason. It recomputes nothing and waits for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from fraud_daemons.acceptance.archive import Archived
from fraud_daemons.bus.port import partition_of
from fraud_daemons.domain.audit import chain_id
from fraud_daemons.domain.cases import TRIGGERING_OUTCOMES, TriggerKind, trigger_id
from fraud_daemons.domain.envelope import TRUTH
from fraud_daemons.domain.identity import derived_id, frame_key
from fraud_daemons.postgres_runtime.connector import ConnectionOf
from fraud_daemons.state import labels, traces

CORRECTIONS_MAX = 10  # truth events looked for per flow
Stage = dict[str, Any]


@dataclass(frozen=True)
class _Subject:
    """What is traced: the flow, and the event ids that belong to it."""

    run: str
    asked: str
    flow_id: str | None
    event_ids: tuple[str, ...]


def trace(at: ConnectionOf, run: str, identity: str, *, archived: Archived | None = None) -> dict[str, Any] | None:
    """The way of the flow behind an event, flow, decision, intent or trigger id; None when nobody has met it. `archived`
    gives the bodies of records that were trimmed from the bus.

    Answers {"platform_run_id", "id", "flow_id", "decision_id", "stages": [{"stage", "reached", "at", "note", …}],
    "dead_letters": […], "quarantined": […]}.
    """
    subject = _subject(at, run, identity, archived)
    quarantined = traces.quarantined(at("IG_ADMISSION_DSN"), run, identity)
    if subject is None:
        return _refused_only(run, identity, quarantined) if quarantined else None
    decision = traces.decision(at("DF_REPLAY_DSN"), run, subject.flow_id) if subject.flow_id else None
    stages = [_admitted(at, subject)]
    if subject.flow_id:
        stages += [
            _bound(at, subject.flow_id, run),
            _featured(at, subject.flow_id, run, decision),
            _decided(decision),
            _acted(at, run, decision),
            _audited(at, run, decision),
            _case(at, run, decision),
            _labelled(at, run, subject.flow_id),
        ]
    return {
        "platform_run_id": run,
        "id": identity,
        "flow_id": subject.flow_id,
        "decision_id": decision and decision["decision_id"],
        "stages": stages,
        "dead_letters": traces.letters(at, run, _record_ids(subject, decision)),
        "quarantined": quarantined,
    }


def _refused_only(run: str, identity: str, quarantined: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    stage = _stage("admitted", note=f"refused: {quarantined[0]['reason']}", events=[])
    none: dict[str, Any] = {"flow_id": None, "decision_id": None, "dead_letters": []}
    return {"platform_run_id": run, "id": identity, "stages": [stage], "quarantined": quarantined, **none}


def _subject(at: ConnectionOf, run: str, identity: str, archived: Archived | None) -> _Subject | None:
    flow_id = traces.flow_of(at, run, identity)
    if flow_id is not None:
        return _Subject(run, identity, flow_id, _event_ids(at, run, flow_id))
    admitted = traces.admissions_of(at("IG_ADMISSION_DSN"), run, [identity])
    if admitted:
        flow_id = _flow_of_event(at, run, admitted[0], archived)
    else:  # perhaps a flow that the gate admitted and nobody has read yet
        place = _place(at, run, "traffic", key=identity)
        if place is None:
            return None
        flow_id = identity
    event_ids = _event_ids(at, run, flow_id) if flow_id else ()
    return _Subject(run, identity, flow_id, tuple(dict.fromkeys((identity, *event_ids))))


def _flow_of_event(at: ConnectionOf, run: str, admission: Mapping[str, Any], archived: Archived | None) -> str | None:
    """The flow an admitted event speaks of; an arrival speaks of the flow that is anchored to its frame, if any yet."""
    place = (admission["topic"], admission["partition"], admission["position"])
    record = traces.record_at(at("EVENT_BUS_DSN"), *place)
    body = archived(run, place) if record is None and archived else None
    if record is None and body is None:
        return None
    event = record["body"] if record else orjson.loads(body or b"")
    payload = event["payload"]
    if "flow_id" in payload:
        return str(payload["flow_id"])
    if "arrival_seq" not in payload:
        return None  # a progress mark speaks of no flow
    frame = frame_key(payload["merchant_id"], payload["terminal_id"], payload["arrival_seq"])
    return traces.flow_of_frame(at("CSFB_PROJECTION_DSN"), run, event["pins"]["scenario_run_id"], frame)


def _event_ids(at: ConnectionOf, run: str, flow_id: str) -> tuple[str, ...]:
    """The derived ids of every event that can belong to the flow."""
    bound = traces.binding(at("CSFB_PROJECTION_DSN"), run, flow_id)
    anchor = traces.anchor(at("CSFB_PROJECTION_DSN"), run, flow_id)
    known = bound or traces.pending(at("CSFB_PROJECTION_DSN"), run, flow_id) or anchor or _on_bus(at, run, flow_id)
    if known is None:
        return ()
    scenario = known["scenario_run_id"]
    frame = (bound or {}).get("frame_key") or (anchor or {}).get("frame_key")
    keys = [("traffic", flow_id), ("flow_anchors", flow_id)]
    keys += [(TRUTH, f"{flow_id}|{number}") for number in range(CORRECTIONS_MAX)]
    keys += [("arrival_events", frame), ("arrival_entities", frame)] if frame else []
    return tuple(derived_id("event", scenario, kind, key) for kind, key in keys)


def _on_bus(at: ConnectionOf, run: str, flow_id: str) -> dict[str, Any] | None:
    place = _place(at, run, "traffic", key=flow_id)
    record = place and traces.record_at(at("EVENT_BUS_DSN"), place["topic"], place["partition"], place["position"])
    return {"scenario_run_id": record["body"]["pins"]["scenario_run_id"]} if record else None


def _admitted(at: ConnectionOf, subject: _Subject) -> Stage:
    events = traces.admissions_of(at("IG_ADMISSION_DSN"), subject.run, subject.event_ids) if subject.event_ids else []
    unsealed = sum(event["receipt_object"] is None for event in events)
    note = f"{len(events)} events" + (f", {unsealed} receipts not sealed yet" if unsealed else "")
    return _stage("admitted", at=events[0]["admitted_at"] if events else None, note=note, events=events)


def _bound(at: ConnectionOf, flow_id: str, run: str) -> Stage:
    row = traces.binding(at("CSFB_PROJECTION_DSN"), run, flow_id)
    if row is None:
        waiting = traces.pending(at("CSFB_PROJECTION_DSN"), run, flow_id)
        return _stage("bound", note="waits for its context" if waiting else "not read yet")
    note = f"{row['context_status']}, released by {row['release_rule']}"
    return _stage("bound", at=row["bound_at"], note=note, **_without(row, "bound_at"))


def _featured(at: ConnectionOf, flow_id: str, run: str, decision: Mapping[str, Any] | None) -> Stage:
    row = traces.snapshot(at, run, flow_id)
    if row is None:
        absent = decision is not None and decision["body"]["feature_status"] == "ABSENT"
        return _stage("featured", note="decided without features" if absent else "no snapshot yet")
    key = row.pop("record_key")  # None where the bus has trimmed the bound record
    place = _place(at, run, "flows.featured", key=key, event_id=flow_id) if key else None
    row["bound_position"] = ["flows.bound", row.pop("bound_partition"), row["bound_position"]]
    note = f"snapshot {row['snapshot_hash'][:16]}, definitions {row['feature_revision']}"
    appended_at = place["appended_at"] if place else None
    return _stage("featured", reached=True, at=appended_at, note=note, position=_position(place), **row)


def _decided(decision: Mapping[str, Any] | None) -> Stage:
    if decision is None:
        return _stage("decided", note="no decision yet")
    body = decision["body"]
    reasons = "; ".join(reason["reason"] for reason in body["reasons"])
    names = (
        "outcome",
        "score",
        "reasons",
        "policy",
        "posture",
        "feature_status",
        "context_status",
        "core_digest",
        "sources",
    )
    return _stage(
        "decided",
        at=decision["decided_at"],
        note=f"{body['outcome']}{': ' + reasons if reasons else ''}",
        decision_id=decision["decision_id"],
        decided_from=[decision[f"decided_{part}"] for part in ("topic", "partition", "position")],
        **{name: body[name] for name in names if name in body},
    )


def _acted(at: ConnectionOf, run: str, decision: Mapping[str, Any] | None) -> Stage:
    if decision is None:
        return _stage("acted", note="no decision yet")
    asked = decision["body"]["intents"]
    if not asked:
        return _stage("acted", note="no action was asked for", intents=[])
    rows = traces.intents(at("AL_LEDGER_DSN"), run, asked)
    ended = [row for row in rows if row["status"]]
    completed_at = max((row["completed_at"] for row in ended), default=None) if len(ended) == len(asked) else None
    note = ", ".join(f"{row['action']} {row['status'] or row['state']}" for row in rows)
    missing = len(asked) - len(rows)
    return _stage(
        "acted", at=completed_at, note=note + (f"; {missing} intents not read yet" if missing else ""), intents=rows
    )


def _audited(at: ConnectionOf, run: str, decision: Mapping[str, Any] | None) -> Stage:
    if decision is None:
        return _stage("audited", note="no decision yet")
    chain = traces.chain(at("DLA_INDEX_DSN"), run, chain_id(decision["decision_id"]))
    if chain is None:
        return _stage("audited", note="no chain yet")
    if chain["state"] != "CLOSED":
        note = f"chain open: {chain['outcomes_seen']} of {chain['intents_expected']} outcomes"
        return _stage("audited", note=note, **chain)
    place = _place(at, run, "audit_chains", key=chain["record_key"], event_id=chain["chain_id"])
    held = traces.audit_object(at("DLA_INDEX_DSN"), run, place) if place else None
    unknown = "its object is not sealed yet" if place else "the bus is trimmed past it"
    note = f"chain closed, {held['object_key'] if held else unknown}"
    return _stage(
        "audited",
        at=chain["closed_at"],
        note=note,
        position=_position(place),
        object=held and held["object_key"],
        **chain,
    )


def _case(at: ConnectionOf, run: str, decision: Mapping[str, Any] | None) -> Stage:
    if decision is None:
        return _stage("case", note="no decision yet", triggers=[])
    ids = [trigger_id(run, TriggerKind.DECISION, decision["decision_id"])]
    ids += [trigger_id(run, TriggerKind.ACTION_FAILED, intent) for intent in decision["body"]["intents"]]
    rows = traces.triggers(at, run, ids)
    if not rows:
        called = decision["body"]["outcome"] in TRIGGERING_OUTCOMES
        return _stage("case", note="no trigger yet" if called else "no case was called for", triggers=[])
    placed = [row for row in rows if row["case_id"]]
    note = ", ".join(f"{row['kind']} in case {row['case_id']} ({row['case_status']})" for row in placed)
    placed_at = placed[0]["recorded_at"] if placed else None
    return _stage("case", at=placed_at, note=note or "triggered, not placed yet", triggers=rows)


def _labelled(at: ConnectionOf, run: str, flow_id: str) -> Stage:
    rows = labels.assertions_of(at("LABEL_STORE_LOCATOR"), run, flow_id)
    note = ", ".join(f"{row['value']} ({row['source']}) known from {row['observed_time']}" for row in rows)
    return _stage("labelled", at=rows[0]["recorded_at"] if rows else None, note=note or "no label", labels=rows)


def _record_ids(subject: _Subject, decision: Mapping[str, Any] | None) -> list[str]:
    """Event ids under which any record of the flow's way may lie in the dead letters."""
    ids = [subject.asked, *subject.event_ids, *([subject.flow_id] if subject.flow_id else [])]
    if decision is not None:
        identity = decision["decision_id"]
        ids += [identity, chain_id(identity), *decision["body"]["intents"]]
    return list(dict.fromkeys(ids))


def _place(at: ConnectionOf, run: str, topic: str, *, key: str, event_id: str | None = None) -> dict[str, Any] | None:
    """Where the record of this key and id stands: its key tells the partition."""
    partitions = traces.partitions_of(at("EVENT_BUS_DSN"), topic)
    if not partitions:
        return None
    partition = partition_of(key, partitions)
    return traces.place_on_bus(at("EVENT_BUS_DSN"), run, topic, partition, key=key, event_id=event_id)


def _position(place: Mapping[str, Any] | None) -> list[Any] | None:
    return None if place is None else [place["topic"], place["partition"], place["position"]]


def _stage(name: str, *, at: str | None = None, reached: bool = False, note: str = "", **more: Any) -> Stage:
    """One stage; reached when it has a time, or when it is known to be without one."""
    return {"stage": name, "reached": reached or at is not None, "at": at, "note": note, **more}


def _without(row: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in names}
