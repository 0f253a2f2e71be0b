"""From the vectors to decisions, actions and audit: the lines of the run report for the pack `decision_lane`."""

from __future__ import annotations

from typing import Final

from fraud_daemons.workers.obs_gov._equation_terms import (
    ADMITTED,
    Either,
    Letters,
    Line,
    Logged,
    Objects,
    Query,
    letters,
    log_ids,
)

LINES: Final[tuple[Line, ...]] = (
    Line(
        "admitted_traffic_equals_decided",
        Query("gate: admitted traffic ids", "IG_ADMISSION_DSN", f"{ADMITTED} and event_type = 'traffic'"),
        Query(
            "decisions: traffic ids they were made for",
            "DF_REPLAY_DSN",
            "select convert_from(body, 'UTF8')::jsonb ->> 'event_id' from df.decisions where platform_run_id = %(run)s",
        ),
        Letters(
            "dead letters on the way to a decision",
            (
                letters("CSFB_PROJECTION_DSN", "context_store_flow_binding", "traffic"),
                letters("OFP_PROJECTION_DSN", "online_feature_plane", "flows.bound"),
                letters("DF_REPLAY_DSN", "decision_fabric", "flows.bound"),
                letters("DF_REPLAY_DSN", "decision_fabric", "flows.featured"),
            ),
            # a letter behind the gate goes by its flow; its body may be anything, so it is not asked
            renamed=Query(
                "bindings: flow ids and their traffic ids",
                "CSFB_PROJECTION_DSN",
                "select flow_id, event_id from csfb.bindings where platform_run_id = %(run)s",
            ),
        ),
    ),
    Line(
        "decided_equals_published",
        Query(
            "decisions: ids", "DF_REPLAY_DSN", "select decision_id from df.decisions where platform_run_id = %(run)s"
        ),
        log_ids("bus: ids of decisions", "decisions"),
    ),
    Line(
        "deciding_policies_equal_published",
        Logged("bus: digests on policies", ("policies",), field="digest"),
        Query(
            "decisions: digests of the policies that decided in the run",
            "DF_REPLAY_DSN",
            "select digest from df.policies where platform_run_id = %(run)s",
        ),
    ),
    Line(
        "decided_under_known_postures",
        Query(
            "decisions: postures they were made under",
            "DF_REPLAY_DSN",
            "select distinct posture_mode || ' ' || posture_sequence from df.decisions where platform_run_id = %(run)s and posture_sequence > 0",
        ),
        Either(
            "steps of the degrade ladder, and pins of an operator",
            (
                Query("degrade ladder: its steps", "DL_POSTURE_DSN", "select mode || ' ' || sequence from dl.postures"),
                Query(
                    "pins of an operator", "PLATFORM_DSN", "select mode || ' ' || sequence from control.posture_pins"
                ),
            ),
        ),
        subset=True,
    ),
    Line(
        "intents_equal_outcomes",
        log_ids("bus: ids of action_intents", "action_intents"),
        Query(
            "action ledger: intents with an outcome",
            "AL_LEDGER_DSN",
            "select intent_id from al.outcomes where platform_run_id = %(run)s",
        ),
        letters("AL_LEDGER_DSN", "action_layer", "action_intents"),
    ),
    Line(
        "outcomes_equal_published",
        Query(
            "action ledger: intents with an outcome",
            "AL_LEDGER_DSN",
            "select intent_id from al.outcomes where platform_run_id = %(run)s",
        ),
        log_ids("bus: ids of action_outcomes", "action_outcomes"),
    ),
    Line(
        "decided_equals_audit_chains",
        log_ids("bus: ids of decisions", "decisions"),
        Query(
            "audit index: decisions with a closed chain",
            "DLA_INDEX_DSN",
            "select decision_id from dla.chains where platform_run_id = %(run)s and state = 'CLOSED'",
        ),
        Letters(
            "dead letters of decision_log_audit",
            (
                letters("DLA_INDEX_DSN", "decision_log_audit", "decisions"),
                letters("DLA_INDEX_DSN", "decision_log_audit", "action_outcomes"),
            ),
            # an outcome set aside leaves its decision's chain open
            renamed=Query(
                "audit index: intents of open chains and their decisions",
                "DLA_INDEX_DSN",
                "select unnest(intents), decision_id from dla.chains where platform_run_id = %(run)s and state = 'OPEN'",
            ),
        ),
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
)
