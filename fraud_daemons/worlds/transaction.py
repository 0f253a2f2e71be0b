"""One normalised transaction or label, and its projection on the five streams of a world.

Traffic never carries an entity id and none of the four outputs ever carries truth: both rules live in the field lists
below and nowhere else. What the source does not have stays None; nothing is invented here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

TRAFFIC_FIELDS: Final = ("message_type", "processing_code", "stan", "retrieval_reference")
PLACE_FIELDS: Final = ("merchant_id", "terminal_id")
ARRIVAL_FIELDS: Final = ("channel", "pos_entry_mode", "mcc", "merchant_name", "country", "state", "postal_code")
ENTITY_FIELDS: Final = ("party_id", "account_id", "card_token", "device_id", "ip")
TEXT_FIELDS: Final = (*TRAFFIC_FIELDS, *PLACE_FIELDS, *ARRIVAL_FIELDS, *ENTITY_FIELDS)
"""Every text field a source can fill, by the names of the event payloads."""


@dataclass(frozen=True, slots=True)
class Transaction:
    """One transaction as its source knows it. `fields` has a value or nothing for each of TEXT_FIELDS."""

    flow_id: str
    occurred_at: str
    """`clock.iso` text."""
    amount_minor: int
    currency: str
    fields: dict[str, str]


@dataclass(frozen=True, slots=True)
class Truth:
    """What somebody found out about a flow, and when: `correction` 0 is the first word, 1 the next."""

    flow_id: str
    observed_at: str
    fraud: bool
    fraud_type: str | None
    effective_time: str
    source_ref: str | None
    correction: int

    @property
    def payload(self) -> dict[str, Any]:
        return {
            "flow_id": self.flow_id,
            "fraud": self.fraud,
            "fraud_type": self.fraud_type,
            "effective_time": self.effective_time,
            "source_ref": self.source_ref,
            "correction": self.correction,
        }


def project(transactions: Iterable[Transaction]) -> Iterator[tuple[str, dict[str, dict[str, Any]]]]:
    """Per transaction (occurred_at, output -> payload), with arrival_seq counted per (terminal, merchant) pair.

    `transactions` must come in the world's total order; the count starts at 1 and follows it.
    """
    arrivals: Counter[tuple[str | None, str | None]] = Counter()
    for transaction in transactions:
        fields = transaction.fields
        pair = (fields.get("terminal_id"), fields.get("merchant_id"))
        arrivals[pair] += 1
        yield transaction.occurred_at, _payloads(transaction, arrival_seq=arrivals[pair])


def _payloads(transaction: Transaction, *, arrival_seq: int) -> dict[str, dict[str, Any]]:
    fields = transaction.fields
    place: dict[str, Any] = {name: fields.get(name) for name in PLACE_FIELDS}
    place["arrival_seq"] = arrival_seq
    entities = {name: fields.get(name) for name in ENTITY_FIELDS}
    traffic = {
        "flow_id": transaction.flow_id,
        "amount_minor": transaction.amount_minor,
        "currency": transaction.currency,
    }
    # message_type is part of every traffic payload; the other three are optional and absent when unknown
    traffic.update({name: fields[name] for name in TRAFFIC_FIELDS if fields.get(name) is not None})
    return {
        "traffic": traffic,
        "arrival_events": place | {name: fields.get(name) for name in ARRIVAL_FIELDS},
        "arrival_entities": place | entities,
        "flow_anchors": {"flow_id": transaction.flow_id} | place | entities,
    }
