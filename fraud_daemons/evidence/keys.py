"""The key scheme. The prefix comes from the record's own run id, never from the process that writes it."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

UNPINNED = "unpinned"
"""Prefix of evidence about events that named no run."""


_SEGMENT: Final = re.compile(
    r"(?P<run>[^/]+)/(?P<family>.+)/(?P<topic>[a-z._]+)-(?P<partition>\d{3,})-(?P<first>\d{15,})-(?P<last>\d{15,})"
    r"-(?P<sha256>[0-9a-f]{16})\.[a-z.]+"
)


class SegmentPlace(NamedTuple):
    """What the key of a segment says: whose, of which topic, which positions, and how the hash of its bytes begins."""

    platform_run_id: str
    family: str
    topic: str
    partition: int
    first: int
    last: int
    sha256_begins: str
    key: str


def place_of(key: str) -> SegmentPlace | None:
    """Back from the key of a segment; None when it is the key of anything else."""
    found = _SEGMENT.fullmatch(key)
    if found is None:
        return None
    partition, first, last = (int(found[name]) for name in ("partition", "first", "last"))
    return SegmentPlace(found["run"], found["family"], found["topic"], partition, first, last, found["sha256"], key)


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


def segment_place(key: str) -> tuple[int, int, int]:
    """(partition, first, last position) of a segment's key. Raises ValueError for a key of another shape."""
    _, partition, first, last, _ = key.rpartition("/")[2].rsplit("-", 4)
    return int(partition), int(first), int(last)


def report_key(*, platform_run_id: str, request_id: str) -> str:
    """Key of one run report."""
    return f"{report_prefix(platform_run_id)}{request_id}.json"


def report_page_key(*, platform_run_id: str, request_id: str) -> str:
    """Key of the same report as a page for people."""
    return f"{platform_run_id}/obs/run_report_page/{request_id}.html"


def governance_key(*, platform_run_id: str, kind: str, event_id: str, at: str) -> str:
    """Key of one governance event; sorts by `at`, the compact form of its time."""
    return f"{platform_run_id or UNPINNED}/gov/{at}-{kind.lower()}-{event_id[:16]}.json"


def report_prefix(platform_run_id: str) -> str:
    """Where a run's reports lie."""
    return f"{platform_run_id}/obs/run_report/"


def acceptance_key(*, platform_run_id: str) -> str:
    """Key of what `platform accept` found of its run: a run is accepted once."""
    return f"{platform_run_id}/obs/acceptance/{platform_run_id}.json"
