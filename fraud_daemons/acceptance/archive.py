"""The archive of a run against its ledger: every record of every topic, once and in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from fraud_daemons.acceptance import sealed_evidence
from fraud_daemons.evidence.archive_lines import read_line, unpacked
from fraud_daemons.evidence.port import EvidenceStore
from fraud_daemons.state.segments import Segment

FAMILY: Final = "archive"


def verify(ledger: Sequence[tuple[Segment, bool]], store: EvidenceStore, *, run: str) -> dict[str, Any]:
    """The answer of `platform archive verify`. A run without a ledger is no good archive: nobody writes one."""
    seen = sealed_evidence.anchors(store, run).get(FAMILY, ())
    answer = sealed_evidence.verify(ledger, store, run=run, family=FAMILY, positions=_positions, anchors=seen)
    return answer if ledger else {**answer, "verdict": "FAIL"}


def _positions(body: bytes) -> list[int]:
    return [read_line(line).position for line in unpacked(body)]
