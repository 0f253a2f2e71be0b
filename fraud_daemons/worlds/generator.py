"""The built-in world: seeded, the same to the byte on every machine, with the three frauds of the Handbook.

    amount_outlier         one purchase far above what anybody usually pays
    compromised_terminal   for some days everything paid at one terminal is copied and fraudulent
    leaked_card            a burst of online purchases at five times the holder's habit, by a ring that shares devices;
                           for two days after it a quarter of the card's own traffic is fraudulent too

Incidents come in chapters of 200 transactions, so that every window of a stream, the first 200 above all, has
something to find; 1-2 % of the transactions are fraudulent. Truth comes one to fourteen days late, some of it wrong
first and corrected later, and some honest purchases are confirmed as such.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from fraud_daemons.clock import iso
from fraud_daemons.config.settings import currency as currency_problem
from fraud_daemons.domain.identity import derived_id
from fraud_daemons.errors import ConfigurationError
from fraud_daemons.worlds.dice import Dice, Urn
from fraud_daemons.worlds.population import ATM, COUNTRY, ECOM, Card, Population, Terminal, network_address, populate
from fraud_daemons.worlds.progress import Progress, reported, unseen
from fraud_daemons.worlds.sealed import World
from fraud_daemons.worlds.sealing import TRANSACTIONS_MAX, Provenance, name_problems, seal, sealing_folder
from fraud_daemons.worlds.transaction import Transaction, Truth

GENERATOR_VERSION: Final = 1  # a change of anything below that changes a world's bytes raises it
DEFAULT_NAME: Final = "demo"
DEFAULT_TRANSACTIONS: Final = 5000
DEFAULT_SEED: Final = 1
DEFAULT_CURRENCY: Final = "USD"
SEED_MAX: Final = 2**63 - 1

STARTS_AT: Final = datetime(2026, 3, 2, tzinfo=UTC)  # a Monday; fixed, a generated world does not know today
DAY_SECONDS: Final = 86_400
TRANSACTIONS_PER_DAY: Final = 715  # the default world is one week
DAYS_MAX: Final = 60  # larger worlds get denser instead, so that 30-day windows fill and empty
# purchases per hour of the day, as shares
RHYTHM: Final = (6, 4, 3, 2, 2, 4, 9, 18, 28, 32, 36, 42, 50, 46, 40, 38, 42, 52, 58, 50, 38, 28, 18, 10)
NIGHT_HOURS: Final = range(6)

CHAPTER: Final = 200
INCIDENT_SHARE_MAX: Final = 25  # at most one planted transaction in 25, however small the world
COMPROMISE_EVERY: Final = 900
LEAK_EVERY_CHAPTERS: Final = 4
LEAK_AFTERMATH_SHARE: Final = 0.25
LEAK_AFTERMATH_SECONDS: Final = 2 * DAY_SECONDS


@dataclass(frozen=True, slots=True)
class Moment:
    """A place in the schedule: when, and what is planted there. Sorts by time, then by the order of planning."""

    second: int
    ordinal: int
    incident: str | None = None
    card: int = 0
    ring: int = 0


@dataclass
class Chronicle:
    """The mutable part of telling a world: which cards have leaked until when, what truth is on its way."""

    leaked_until: dict[int, int] = field(default_factory=dict)
    truths: list[Truth] = field(default_factory=list)


def make_world(
    worlds_dir: Path,
    *,
    name: str = DEFAULT_NAME,
    transactions: int = DEFAULT_TRANSACTIONS,
    seed: int = DEFAULT_SEED,
    currency: str = DEFAULT_CURRENCY,
    progress: Progress = unseen,
) -> World:
    """Generate and seal a world; the same arguments give the same bytes. Raises ConfigurationError."""
    problems = name_problems(name)
    if not 1 <= transactions <= TRANSACTIONS_MAX:
        problems.append(f"transactions = {transactions}: must be between 1 and {TRANSACTIONS_MAX}")
    if not 0 <= seed <= SEED_MAX:
        problems.append(f"seed = {seed}: must be between 0 and {SEED_MAX}")
    if wrong := currency_problem(currency):
        problems.append(f"currency = {currency!r}: {wrong}")
    if problems:
        raise ConfigurationError(problems, source=f"world {name}")
    generator = Generator(transactions=transactions, seed=seed, currency=currency)
    origin = {"generator_version": GENERATOR_VERSION, "seed": seed, "transactions": transactions}
    with sealing_folder(worlds_dir, name) as folder:
        return seal(
            folder,
            worlds_dir=worlds_dir,
            name=name,
            transactions=reported(generator.transactions(), progress, total=transactions),
            truths=generator.truths(),
            provenance=Provenance(source="generator", currency=currency, origin=origin),
        )


class Generator:
    """Tells one world: first all transactions, then the truth about them."""

    def __init__(self, *, transactions: int, seed: int, currency: str) -> None:
        # every parameter enters the identity: a flow of another world must never meet this one's footprint
        self._label = f"generator-{GENERATOR_VERSION}/{seed}/{transactions}/{currency}"
        self._currency = currency
        self._count = transactions
        self._days = min(DAYS_MAX, 1 + (transactions - 1) // TRANSACTIONS_PER_DAY)
        self._dice = Dice(seed)
        self._people = populate(
            self._dice, label=self._label, parties=max(20, transactions // 22), merchants=max(40, transactions // 30)
        )
        self._holders = Urn([card.activity for card in self._people.cards])
        self._ring = [("dev-" + derived_id("ring", self._label, n)[:16], network_address(self._dice)) for n in range(4)]
        self._compromises = _compromises(
            self._dice, self._people, count=1 + transactions // COMPROMISE_EVERY, days=self._days
        )
        self._chronicle = Chronicle()

    def transactions(self) -> Iterator[Transaction]:
        """All transactions in order of time."""
        moments = _schedule(self._dice, cards=len(self._people.cards), count=self._count, days=self._days)
        for ordinal, moment in enumerate(moments):
            yield self._tell(ordinal, moment)

    def truths(self) -> Iterator[Truth]:
        """The labels in order of their observation; complete only after the last transaction."""
        yield from sorted(
            self._chronicle.truths, key=lambda truth: (truth.observed_at, truth.flow_id, truth.correction)
        )

    def _tell(self, ordinal: int, moment: Moment) -> Transaction:
        fraud_type: str | None
        match moment.incident:
            case "amount_outlier":
                card, terminal, fraud_type = self._outlier(moment)
                amount_minor = self._dice.between(150_000, 900_000)
            case "leaked_card":
                card, terminal, fraud_type = self._burst(moment)
                amount_minor = self._amount(card, terminal, factor=5)
            case _:
                card, terminal, fraud_type = self._ordinary(moment)
                amount_minor = self._amount(card, terminal, factor=5 if fraud_type == "leaked_card" else 1)
        device = self._device(card, terminal, moment)
        transaction = self._transaction(ordinal, moment, card, terminal, amount_minor=amount_minor, device=device)
        self._observe(transaction, fraud_type)
        return transaction

    def _outlier(self, moment: Moment) -> tuple[Card, Terminal, str]:
        people = self._people
        place = self._dice.below(len(people.terminals)) if self._dice.chance(0.5) else self._dice.choice(people.online)
        return people.cards[moment.card], people.terminals[place], "amount_outlier"

    def _burst(self, moment: Moment) -> tuple[Card, Terminal, str]:
        self._chronicle.leaked_until[moment.card] = moment.second + LEAK_AFTERMATH_SECONDS
        terminal = self._people.terminals[self._dice.choice(self._people.online)]
        return self._people.cards[moment.card], terminal, "leaked_card"

    def _ordinary(self, moment: Moment) -> tuple[Card, Terminal, str | None]:
        dice, people = self._dice, self._people
        holder = self._holders.draw(dice)
        card = people.cards[holder]
        at_night = moment.second % DAY_SECONDS // 3600 in NIGHT_HOURS
        if dice.chance(0.45 if at_night else 0.15):  # shops are shut, the net is open
            place = dice.choice(card.online)
        elif dice.chance(0.04):  # on a journey
            place = dice.below(len(people.terminals))
        else:
            place = dice.choice(card.near)
        fraud_type = None
        if any(since <= moment.second < until for since, until in self._compromises.get(place, ())):
            fraud_type = "compromised_terminal"
        elif moment.second < self._chronicle.leaked_until.get(holder, 0) and dice.chance(LEAK_AFTERMATH_SHARE):
            fraud_type = "leaked_card"
        return card, people.terminals[place], fraud_type

    def _amount(self, card: Card, terminal: Terminal, *, factor: int) -> int:
        usual = card.habit_minor * terminal.amount_percent * factor // 100
        amount_minor = max(50, int(usual * self._dice.lognormal(0.45)))
        return amount_minor - amount_minor % 2000 + 2000 if terminal.channel == ATM else amount_minor  # notes, no coins

    def _device(self, card: Card, terminal: Terminal, moment: Moment) -> dict[str, str]:
        """Device and address, known only where a card is used over the network."""
        if terminal.channel != ECOM:
            return {}
        device_id, ip = self._ring[moment.ring] if moment.incident else (card.device_id, card.ip)
        return {"device_id": device_id, "ip": ip}

    def _entry_mode(self, terminal: Terminal) -> str:
        """ISO 8583 field 22, first two digits: 81 online, 05 chip, 07 contactless, 90 magnetic stripe."""
        if terminal.channel == ECOM:
            return "81"
        if terminal.channel == ATM:
            return "05"
        roll = self._dice.below(100)
        return "07" if roll < 62 else "05" if roll < 97 else "90"

    def _transaction(
        self, ordinal: int, moment: Moment, card: Card, terminal: Terminal, *, amount_minor: int, device: dict[str, str]
    ) -> Transaction:
        fields = {
            "message_type": "0100",
            "processing_code": "010000" if terminal.channel == ATM else "000000",
            "stan": f"{ordinal % 1_000_000:06d}",
            "retrieval_reference": f"{ordinal:012d}",
            "merchant_id": terminal.merchant_id,
            "terminal_id": terminal.terminal_id,
            "channel": terminal.channel,
            "pos_entry_mode": self._entry_mode(terminal),
            "mcc": terminal.mcc,
            "merchant_name": terminal.merchant_name,
            "country": COUNTRY,
            "state": terminal.state,
            "postal_code": terminal.postal_code,
            "party_id": card.party_id,
            "account_id": card.account_id,
            "card_token": card.card_token,
        }
        return Transaction(
            flow_id=derived_id("flow", self._label, ordinal),
            occurred_at=iso(STARTS_AT + timedelta(seconds=moment.second)),
            amount_minor=amount_minor,
            currency=self._currency,
            fields=fields | device,
        )

    def _observe(self, transaction: Transaction, fraud_type: str | None) -> None:
        """What will be found out about a transaction, and when."""
        dice = self._dice
        if fraud_type is None:
            if dice.chance(0.01):
                wrong_first = dice.chance(0.1)  # a holder disputes a purchase and then remembers it
                self._report(transaction, ["disputed", None] if wrong_first else [None])
        else:
            wrong_first = dice.chance(0.05)  # "yes, that was me", until the statement comes
            self._report(transaction, [None, fraud_type] if wrong_first else [fraud_type])

    def _report(self, transaction: Transaction, words: list[str | None]) -> None:
        """One label per word, each one to fourteen days behind the one before; None means honest.

        Some holders answer the issuer's text message within the hour: theirs are the labels of the first day.
        """
        observed = datetime.fromisoformat(transaction.occurred_at)
        answered = self._dice.chance(0.3)
        for correction, fraud_type in enumerate(words):
            low, high = (120, 3600) if answered and correction == 0 else (DAY_SECONDS, 14 * DAY_SECONDS // len(words))
            observed += timedelta(seconds=self._dice.between(low, high))
            self._chronicle.truths.append(
                Truth(
                    flow_id=transaction.flow_id,
                    observed_at=iso(observed),
                    fraud=fraud_type is not None,
                    fraud_type=fraud_type,
                    effective_time=transaction.occurred_at,
                    source_ref=f"claim-{transaction.flow_id[:16]}-{correction}",
                    correction=correction,
                )
            )


def _schedule(dice: Dice, *, cards: int, count: int, days: int) -> list[Moment]:
    """When something happens: ordinary moments after the day's rhythm, and the incidents of each chapter among them."""
    plans = _plans(dice, count)
    hours = Urn(RHYTHM)
    seconds: list[int] = []
    for _ in range(count - sum(size for _, _, size in plans)):
        if seconds and dice.chance(0.02):  # a queue moves: two purchases in one second, ordered by source_seq alone
            seconds.append(seconds[-1])
        else:
            seconds.append(dice.below(days) * DAY_SECONDS + hours.draw(dice) * 3600 + dice.below(3600))
    seconds.sort()
    moments = [Moment(second, ordinal) for ordinal, second in enumerate(seconds)]
    for incident, chapter, size in plans:
        second = seconds[min(len(seconds) - 1, chapter * CHAPTER + dice.between(15, 165))]
        card, ring = dice.below(cards), dice.below(4)
        for _ in range(size):
            moments.append(Moment(second, len(moments), incident, card, ring))
            second += dice.between(15, 120)
    moments.sort(key=lambda moment: (moment.second, moment.ordinal))
    return moments


def _plans(dice: Dice, count: int) -> list[tuple[str, int, int]]:
    """(incident, chapter, transactions) for the whole world: an outlier per chapter (two in the first), now and then a leaked card."""
    room = count // INCIDENT_SHARE_MAX
    plans: list[tuple[str, int, int]] = []
    for chapter in range(1 + (count - 1) // CHAPTER):
        wanted = [("amount_outlier", chapter, 1)] * (2 if chapter == 0 else 1)
        if chapter % LEAK_EVERY_CHAPTERS == 0:
            wanted.append(("leaked_card", chapter, dice.between(4, 6)))
        for plan in wanted:
            if plan[2] <= room:
                plans.append(plan)
                room -= plan[2]
    return plans


def _compromises(dice: Dice, people: Population, *, count: int, days: int) -> dict[int, list[tuple[int, int]]]:
    """Terminal -> (since, until) seconds in which it copies cards, one to three days; the first from the beginning."""
    counters = [index for index, terminal in enumerate(people.terminals) if terminal.channel != ECOM]
    compromises: dict[int, list[tuple[int, int]]] = {}
    for number in range(count):
        since = 0 if number == 0 else dice.below(days * DAY_SECONDS)
        until = since + dice.between(DAY_SECONDS, 3 * DAY_SECONDS)
        compromises.setdefault(dice.choice(counters), []).append((since, until))
    return compromises
