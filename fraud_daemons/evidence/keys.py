"""The key scheme. The prefix comes from the record's own run id, never from the process that writes it."""

from __future__ import annotations

UNPINNED = "unpinned"
"""Prefix of evidence about events that named no run."""


def segment_key(
    *,
    platform_run_id: str,
    family: str,
    topic: str,
    partition: int,
    first: int,
    last: int,
    sha256: str,
    extension: str = "json",
) -> str:
    """Key of one segment: a fixed range of positions and the hash of its bytes; sorts by position.

    `family` is e.g. "ig/receipts", "ig/quarantine", "dla/audit", "archive".
    """
    place = f"{topic}-{partition:03d}-{first:015d}-{last:015d}-{sha256[:16]}"
    return f"{platform_run_id or UNPINNED}/{family}/{place}.{extension}"


def report_key(*, platform_run_id: str, request_id: str) -> str:
    """Key of one run report."""
    return f"{report_prefix(platform_run_id)}{request_id}.json"


def governance_key(*, platform_run_id: str, kind: str, event_id: str, at: str) -> str:
    """Key of one governance event; sorts by `at`, the compact form of its time."""
    return f"{platform_run_id or UNPINNED}/gov/{at}-{kind.lower()}-{event_id[:16]}.json"


def report_prefix(platform_run_id: str) -> str:
    """Where a run's reports lie."""
    return f"{platform_run_id}/obs/run_report/"
