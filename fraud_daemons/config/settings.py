"""Every setting of a profile: name, type, default and what would be right. The only list; `profile` reads by it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Check = Callable[[Any], str | None]


def between(low: float, high: float) -> Check:
    """A check that a number lies in [low, high]."""

    def check(value: Any) -> str | None:
        return None if low <= value <= high else f"must be between {low:g} and {high:g}"

    return check


def one_of(*allowed: str) -> Check:
    """A check that a text is one of a fixed set."""

    def check(value: Any) -> str | None:
        return None if value in allowed else f"must be one of {', '.join(repr(a) for a in allowed)}"

    return check


def one_partition(value: Any) -> str | None:
    """Order per terminal holds within one partition only: flows.bound is keyed by card."""
    return None if value == 1 else "must be 1: more partitions would lose the order of a terminal's transactions"


def currency(value: Any) -> str | None:
    """ISO 4217 alphabetic code."""
    ok = len(value) == 3 and value.isalpha() and value.isupper()
    return None if ok else "must be an ISO 4217 code of three capital letters, such as 'USD'"


@dataclass(frozen=True)
class Setting:
    """One setting: `section.key`, its type, its default and a check that says what would be right."""

    section: str
    key: str
    type: type
    default: Any
    check: Check | None = None

    @property
    def name(self) -> str:
        return f"{self.section}.{self.key}"

    @property
    def environment(self) -> str:
        return f"PLATFORM_{self.section}_{self.key}".upper()


RUNGS = ("NORMAL", "DEGRADED_1", "DEGRADED_2", "FAIL_CLOSED")

SETTINGS: tuple[Setting, ...] = (
    Setting("profile", "run_dir", str, ""),  # "" = <root>/.run/<profile>
    Setting("profile", "drills", bool, False),
    Setting("profile", "packs", list, []),  # [] = every pack file
    # --- database: an own DSN replaces the embedded server
    Setting("database", "connections_max", int, 60, between(20, 1000)),
    Setting("database", "connections_reserve", int, 8, between(3, 100)),
    Setting("database", "roles", str, "create", one_of("create", "given")),
    Setting("database", "connect_timeout_seconds", float, 3.0, between(0.5, 30)),
    Setting(
        "database", "connects_per_second_max", float, 10.0, between(0.5, 1000)
    ),  # per process, after a burst of 4 s' worth
    Setting("database", "statement_timeout_seconds", float, 6.0, between(1, 600)),
    Setting("database", "client_deadline_seconds", float, 8.0, between(1, 600)),
    # for whoever reads a whole run at once: the run report's equations, the commands
    Setting("database", "long_statement_timeout_seconds", float, 60.0, between(1, 3600)),
    Setting("database", "long_client_deadline_seconds", float, 70.0, between(1, 3600)),
    Setting("database", "lock_timeout_seconds", float, 5.0, between(0.1, 60)),
    Setting("database", "idle_in_transaction_seconds", float, 5.0, between(1, 60)),
    Setting(
        "database", "scope_seconds_max", float, 10.0, between(0.5, 3600)
    ),  # held longer it is reported with its stack
    Setting("database", "connection_age_seconds_max", float, 1800.0, between(10, 86400)),
    # --- object store: an own endpoint replaces the embedded one
    Setting("objectstore", "endpoint", str, ""),
    Setting("objectstore", "bucket", str, "fraud-platform"),
    Setting("objectstore", "region", str, "us-east-1"),
    Setting("objectstore", "port", int, 0, between(0, 55535)),  # 0 = chosen once and kept in ports.json
    Setting("objectstore", "memory_mib", int, 224, between(128, 8192)),
    # --- bus
    Setting("bus", "partitions", int, 1, one_partition),
    Setting("bus", "poll_busy_seconds", float, 0.02, between(0.001, 1)),
    Setting("bus", "poll_idle_seconds", float, 0.5, between(0.01, 10)),
    # workers for which no decision waits let records gather for so long
    Setting("bus", "gather_seconds", float, 0.5, between(0, 5)),
    # --- loop
    Setting("loop", "batch_records_max", int, 1000, between(1, 5000)),
    Setting("loop", "retry_delay_seconds_max", float, 1.5, between(0.1, 2)),
    Setting("loop", "watchdog_seconds", float, 30.0, between(1, 600)),
    Setting("loop", "beat_age_seconds_max", float, 12.0, between(2, 300)),
    Setting("loop", "bugs_in_a_row_max", int, 5, between(1, 100)),
    Setting("loop", "dead_letters_run_max", int, 200, between(1, 100000)),
    Setting("loop", "dead_letters_share_max", float, 0.5, between(0.001, 1)),
    # --- supervision: more deaths than this within the window and a worker is held; an outage this long is told of again
    Setting("supervision", "deaths_max", int, 20, between(1, 10_000)),
    Setting("supervision", "deaths_window_seconds", float, 600.0, between(1, 86_400)),
    Setting("supervision", "patience_seconds", float, 60.0, between(0.5, 86_400)),
    # --- ingestion gate
    Setting("gate", "host", str, "127.0.0.1"),
    Setting("gate", "port", int, 8640, between(0, 65535)),
    Setting("gate", "threads", int, 4, between(1, 32)),
    Setting("gate", "batch_events_max", int, 1000, between(2, 10000)),
    Setting("gate", "body_bytes_max", int, 8 * 1024 * 1024, between(1024, 256 * 1024 * 1024)),
    Setting("gate", "json_depth_max", int, 16, between(3, 128)),  # an event in an array stands three deep
    # back-pressure: more than this waiting and the gate says 429; 0 = without end
    Setting("gate", "unsealed_records_max", int, 500_000, between(0, 10**9)),  # a minute without an object store
    Setting("gate", "unbound_records_max", int, 400_000, between(0, 10**9)),  # two minutes of the context store's work
    Setting("gate", "undecided_flows_max", int, 100_000, between(0, 10**9)),  # two minutes of decisions
    Setting("gate", "wait_ms_max", int, 5000, between(0, 60000)),
    # --- producer
    Setting("producer", "round_transactions_max", int, 240, between(1, 900)),
    Setting("producer", "max_events_per_output", int, 0, between(0, 10**9)),  # 0 = whole world
    # --- evidence
    Setting("evidence", "segment_records_max", int, 2000, between(1, 10000)),
    Setting("evidence", "linger_seconds", float, 1.0, between(0, 60)),
    # --- context, features, decisions, actions
    Setting("context", "budget_seconds", float, 2.0, between(0.05, 600)),
    Setting("features", "label_delay_days", int, 7, between(0, 365)),
    Setting("features", "lateness_seconds", int, 3600, between(0, 30 * 86400)),
    Setting("features", "cached_entries_max", int, 1_500_000, between(1000, 100_000_000)),
    Setting("decision", "policy", str, "baseline"),
    Setting("decision", "posture_pin", str, "", one_of("", *RUNGS)),
    Setting("decision", "currency", str, "USD", currency),
    # --- environment conformance: between two rounds of checks
    Setting("conformance", "interval_seconds", float, 10.0, between(0.1, 3600)),
    # --- degrade ladder: which rung each signal asks for, and for how long it must be bad first
    Setting("ladder", "interval_seconds", float, 0.25, between(0.05, 2)),
    Setting("ladder", "quiet_seconds", float, 10.0, between(0.5, 3600)),
    Setting("ladder", "stall_seconds", float, 1.2, between(0.1, 600)),  # records wait and none is taken
    Setting("ladder", "store_seconds", float, 0.6, between(0.1, 600)),
    Setting("ladder", "policy_seconds", float, 0.3, between(0, 600)),  # an editor may save in two steps
    Setting("ladder", "features_rung", str, "DEGRADED_2", one_of(*RUNGS)),
    Setting("ladder", "graph_rung", str, "DEGRADED_1", one_of(*RUNGS)),
    Setting("ladder", "store_rung", str, "DEGRADED_1", one_of(*RUNGS)),
    Setting("ladder", "policy_rung", str, "FAIL_CLOSED", one_of(*RUNGS)),
    Setting("actions", "webhook_url", str, ""),
    Setting("actions", "webhook_timeout_seconds", float, 3.0, between(0.1, 30)),
    Setting("actions", "webhook_attempts_max", int, 5, between(1, 50)),
    Setting("actions", "webhook_actions", list, ["notify_cardholder"]),
    Setting("actions", "kill_switch", bool, False),
    # --- console, and the hook that tells of trouble
    Setting("console", "port", int, -1, between(-1, 65535)),  # -1 = the one after the gate's; 0 = chosen, as the gate's
    Setting("console", "pages_max", int, 6, between(1, 32)),  # each open page has a thread of its own
    Setting("alerts", "hook_url", str, ""),
    Setting("alerts", "hook_after_seconds", float, 30.0, between(0, 86400)),
    Setting("alerts", "hook_timeout_seconds", float, 3.0, between(0.1, 30)),
    # --- disk guard: below this the gate answers 503; 0 = no guard
    Setting("disk", "free_bytes_min", int, 1 << 30, between(0, 1 << 62)),
    # --- the incident put back, for the drill that reproduces it; refused unless that drill asks
    Setting("incident", "connector", str, "shared", one_of("shared", "per_operation")),
    Setting("incident", "containment", bool, True),
    Setting("incident", "asked_by", str, "", one_of("", "connection-churn")),
    # --- trimming of the bus: what every reader has passed and the archive holds goes once it is this old, or beyond this
    # many records whatever its age; 5,000,000 take some 12 GiB. false = nothing is trimmed
    Setting("trim", "log", bool, True),
    Setting("trim", "log_age_seconds", float, 86400.0, between(0, 10 * 365 * 86400)),
    Setting("trim", "log_records_max", int, 5_000_000, between(1000, 10**12)),
    # state of runs that ended so many days ago and whose last report passed; 0 = it is kept for ever
    Setting("trim", "run_age_days", float, 90.0, between(0, 36500)),
    Setting("trim", "interval_seconds", float, 10.0, between(0.05, 3600)),
    # --- logs
    Setting("logs", "level", str, "info", one_of("debug", "info", "warning", "error")),
    Setting("logs", "file_bytes_max", int, 20 * 1024 * 1024, between(65536, 2**31)),
    Setting("logs", "files_max", int, 5, between(1, 100)),
)
