"""Which entities a bound flow shows, and which of them it shows together. Pure; how they are kept is `state.graph`'s business.

An edge always has the card on its left: whatever else a transaction names was seen *with that card*. A flow without a
card shows entities and no edges.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

KINDS: Final = ("card", "terminal", "merchant", "party", "account", "device", "ip")
DEPTH_MAX: Final = 3
FAN_OUT_MAX: Final = 100
SCAN_MAX: Final = 10_000
"""Edges of one entity that a look at its neighbours reads at most; an entity with more is told to be a supernode."""


class Sighting(NamedTuple):
    """How often, and between which event times (ISO texts), something was seen."""

    first_seen: str
    last_seen: str
    flows: int


@dataclass(frozen=True, slots=True)
class Shown:
    """What one flow shows: its entities, the card among them if it has one, and when."""

    occurred_at: str
    card: str | None
    others: tuple[str, ...]


def shown_by(flow: Mapping[str, Any]) -> Shown:
    """The entities of a `flows.bound` record. Raises KeyError or TypeError when it breaks its contract."""
    with_anchor = flow["anchor"] or {}
    with_entities = flow["entities"] or {}
    ids = {
        "terminal": flow["terminal_id"],
        "merchant": flow["merchant_id"],
        "party": with_anchor.get("party_id") or with_entities.get("party_id"),
        "account": with_anchor.get("account_id") or with_entities.get("account_id"),
        "device": with_anchor.get("device_id") or with_entities.get("device_id"),
        "ip": with_anchor.get("ip") or with_entities.get("ip"),
    }
    for kind, value in (*ids.items(), ("card", flow["card_token"])):
        if not isinstance(value, str | None):
            raise TypeError(f"{kind} must be a text or null")
    card = flow["card_token"]
    return Shown(
        flow["occurred_at"],
        f"card:{card}" if card else None,
        tuple(f"{kind}:{value}" for kind, value in ids.items() if value),
    )


def merged(shown: Iterable[Shown]) -> tuple[dict[str, Sighting], dict[tuple[str, str], Sighting]]:
    """Entities and edges (card, other) of a batch, each once: no row is written twice in one statement."""
    entities: dict[str, Sighting] = {}
    edges: dict[tuple[str, str], Sighting] = {}
    for flow in shown:
        at = flow.occurred_at
        if flow.card:
            entities[flow.card] = _seen(entities.get(flow.card), at)
        for other in flow.others:
            entities[other] = _seen(entities.get(other), at)
            if flow.card:
                edges[flow.card, other] = _seen(edges.get((flow.card, other)), at)
    return entities, edges


def _seen(before: Sighting | None, at: str) -> Sighting:
    if before is None:
        return Sighting(at, at, 1)
    return Sighting(min(before.first_seen, at), max(before.last_seen, at), before.flows + 1)
