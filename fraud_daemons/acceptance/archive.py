"""The archive of a run against its ledger: every record of every topic, once and in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from fraud_daemons.acceptance import sealed_evidence
from fraud_daemons.evidence.archive_lines import read_line, read_record, unpacked
from fraud_daemons.evidence.port import EvidenceStore
from fraud_daemons.postgres_runtime.connector import ConnectionOf
from fraud_daemons.state import segments
from fraud_daemons.state.segments import Segment

FAMILY: Final = "archive"


Archived = Callable[[str, tuple[str, int, int]], bytes | None]
"""(run, (topic, partition, position)) -> the body of a record that is no longer on the bus."""


def archived_from(at: ConnectionOf, make_store: Callable[[], EvidenceStore]) -> Archived:
    """Bodies out of the archive's objects, found by its ledger. The store is made only when one is asked for."""

    def body_of(run: str, place: tuple[str, int, int]) -> bytes | None:
        key = segments.holding(at("ARCHIVE_WRITER_LEDGER_DSN"), "archive", FAMILY, run, place)
        lines = unpacked(make_store().get(key)) if key else ()
        return next((record.body for record in map(read_record, lines) if record.position == place[2]), None)

    return body_of


def verify(ledger: Sequence[tuple[Segment, bool]], store: EvidenceStore, *, run: str) -> dict[str, Any]:
    """The answer of `platform archive verify`. A run without a ledger is no good archive: nobody writes one."""
    seen = sealed_evidence.anchors(store, run).get(FAMILY, ())
    answer = sealed_evidence.verify(ledger, store, run=run, family=FAMILY, positions=_positions, anchors=seen)
    return answer if ledger else {**answer, "verdict": "FAIL"}


def _positions(body: bytes) -> list[int]:
    return [read_line(line).position for line in unpacked(body)]
