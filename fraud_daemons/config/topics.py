"""The topics of the bus. `platform up` makes them; a worker may only name one of these."""

from __future__ import annotations

from typing import Final

from fraud_daemons.domain.envelope import OUTPUTS, TRUTH

TOPICS: Final = (
    "control",
    *OUTPUTS,
    TRUTH,
    "quarantine",
    "flows.bound",
    "flows.featured",
    "policies",
    "decisions",
    "action_intents",
    "action_outcomes",
    "audit_chains",
    "case_triggers",
    "case_events",
    "labels",
)
