"""From decisions to cases and labels: the lines of the run report for the pack `case_labels`."""

from __future__ import annotations

from typing import Final

from fraud_daemons.workers.obs_gov._equation_terms import (
    ADMITTED,
    Letters,
    Line,
    Logged,
    Only,
    Query,
    letters,
    log_ids,
)

LINES: Final[tuple[Line, ...]] = (
    Line(
        "alerts_equal_triggers",
        Logged(
            "bus: decisions to REVIEW or BLOCK, and failed actions",
            ("decisions", "action_outcomes"),
            only=(Only("decisions", "outcome", ("REVIEW", "BLOCK")), Only("action_outcomes", "status", ("FAILED",))),
        ),
        Query(
            "triggers: what they were raised for",
            "CASE_TRIGGER_REPLAY_DSN",
            "select source_id from case_trigger.triggers where platform_run_id = %(run)s and kind in ('DECISION', 'ACTION_FAILED')",
        ),
        Letters(
            "dead letters of case_trigger",
            (
                letters("CASE_TRIGGER_REPLAY_DSN", "case_trigger", "decisions"),
                letters("CASE_TRIGGER_REPLAY_DSN", "case_trigger", "action_outcomes"),
            ),
        ),
    ),
    Line(
        "triggers_equal_published",
        Query(
            "triggers: ids",
            "CASE_TRIGGER_REPLAY_DSN",
            "select trigger_id from case_trigger.triggers where platform_run_id = %(run)s",
        ),
        log_ids("bus: ids of case_triggers", "case_triggers"),
    ),
    Line(
        "triggers_equal_opened_plus_merged",
        log_ids("bus: ids of case_triggers", "case_triggers"),
        Query(
            "case timelines: triggers that opened a case or were merged into one",
            "CASE_MGMT_LOCATOR",
            "select body ->> 'trigger_id' from case_mgmt.timeline where platform_run_id = %(run)s and kind in ('OPENED', 'MERGED')",
        ),
        letters("CASE_MGMT_LOCATOR", "case_management", "case_triggers"),
    ),
    Line(
        "truth_equals_labels",
        Query("gate: admitted truth ids", "IG_ADMISSION_DSN", f"{ADMITTED} and event_type = 'truth'"),
        Query(
            "label store: truth ids behind external assertions",
            "LABEL_STORE_LOCATOR",
            "select source_event_id from label_store.assertions where platform_run_id = %(run)s and source = 'EXTERNAL'"
            " and source_ref not like 'asserted:%%'",
        ),
        letters("LABEL_STORE_LOCATOR", "label_store", "truth"),
    ),
    Line(
        "labels_equal_published",
        Query(
            "label store: ids",
            "LABEL_STORE_LOCATOR",
            "select label_id from label_store.assertions where platform_run_id = %(run)s",
        ),
        Logged("bus: ids of labels", ("labels",), only=(Only("labels", "label_id"),)),
    ),
    Line(
        "dispositions_equal_human_labels",
        Query(
            "case timelines: case:entry|flow of each flow resolved as FRAUD or LEGIT",
            "CASE_MGMT_LOCATOR",
            "select case_id || ':' || entry || '|' || (f ->> 'flow_id') from case_mgmt.timeline,"
            " jsonb_array_elements(body -> 'flows') f where platform_run_id = %(run)s and kind = 'RESOLVED'"
            " and body ->> 'disposition' in ('FRAUD', 'LEGIT')",
        ),
        Query(
            "label store: what human assertions refer to",
            "LABEL_STORE_LOCATOR",
            "select source_ref || '|' || flow_id from label_store.assertions where platform_run_id = %(run)s"
            " and source = 'HUMAN' and source_ref not like 'asserted:%%'",
        ),
        letters("LABEL_STORE_LOCATOR", "label_store", "case_events"),
    ),
    Line(
        "assertions_equal_asserted_labels",
        Query(
            "label store: requests of people that it took",
            "LABEL_STORE_LOCATOR",
            "select request_id from label_store.requests where platform_run_id = %(run)s and outcome = 'APPLIED'",
        ),
        Query(
            "label store: requests behind asserted labels",
            "LABEL_STORE_LOCATOR",
            "select source_event_id from label_store.assertions where platform_run_id = %(run)s"
            " and source_ref like 'asserted:%%'",
        ),
    ),
)
