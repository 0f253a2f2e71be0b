"""The lines of the run report: conservation equations over sets of ids, each side from another store.

A line compares two multisets of ids both ways: `missing` is on the left and not on the right, `surplus` the other way
round; one lost and one doubled never cancel. Each side is something a stranger can ask without our code: the SQL, or
the listing, stands here and is printed into docs/EQUATIONS.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Query:
    """A side read from tables: `dsn` names the server, `sql` gives one id per row for %(run)s."""

    what: str
    dsn: str
    sql: str


@dataclass(frozen=True)
class Objects:
    """A side read from evidence objects below `<run>/<family>/`: field `field` of each of their records.

    Progress marks are left out: they are admitted once and appended to every partition.
    """

    what: str
    family: str
    field: str


@dataclass(frozen=True)
class WorldSlice:
    """A side read from the sealed worlds: ids of the events up to the producer's cursors."""

    what: str


Side = Query | Objects | WorldSlice


@dataclass(frozen=True)
class Line:
    """One equation. `letters` = SQL for ids whose loss is explained by a dead letter, a named term of its own."""

    name: str
    left: Side
    right: Side
    letters: Query | None = None


def _log(what: str, topic: str) -> Query:
    return Query(
        what, "EVENT_BUS_DSN", f"select event_id from bus.log where platform_run_id = %(run)s and topic = '{topic}'"
    )


def _letters(dsn: str, worker: str, topic: str) -> Query:
    return Query(
        f"dead letters of {worker}",
        dsn,
        "select event_id from dead_letters.letters where platform_run_id = %(run)s and state <> 'REDRIVEN'"
        f" and worker = '{worker}' and topic = '{topic}'",
    )


_ADMITTED = "select event_id from ig.admissions where platform_run_id = %(run)s"
_EVENT_TOPICS = "('traffic', 'arrival_events', 'arrival_entities', 'flow_anchors', 'truth')"
_JOURNAL = "select unnest(event_ids) from wsp.journal where platform_run_id = %(run)s"

LINES: Final[tuple[Line, ...]] = (
    Line(
        "world_slice_equals_sent",
        WorldSlice("sealed world: event ids up to the producer's cursors"),
        Query(
            "producer's journal: distinct event ids sent",
            "WSP_CHECKPOINT_DSN",
            f"select distinct e from ({_JOURNAL}) as j(e)",
        ),
    ),
    Line(
        "sent_equals_admitted_plus_quarantined",
        Query(
            "producer's journal: distinct event ids sent",
            "WSP_CHECKPOINT_DSN",
            f"select distinct e from ({_JOURNAL}) as j(e)",
        ),
        Query(
            "gate: ids admitted from, or quarantined for, the producer",
            "IG_ADMISSION_DSN",
            f"{_ADMITTED} and producer = 'world_stream_producer' and event_type <> 'progress_mark' union select event_id"
            " from ig.quarantine where platform_run_id = %(run)s and producer = 'world_stream_producer'"
            " and event_type <> 'progress_mark' and reason <> 'PAYLOAD_HASH_MISMATCH'",
        ),
    ),
    Line(
        "admitted_equals_published",
        Query("gate: admitted event ids", "IG_ADMISSION_DSN", f"{_ADMITTED} and event_type <> 'progress_mark'"),
        Query(
            "bus: event ids of the ingress topics",
            "EVENT_BUS_DSN",
            "select event_id from bus.log where platform_run_id = %(run)s"
            f" and topic in {_EVENT_TOPICS} and record_key not like 'mark-%%'",
        ),
    ),
    Line(
        "admitted_equals_receipts",
        Query("gate: admitted event ids", "IG_ADMISSION_DSN", f"{_ADMITTED} and event_type <> 'progress_mark'"),
        Objects("object store: ids in the receipt objects", "ig/receipts", "event_id"),
    ),
    Line(
        "quarantined_equals_quarantine_objects",
        Query(
            "gate: quarantine ids",
            "IG_ADMISSION_DSN",
            "select quarantine_id from ig.quarantine where platform_run_id = %(run)s",
        ),
        Objects("object store: ids in the quarantine objects", "ig/quarantine", "quarantine_id"),
    ),
    Line(
        "admitted_traffic_equals_bound",
        Query("gate: admitted traffic ids", "IG_ADMISSION_DSN", f"{_ADMITTED} and event_type = 'traffic'"),
        Query(
            "bindings: traffic ids",
            "CSFB_PROJECTION_DSN",
            "select event_id from csfb.bindings where platform_run_id = %(run)s",
        ),
        _letters("CSFB_PROJECTION_DSN", "context_store_flow_binding", "traffic"),
    ),
    Line(
        "bound_equals_published",
        Query(
            "bindings: flow ids",
            "CSFB_PROJECTION_DSN",
            "select flow_id from csfb.bindings where platform_run_id = %(run)s",
        ),
        _log("bus: flow ids of flows.bound", "flows.bound"),
    ),
    Line(
        "bound_equals_featured",
        _log("bus: flow ids of flows.bound", "flows.bound"),
        Query(
            "snapshot index: flow ids",
            "OFP_PROJECTION_DSN",
            "select flow_id from ofp.snapshots where platform_run_id = %(run)s",
        ),
        _letters("OFP_PROJECTION_DSN", "online_feature_plane", "flows.bound"),
    ),
    Line(
        "featured_equals_published",
        Query(
            "snapshot index: flow ids",
            "OFP_PROJECTION_DSN",
            "select flow_id from ofp.snapshots where platform_run_id = %(run)s",
        ),
        _log("bus: flow ids of flows.featured", "flows.featured"),
    ),
    Line(
        "admitted_traffic_equals_decided",
        Query("gate: admitted traffic ids", "IG_ADMISSION_DSN", f"{_ADMITTED} and event_type = 'traffic'"),
        Query(
            "decisions: traffic ids they were made for",
            "DF_REPLAY_DSN",
            "select convert_from(body, 'UTF8')::jsonb ->> 'event_id' from df.decisions where platform_run_id = %(run)s",
        ),
        Query(
            "dead letters on the way to a decision",
            "PLATFORM_DSN",
            # a letter behind the gate goes by its flow; its body may be anything, so it is not asked
            "select coalesce(b.event_id, l.event_id) from dead_letters.letters l left join csfb.bindings b"
            " on b.platform_run_id = l.platform_run_id and b.flow_id = l.event_id"
            " where l.platform_run_id = %(run)s and l.state <> 'REDRIVEN' and l.worker in"
            " ('context_store_flow_binding', 'online_feature_plane', 'decision_fabric')"
            " and topic in ('traffic', 'flows.bound', 'flows.featured')",
        ),
    ),
    Line(
        "decided_equals_published",
        Query(
            "decisions: ids", "DF_REPLAY_DSN", "select decision_id from df.decisions where platform_run_id = %(run)s"
        ),
        _log("bus: ids of decisions", "decisions"),
    ),
    Line(
        "intents_equal_outcomes",
        _log("bus: ids of action_intents", "action_intents"),
        Query(
            "action ledger: intents with an outcome",
            "AL_LEDGER_DSN",
            "select intent_id from al.outcomes where platform_run_id = %(run)s",
        ),
        _letters("AL_LEDGER_DSN", "action_layer", "action_intents"),
    ),
    Line(
        "outcomes_equal_published",
        Query(
            "action ledger: intents with an outcome",
            "AL_LEDGER_DSN",
            "select intent_id from al.outcomes where platform_run_id = %(run)s",
        ),
        _log("bus: ids of action_outcomes", "action_outcomes"),
    ),
    Line(
        "decided_equals_audit_chains",
        _log("bus: ids of decisions", "decisions"),
        Query(
            "audit index: decisions with a closed chain",
            "DLA_INDEX_DSN",
            "select decision_id from dla.chains where platform_run_id = %(run)s and state = 'CLOSED'",
        ),
        _letters("DLA_INDEX_DSN", "decision_log_audit", "decisions"),
    ),
    Line(
        "audit_chains_equal_audit_objects",
        Query(
            "audit index: closed chains",
            "DLA_INDEX_DSN",
            "select chain_id from dla.chains where platform_run_id = %(run)s and state = 'CLOSED'",
        ),
        Objects("object store: chains in the audit objects", "dla/audit", "chain_id"),
    ),
    Line(
        "alerts_equal_triggers",
        Query(
            "bus: decisions to REVIEW or BLOCK, and failed actions",
            "EVENT_BUS_DSN",
            "select event_id from bus.log where platform_run_id = %(run)s and ("
            "(topic = 'decisions' and convert_from(body, 'UTF8')::jsonb ->> 'outcome' in ('REVIEW', 'BLOCK'))"
            " or (topic = 'action_outcomes' and convert_from(body, 'UTF8')::jsonb ->> 'status' = 'FAILED'))",
        ),
        Query(
            "triggers: what they were raised for",
            "CASE_TRIGGER_REPLAY_DSN",
            "select source_id from case_trigger.triggers where platform_run_id = %(run)s and kind in ('DECISION', 'ACTION_FAILED')",
        ),
        _letters("CASE_TRIGGER_REPLAY_DSN", "case_trigger", "decisions"),
    ),
    Line(
        "triggers_equal_published",
        Query(
            "triggers: ids",
            "CASE_TRIGGER_REPLAY_DSN",
            "select trigger_id from case_trigger.triggers where platform_run_id = %(run)s",
        ),
        _log("bus: ids of case_triggers", "case_triggers"),
    ),
    Line(
        "triggers_equal_opened_plus_merged",
        _log("bus: ids of case_triggers", "case_triggers"),
        Query(
            "case timelines: triggers that opened a case or were merged into one",
            "CASE_MGMT_LOCATOR",
            "select body ->> 'trigger_id' from case_mgmt.timeline where platform_run_id = %(run)s and kind in ('OPENED', 'MERGED')",
        ),
        _letters("CASE_MGMT_LOCATOR", "case_management", "case_triggers"),
    ),
    Line(
        "truth_equals_labels",
        Query("gate: admitted truth ids", "IG_ADMISSION_DSN", f"{_ADMITTED} and event_type = 'truth'"),
        Query(
            "label store: truth ids behind external assertions",
            "LABEL_STORE_LOCATOR",
            "select source_event_id from label_store.assertions where platform_run_id = %(run)s and source = 'EXTERNAL'",
        ),
        _letters("LABEL_STORE_LOCATOR", "label_store", "truth"),
    ),
    Line(
        "labels_equal_published",
        Query(
            "label store: ids",
            "LABEL_STORE_LOCATOR",
            "select label_id from label_store.assertions where platform_run_id = %(run)s",
        ),
        Query(
            "bus: ids of labels",
            "EVENT_BUS_DSN",
            "select event_id from bus.log where platform_run_id = %(run)s and topic = 'labels'"
            " and convert_from(body, 'UTF8')::jsonb ? 'label_id'",
        ),
    ),
    Line(
        "reports_equal_report_objects",
        Query(
            "reports: ids of those written before this one",
            "PLATFORM_DSN",
            "select request_id from reporter.reports where platform_run_id = %(run)s and state = 'COMPLETE'",
        ),
        Objects("object store: report objects", "obs/run_report", "request_id"),
    ),
)
