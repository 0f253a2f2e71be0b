"""The catalogue of log events: every name the platform logs, past-tense facts. A tidy test holds that no other is used."""

from __future__ import annotations

from typing import Final

# the loop
WORKER_STARTED: Final = "worker_started"
WORKER_STOPPED: Final = "worker_stopped"
WORKER_HELD: Final = "worker_held"
BATCH_COMMITTED: Final = "batch_committed"
FAULT_CONTAINED: Final = "fault_contained"
FAULT_ENDED: Final = "fault_ended"
BUG_MET: Final = "bug_met"
CHECKPOINT_CLAIMED: Final = "checkpoint_claimed"
RECORD_DEAD_LETTERED: Final = "record_dead_lettered"
LETTER_REDRIVEN: Final = "letter_redriven"
LOCK_WAITED_FOR: Final = "lock_waited_for"
PORT_MOVED: Final = "port_moved"
# the connector
SCOPE_HELD_LONG: Final = "scope_held_long"
# evidence
SEGMENT_SEALED: Final = "segment_sealed"
# trimming
LOG_TRIMMED: Final = "log_trimmed"
TRIMMING_REFUSED: Final = "trimming_refused"
# ingress
REQUEST_ANSWERED: Final = "request_answered"
STREAM_STARTED: Final = "stream_started"
STREAM_ENDED: Final = "stream_ended"
# decisions
POSTURE_STEPPED: Final = "posture_stepped"
POLICY_TAKEN_UP: Final = "policy_taken_up"
POLICY_UNUSABLE: Final = "policy_unusable"
# environment conformance
CONFORMANCE_CHANGED: Final = "conformance_changed"
# actions
WEBHOOK_ANSWERED: Final = "webhook_answered"
# console
HOOK_ANSWERED: Final = "hook_answered"
CONSOLE_REFUSED: Final = "console_refused"
# reports
REPORT_WRITTEN: Final = "report_written"
REPORT_CONFLICTED: Final = "report_conflicted"
# governance
GOVERNANCE_WRITTEN: Final = "governance_written"
GOVERNANCE_CONFLICTED: Final = "governance_conflicted"
