"""Which entities a bound flow shows, and which of them it shows together. Pure; how they are kept is `state.graph`'s business.

An edge always has the card on its left: whatever else a transaction names was seen *with that card*. A flow without a
card shows entities and no edges.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

Seen = TypeVar("Seen", str, tuple[str, str])

KINDS: Final = ("card", "terminal", "merchant", "party", "account", "device", "ip")
DEPTH_MAX: Final = 3
FAN_OUT_MAX: Final = 100
SCAN_MAX: Final = 10_000
"""Edges of one entity that a look at its neighbours reads at most; an entity with more is told to be a supernode."""


Sighting = list[int]
"""[first, last, flows]: between which event times (microseconds since the epoch), and how often, something was seen."""


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


def merged(shown: Iterable[tuple[int, Shown]]) -> tuple[dict[str, Sighting], dict[tuple[str, str], Sighting]]:
    """Entities and edges (card, other) of a batch, each once: no row is written twice in one statement.

    `shown` gives each flow with its event time in microseconds."""
    entities: dict[str, Sighting] = {}
    edges: dict[tuple[str, str], Sighting] = {}
    for at, flow in shown:
        card = flow.card
        if card:
            _see(entities, card, at)
        for other in flow.others:
            _see(entities, other, at)
            if card:
                _see(edges, (card, other), at)
    return entities, edges


def _see(seen: dict[Seen, Sighting], what: Seen, at: int) -> None:
    before = seen.get(what)
    if before is None:
        seen[what] = [at, at, 1]
        return
    if at < before[0]:
        before[0] = at
    elif at > before[1]:
        before[1] = at
    before[2] += 1
