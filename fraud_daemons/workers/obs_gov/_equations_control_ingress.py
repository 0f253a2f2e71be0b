"""From the world to the bus: the lines of the run report for the pack `control_ingress`."""

from __future__ import annotations

from typing import Final

from fraud_daemons.domain.envelope import OUTPUTS, TRUTH
from fraud_daemons.workers.obs_gov._equation_terms import ADMITTED, Line, Logged, Objects, Query, WorldSlice

_JOURNAL = "select unnest(event_ids) from wsp.journal where platform_run_id = %(run)s"

LINES: Final[tuple[Line, ...]] = (
    Line(
        "world_slice_equals_sent",
        WorldSlice("sealed world: event ids up to the producer's cursors"),
        Query(
            "producer's journal: distinct event ids sent",
            "WSP_CHECKPOINT_DSN",
            f"select distinct e from ({_JOURNAL}) as j(e)",
        ),
    ),
    Line(
        "sent_equals_admitted_plus_quarantined",
        Query(
            "producer's journal: distinct event ids sent",
            "WSP_CHECKPOINT_DSN",
            f"select distinct e from ({_JOURNAL}) as j(e)",
        ),
        Query(
            "gate: ids admitted from, or quarantined for, the producer",
            "IG_ADMISSION_DSN",
            f"{ADMITTED} and producer = 'world_stream_producer' and event_type <> 'progress_mark' union select event_id"
            " from ig.quarantine where platform_run_id = %(run)s and producer = 'world_stream_producer'"
            " and event_type <> 'progress_mark' and reason <> 'PAYLOAD_HASH_MISMATCH'",
        ),
    ),
    Line(
        "admitted_equals_published",
        Query("gate: admitted event ids", "IG_ADMISSION_DSN", f"{ADMITTED} and event_type <> 'progress_mark'"),
        Logged("bus: event ids of the ingress topics", (*OUTPUTS, TRUTH), marks=False),
    ),
    Line(
        "admitted_equals_receipts",
        Query("gate: admitted event ids", "IG_ADMISSION_DSN", f"{ADMITTED} and event_type <> 'progress_mark'"),
        Objects("object store: ids in the receipt objects", "ig/receipts", "event_id"),
    ),
    Line(
        "quarantined_equals_quarantine_objects",
        Query(
            "gate: quarantine ids",
            "IG_ADMISSION_DSN",
            "select quarantine_id from ig.quarantine where platform_run_id = %(run)s",
        ),
        Objects("object store: ids in the quarantine objects", "ig/quarantine", "quarantine_id"),
    ),
)
