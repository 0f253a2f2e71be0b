"""One whole transaction from a live caller, fanned out into the four events of a flow. Pure.

A live flow has no world, so its place in a total order and at its terminal must come from itself: `arrival_seq` and
`source_seq` are both 2^52 plus 52 bits of a hash of (run, flow_id). That is the same number at every repeat, far above
the small counts of any world (which number arrivals from 1 and rows from 0), below 2^53 (so every JSON reader keeps it
exact), and different for every flow: two of a million flows at ONE terminal share it with a chance of 1 in 10,000, and
then the second is answered as a conflict instead of being bound wrongly. Among live flows of one microsecond the order
is therefore arbitrary, but the same whenever it is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import fastjsonschema

from fraud_daemons.clock import iso, parse_iso
from fraud_daemons.domain.envelope import OUTPUTS, make_event
from fraud_daemons.domain.identity import derived_id
from fraud_daemons.domain.schemas import Validator, failed_rule, load_schema

MESSAGE_TYPE_DEFAULT: Final = "0100"
_SEQUENCE_BASE: Final = 2**52
_SEQUENCE_HEX_DIGITS: Final = 13  # 52 bits

_TRAFFIC: Final = ("processing_code", "stan", "retrieval_reference")
_PLACE: Final = ("merchant_id", "terminal_id")
_ARRIVAL: Final = ("channel", "pos_entry_mode", "mcc", "merchant_name", "country", "state", "postal_code")
_ENTITIES: Final = ("party_id", "account_id", "card_token", "device_id", "ip")


class TransactionInvalid(Exception):
    """The transaction breaks its schema; the message names the field and what would be right, never the value."""


@dataclass(frozen=True)
class LiveFlow:
    """A transaction's identity in a run, and its four events in the order of the outputs."""

    flow_id: str
    decision_id: str
    events: tuple[dict[str, Any], ...]


def live_scenario(platform_run_id: str) -> str:
    """The scenario that all live transactions of a run belong to."""
    return derived_id("scenario", "live", platform_run_id)


def fan_out(transaction: Any, *, platform_run_id: str, producer: str) -> LiveFlow:
    """The four events of a transaction. Raises TransactionInvalid."""
    occurred_at = _checked(transaction)
    flow_id = str(transaction.get("flow_id") or transaction.get("transaction_id"))
    sequence = _sequence(platform_run_id, flow_id)
    place: dict[str, Any] = {name: transaction.get(name) for name in _PLACE} | {"arrival_seq": sequence}
    entities = {name: transaction.get(name) for name in _ENTITIES}
    payloads: dict[str, dict[str, Any]] = {
        "traffic": {
            "flow_id": flow_id,
            "amount_minor": transaction["amount_minor"],
            "currency": transaction["currency"],
            "message_type": transaction.get("message_type", MESSAGE_TYPE_DEFAULT),
            **{name: transaction[name] for name in _TRAFFIC if transaction.get(name) is not None},
        },
        "arrival_events": place | {name: transaction.get(name) for name in _ARRIVAL},
        "arrival_entities": place | entities,
        "flow_anchors": {"flow_id": flow_id} | place | entities,
    }
    events = tuple(
        make_event(
            event_type=output,
            payload=payloads[output],
            occurred_at=occurred_at,
            source_seq=sequence,
            platform_run_id=platform_run_id,
            scenario_run_id=live_scenario(platform_run_id),
            world=None,
            producer=producer,
        )
        for output in OUTPUTS
    )
    return LiveFlow(flow_id, derived_id("decision", platform_run_id, flow_id), events)


def _checked(transaction: Any) -> str:
    """The transaction's time in the one text form, when the whole of it is in shape."""
    try:
        _validator()(transaction)
        return iso(parse_iso(transaction["occurred_at"]))
    except fastjsonschema.JsonSchemaValueException as failure:
        text = failed_rule("", failure)
        raise TransactionInvalid(
            text.replace("event ", "transaction ", 1) if text.startswith("event ") else text
        ) from failure
    except (ValueError, OverflowError) as failure:
        raise TransactionInvalid("occurred_at must be ISO 8601 with an offset or Z") from failure


@cache
def _validator() -> Validator:
    compiled: Validator = fastjsonschema.compile(load_schema("transaction"), use_default=False)
    return compiled


def _sequence(platform_run_id: str, flow_id: str) -> int:
    return _SEQUENCE_BASE + int(derived_id("live_order", platform_run_id, flow_id)[:_SEQUENCE_HEX_DIGITS], 16)
