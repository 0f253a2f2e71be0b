"""The people and places of a generated world: customers with cards and habits, merchants with terminals.

Terms are the field's: ISO 18245 merchant category codes, ISO 8583 point-of-service entry modes. Addresses of the
network are from 198.18.0.0/15, which is reserved for tests and belongs to nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fraud_daemons.domain.identity import derived_id
from fraud_daemons.worlds.dice import Dice, Urn

ECOM: Final = "ECOM"
POS: Final = "POS"
ATM: Final = "ATM"
COUNTRY: Final = "US"

# state, first digits of its postal codes, share of the population
REGIONS: Final = (("CA", "90", 12), ("TX", "75", 9), ("FL", "33", 7), ("NY", "10", 6), ("IL", "60", 4), ("GA", "30", 3))

# mcc, trade, usual amount as a percentage of the customer's habit, channel, share of merchants
TRADES: Final = (
    ("5411", "Grocery", 110, POS, 20),
    ("5541", "Fuel", 130, POS, 12),
    ("5812", "Restaurant", 120, POS, 14),
    ("5814", "Quick Lunch", 35, POS, 14),
    ("5912", "Pharmacy", 70, POS, 8),
    ("5311", "Department Store", 220, POS, 5),
    ("4111", "Transit", 12, POS, 6),
    ("5732", "Electronics", 550, POS, 2),
    ("6011", "Cash Point", 260, ATM, 5),
    ("5942", "Books Online", 80, ECOM, 5),
    ("5816", "Games Online", 45, ECOM, 4),
    ("5691", "Clothing Online", 210, ECOM, 5),
    ("4722", "Travel Online", 800, ECOM, 2),
)
NAMES: Final = (
    "Northgate",
    "Harbor",
    "Maple",
    "Summit",
    "Riverside",
    "Union",
    "Lakeview",
    "Pioneer",
    "Cedar",
    "Beacon",
)


@dataclass(frozen=True, slots=True)
class Terminal:
    """A place where a card is used; an online shop has one terminal without a counter."""

    terminal_id: str
    merchant_id: str
    merchant_name: str
    mcc: str
    amount_percent: int
    channel: str
    state: str
    postal_code: str


@dataclass(frozen=True, slots=True)
class Card:
    """One card: whose it is, what its holder spends and where. Two cards of one party share party_id and habits."""

    card_token: str
    party_id: str
    account_id: str
    habit_minor: int
    activity: int
    near: tuple[int, ...]
    online: tuple[int, ...]
    device_id: str
    ip: str


@dataclass(frozen=True)
class Population:
    cards: Sequence[Card]
    terminals: Sequence[Terminal]
    online: Sequence[int]
    """Indices of the terminals of online shops."""


def populate(dice: Dice, *, label: str, parties: int, merchants: int) -> Population:
    """People and places; `label` (seed and size) enters every token, so two worlds never share a card by accident."""
    terminals = _terminals(dice, merchants)
    online = [index for index, terminal in enumerate(terminals) if terminal.channel == ECOM]
    by_state = {
        state: [i for i, t in enumerate(terminals) if t.state == state and t.channel != ECOM] for state, _, _ in REGIONS
    }
    cards: list[Card] = []
    states = Urn([share for _, _, share in REGIONS])
    for number in range(parties):
        cards += _cards_of(dice, label, number, local=by_state[REGIONS[states.draw(dice)][0]], online=online)
    return Population(cards=cards, terminals=terminals, online=online)


def network_address(dice: Dice) -> str:
    """An address of the test network 198.18.0.0/15."""
    return f"198.{18 + dice.below(2)}.{dice.below(256)}.{1 + dice.below(254)}"


def _terminals(dice: Dice, merchants: int) -> list[Terminal]:
    """One to three terminals per merchant; the first merchants cover every trade and region, the rest are drawn."""
    terminals: list[Terminal] = []
    trades = Urn([trade[4] for trade in TRADES])
    states = Urn([share for _, _, share in REGIONS])
    everywhere = len(TRADES) * len(REGIONS)
    for number in range(max(merchants, everywhere)):
        trade = TRADES[number % len(TRADES) if number < everywhere else trades.draw(dice)]
        state, digits, _ = REGIONS[number // len(TRADES) if number < everywhere else states.draw(dice)]
        mcc, title, amount_percent, channel, _ = trade
        for _ in range(1 if channel == ECOM else dice.between(1, 3)):
            terminals.append(
                Terminal(
                    terminal_id=f"T{len(terminals) + 1:07d}",
                    merchant_id=f"M{number + 1:06d}",
                    merchant_name=f"{dice.choice(NAMES)} {title} {number + 1}",
                    mcc=mcc,
                    amount_percent=amount_percent,
                    channel=channel,
                    state=state,
                    postal_code=f"{digits}{dice.below(1000):03d}",
                )
            )
    return terminals


def _cards_of(dice: Dice, label: str, number: int, *, local: Sequence[int], online: Sequence[int]) -> list[Card]:
    """The one or two cards of a party."""
    habit_minor = int(2800 * dice.lognormal(0.5))
    near = tuple(dice.choice(local) for _ in range(dice.between(5, 9)))
    shops = tuple(dice.choice(online) for _ in range(3))
    device_id = "dev-" + derived_id("device", label, number)[:16]
    ip = network_address(dice)
    activity = dice.between(1, 10)
    return [
        Card(
            card_token="card-" + derived_id("card", label, number, copy),
            party_id=f"P{number + 1:07d}",
            account_id=f"A{number + 1:07d}-{copy + 1}",
            habit_minor=habit_minor,
            activity=activity,
            near=near,
            online=shops,
            device_id=device_id,
            ip=ip,
        )
        for copy in range(2 if dice.chance(0.12) else 1)
    ]
