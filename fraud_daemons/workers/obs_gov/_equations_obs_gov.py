"""The reports themselves and what governed the run: the lines of the run report for the pack `obs_gov`."""

from __future__ import annotations

from typing import Final

from fraud_daemons.workers.obs_gov._equation_terms import Line, Objects, Query

LINES: Final[tuple[Line, ...]] = (
    Line(
        "reports_equal_report_objects",
        Query(
            "reports: ids of those written before this one",
            "PLATFORM_DSN",
            "select request_id from reporter.reports where platform_run_id = %(run)s and state = 'COMPLETE'",
        ),
        Objects("object store: report objects", "obs/run_report", "request_id"),
    ),
    Line(
        "governance_events_equal_objects",
        Query(
            "governance: ids of the run's events",
            "PLATFORM_DSN",
            "select event_id from control.governance where platform_run_id = %(run)s",
        ),
        Objects("object store: governance objects", "gov", "event_id"),
    ),
)
