"""What the gate says of one event, as JSON text."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache

import orjson

from fraud_daemons.bus.postgres_log import Place
from fraud_daemons.clock import iso
from fraud_daemons.domain.admission import Candidate, Refusal
from fraud_daemons.state.admissions import Receipt

_stamp = lru_cache(maxsize=64)(iso)  # a batch shares one moment; formatting it 450 times would cost 7 ms


def admitted_answers(
    fresh: Sequence[Candidate], hashes: Sequence[str], places: Sequence[Place], *, at: datetime
) -> list[str]:
    """What is said of each fresh candidate once it is committed. There may be more places than candidates."""
    stamp = _stamp(at)
    return [
        _with_receipt("ADMITTED", event_id, topic, partition, position, digest, stamp)
        for (_, (_, _, event_id), topic, _, _), digest, (partition, position) in zip(
            fresh, hashes, places, strict=False
        )
    ]


def repeat_answer(event_id: str, receipt: Receipt) -> str:
    digest, _, topic, partition, position, at = receipt
    return _with_receipt("DUPLICATE", event_id, topic, partition, position, digest, _stamp(at))


def refusal_answer(refusal: Refusal) -> str:
    answer = {
        "event_id": refusal.identity.event_id or None,
        "status": "QUARANTINED",
        "reason": refusal.reason,
        "detail": refusal.detail,
        "quarantine_id": refusal.quarantine_id,
    }
    return orjson.dumps(answer).decode()


def _with_receipt(
    status: str, event_id: str, topic: str, partition: int, position: int, payload_hash: str, admitted_at: str
) -> str:
    """Put together by hand, at a third of an encoder's price: nothing of it, an admitted event's id neither, has a quote."""
    return (
        f'{{"event_id":"{event_id}","status":"{status}","receipt":{{"topic":"{topic}","partition":{partition},'
        f'"position":{position},"payload_hash":"{payload_hash}","admitted_at":"{admitted_at}"}}}}'
    )
