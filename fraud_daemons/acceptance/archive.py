"""Compares the archive's ledger with its objects, both ways, byte for byte: what is promised is there, what is there was
promised, and each object holds exactly the range of its row. It changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

from fraud_daemons.errors import FatalFault
from fraud_daemons.evidence.archive_lines import read_line, unpacked
from fraud_daemons.evidence.keys import UNPINNED
from fraud_daemons.evidence.port import EvidenceStore
from fraud_daemons.state.segments import Segment

FAMILY = "archive"
DEVIATIONS_MAX = 100
"""Named at most; all are counted."""


def verify(ledger: Sequence[tuple[Segment, bool]], store: EvidenceStore, *, run: str) -> dict[str, Any]:
    """The answer of `platform archive verify`: `ledger` = (segment, whether its put is known) of the run."""
    present = {facts.key for facts in store.list(f"{run or UNPINNED}/{FAMILY}/")}
    deviations: list[dict[str, str]] = []
    waiting = 0
    for segment, complete in ledger:
        if segment.object_key in present:
            deviations += [_deviation(segment.object_key, what) for what in _wrong(segment, store)]
        elif complete:
            deviations.append(_deviation(segment.object_key, "the ledger says it was put, and it is not there"))
        else:
            waiting += 1
    promised = {segment.object_key for segment, _ in ledger}
    deviations += [_deviation(key, "no row of the ledger names it") for key in sorted(present - promised)]
    deviations += [_deviation(key, what) for key, what in _out_of_order(ledger)]
    return {
        "platform_run_id": run,
        "segments": len(ledger),
        "objects": len(present),
        "records": sum(segment.records for segment, _ in ledger),
        "waiting": waiting,
        "deviations": len(deviations),
        "examples": deviations[:DEVIATIONS_MAX],
        "verdict": "FAIL" if deviations or not ledger else "PASS",
    }


def _wrong(segment: Segment, store: EvidenceStore) -> Iterator[str]:
    """What is wrong with the object of a segment."""
    try:
        body = store.get(segment.object_key)
    except FatalFault:
        yield "it was listed and cannot be read"
        return
    found = hashlib.sha256(body).hexdigest()
    if found != segment.sha256:
        yield f"its sha256 is {found}, the ledger says {segment.sha256}"
        return
    positions = [read_line(line).position for line in unpacked(body)]
    if (len(positions), positions[0], positions[-1]) != (
        segment.records,
        segment.first_position,
        segment.last_position,
    ) or positions != sorted(set(positions)):
        yield f"it holds {len(positions)} lines {positions[0]}..{positions[-1]}, not the range of its row in order"


def _out_of_order(ledger: Sequence[tuple[Segment, bool]]) -> Iterator[tuple[str, str]]:
    """Segments that overlap the one before, or do not name its hash."""
    before: dict[tuple[str, int], Segment] = {}
    for segment, _ in ledger:
        where = (segment.topic, segment.partition)
        last = before.get(where)
        if last is not None and segment.first_position <= last.last_position:
            yield segment.object_key, f"its range begins within that of {last.object_key}"
        if segment.previous_sha256 != (last.sha256 if last else ""):
            yield (
                segment.object_key,
                "it does not name the hash of the segment before it: one is missing or was changed",
            )
        before[where] = segment


def _deviation(key: str, what: str) -> dict[str, str]:
    return {"object": key, "what": what}
