"""Admission: in ONE transaction what was admitted before is looked up, the rest is appended to the log, and its
receipts, refusals and repeats are written.

Two requests may bring the same new event at the same moment. Nobody locks ids for that: the one that comes second
finds a key taken that was free, rolls back and looks again, and then sees a repeat. The same holds for who does not look
at all: large batches of a sender who has repeated nothing lately are written in hope, and looked up when that was wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, lru_cache
from typing import NamedTuple

import orjson

from fraud_daemons.bus.port import OutRecord, partition_of
from fraud_daemons.bus.postgres_log import PostgresBus
from fraud_daemons.clock import Clock, iso
from fraud_daemons.domain.admission import (
    Candidate,
    Identity,
    Item,
    Refusal,
    Repeat,
    Settled,
    judge,
    named_runs,
    settle,
)
from fraud_daemons.domain.envelope import PROGRESS_MARK
from fraud_daemons.errors import OverloadFault
from fraud_daemons.postgres_runtime.connector import Connection
from fraud_daemons.runtime.database import Database
from fraud_daemons.state import admissions, runs
from fraud_daemons.state.admissions import Receipt
from fraud_daemons.state.principals import Principal
from fraud_daemons.workers.control_ingress._gate_receipts import FreshReceipts, Lot, lots

ATTEMPTS_MAX = 3
HOPE_AFTER_BATCHES = 8
"""So many large batches of a sender without a repeat, and the next is not looked up: a look costs a third of an admission,
to be overtaken a whole one. A sender who goes over a stream again is overtaken once and then looked up."""
HOPE_EVENTS_MIN = 100
"""A smaller batch is always looked up: it costs next to nothing, and a live caller's retry is the likeliest repeat."""
RUNS_REMEMBERED_SECONDS = 10.0
RUNS_REMEMBERED_MAX = 10_000
QUARANTINE_TOPIC = "quarantine"


Place = tuple[int, int]
"""(partition, position)."""


class Appended(NamedTuple):
    """What became of fresh candidates, made while the server wrote them: to be said when that is committed."""

    places: Sequence[Place]
    """Of a mark the first of its places."""
    answers: Sequence[str]
    lots: Sequence[Lot]


@dataclass(frozen=True)
class Admitted:
    """How a settled batch ended: the receipts that were there before, and what became of each fresh candidate."""

    settled: Settled
    known: Mapping[Identity, Receipt]
    at: datetime
    appended: Appended
    """Of `settled.fresh`, in its order."""


Decide = Callable[[Mapping[Identity, Receipt]], Settled]
"""What earlier receipts say about candidates -> what to do with them."""


class Intake:
    """Admits events of one principal at a time; safe to use from several threads."""

    def __init__(
        self,
        *,
        database: Database,
        runs_database: Database,
        bus: PostgresBus,
        clock: Clock,
        currency: str,
        fresh: FreshReceipts,
    ) -> None:
        self._database = database
        self._runs_database = runs_database
        self._bus = bus
        self._clock = clock
        self._currency = currency
        self._fresh = fresh
        self._runs: set[str] = set()
        self._runs_asked = 0.0
        self._without_repeat: Counter[str] = Counter()
        """By sender: large batches in a row that held no repeat. Two threads at once may lose one: it is only a guess."""
        self.answered: Counter[str] = Counter()
        """Events answered since the process began, by answer: for metrics. The truth is in the tables."""

    def admit(self, items: list[Item], principal: Principal) -> Admitted:
        """Judge, dedupe, admit and append. `items` is emptied: to free what a body was parsed into takes its time, and while
        the server writes there is some.

        Raises TransientFault, CommitAmbiguous and OverloadFault; after any of them the same batch may be sent again.
        """
        candidates, refusals = judge(
            items, scope=principal.event_types, currency=self._currency, known_runs=self._known(named_runs(items))
        )

        def decide(known: Mapping[Identity, Receipt]) -> Settled:
            settled = settle(candidates, {identity: receipt.payload_hash for identity, receipt in known.items()})
            return Settled(settled.fresh, settled.repeats, (*refusals, *settled.refusals))

        return self.commit(candidates, decide, principal, meanwhile=items.clear)

    def commit(
        self,
        candidates: Sequence[Candidate],
        decide: Decide,
        principal: Principal,
        *,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> Admitted:
        """Settle candidates against what was admitted before and make the outcome durable, in one transaction.

        `meanwhile` is done once or more while the server writes.
        """
        hopes = len(candidates) >= HOPE_EVENTS_MIN and self._without_repeat[principal.name] >= HOPE_AFTER_BATCHES
        for looks in ((False,) if hopes else ()) + (True,) * ATTEMPTS_MAX:
            try:
                with self._database.scope() as connection:
                    known = admissions.receipts(connection, [c.identity for c in candidates]) if looks else {}
                    admitted = self._write(
                        connection, known, decide(known), principal, at=self._clock.now(), meanwhile=meanwhile
                    )
            except admissions.Overtaken:
                continue
            self._fresh.keep(admitted.appended.lots)
            self._count(admitted.settled)
            self._remember(admitted, principal, candidates=len(candidates))
            return admitted
        raise OverloadFault("the same events come in over several connections at once", reason="gate: overtaken")

    def _remember(self, admitted: Admitted, principal: Principal, *, candidates: int) -> None:
        """Whether the sender is one who repeats: by what was found, so within one batch nothing counts."""
        if candidates >= HOPE_EVENTS_MIN:
            self._without_repeat[principal.name] = 0 if admitted.known else self._without_repeat[principal.name] + 1

    def _count(self, settled: Settled) -> None:
        self.answered.update(
            admitted=len(settled.fresh), duplicate=len(settled.repeats), quarantined=len(settled.refusals)
        )

    def _write(
        self,
        connection: Connection,
        known: Mapping[Identity, Receipt],
        settled: Settled,
        principal: Principal,
        *,
        at: datetime,
        meanwhile: Callable[[], None],
    ) -> Admitted:
        """Raises Overtaken."""
        new_ids = admissions.quarantine(connection, settled.refusals, producer=principal.name, at=at)
        admissions.count_repeats(connection, _by_type(settled.repeats), producer=principal.name)
        refused = _quarantine_records(settled.refusals, new_ids)
        appended = self._append(connection, settled.fresh, refused, producer=principal.name, at=at, meanwhile=meanwhile)
        return Admitted(settled, known, at, appended)

    def admit_again(self, connection: Connection, fresh: Sequence[Candidate], *, producer: str, at: datetime) -> bool:
        """Admit what was refused before, in the caller's transaction; False when another request was faster: roll back."""
        try:
            self._append(connection, fresh, [], producer=producer, at=at)
        except admissions.Overtaken:
            return False
        self.answered.update(admitted=len(fresh))
        return True

    def _append(
        self,
        connection: Connection,
        fresh: Sequence[Candidate],
        others: Sequence[OutRecord],
        *,
        producer: str,
        at: datetime,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> Appended:
        """Records and receipts of fresh candidates, and other records behind them. While the server writes the ones, the
        others are made. Raises Overtaken."""
        owners, first_of = self._spread(connection, fresh)
        records = [OutRecord(topic, key, event_id, run, body) for _, (run, _, event_id), topic, key, body in owners]
        with self._bus.log(connection).appending([*records, *others]) as placed:
            places = [placed[index] for index in first_of]
            hashes_of_owners = [owner.payload_hash for owner in owners]
            hashes = [hashes_of_owners[index] for index in first_of]
            rows = admissions.rows_of(fresh, hashes, places, producer=producer, at=at)
        with admissions.admitting(connection, rows):
            answered = admitted_answers(fresh, hashes, places, at=at)
            receipts = lots(owners, hashes_of_owners, placed[: len(owners)], producer=producer, at=at)
            meanwhile()
        return Appended(places, answered, receipts)

    def _spread(self, connection: Connection, fresh: Sequence[Candidate]) -> tuple[Sequence[Candidate], Sequence[int]]:
        """A candidate for each record, and the index of the (first) one of each: a mark goes to every partition."""
        if not any(candidate.identity.event_type == PROGRESS_MARK for candidate in fresh):
            return fresh, range(len(fresh))
        partitions = self._bus.partitions(connection)
        spread: list[Candidate] = []
        first_of: list[int] = []
        for candidate in fresh:
            first_of.append(len(spread))
            if candidate.is_mark:
                keys = keys_of_partitions(partitions.get(candidate.topic, 1))
                spread += [candidate._replace(key=key) for key in keys]
            else:
                spread.append(candidate)
        return spread, first_of

    def _known(self, named: set[str]) -> set[str]:
        """Those of the named runs that exist. A run may be retired: nothing of it is admitted then, for what would be known
        as a repeat by is deleted. So runs are asked for again every few seconds, long before that begins."""
        now = self._clock.monotonic()
        if now - self._runs_asked > RUNS_REMEMBERED_SECONDS:
            self._runs, self._runs_asked = set(), now
        unknown = named - self._runs
        if unknown:
            with self._runs_database.scope() as connection:
                found = runs.existing(connection, unknown)
            if len(self._runs) + len(found) > RUNS_REMEMBERED_MAX:
                self._runs = set()
            self._runs |= found
            return (named - unknown) | found
        return named


@cache
def keys_of_partitions(partitions: int) -> tuple[str, ...]:
    """One key per partition that lands in it: how a mark reaches all of them."""
    keys: dict[int, str] = {}
    number = 0
    while len(keys) < partitions:  # bounded: CRC-32 spreads, and there are at most 64 partitions
        key = f"mark-{number}"
        keys.setdefault(partition_of(key, partitions), key)
        number += 1
    return tuple(keys[partition] for partition in range(partitions))


def answers(admitted: Admitted) -> list[str]:
    """One answer per event as a JSON object, in the order of the request."""
    settled = admitted.settled
    found = [""] * (len(settled.fresh) + len(settled.repeats) + len(settled.refusals))
    for candidate, answer in zip(settled.fresh, admitted.appended.answers, strict=True):
        found[candidate.nth] = answer
    receipts = _receipts_of_repeats(admitted) if settled.repeats else {}
    for index, identity in settled.repeats:
        digest, _, topic, partition, position, at = receipts[identity]
        found[index] = _receipt_answer("DUPLICATE", identity.event_id, topic, partition, position, digest, _stamp(at))
    for refusal in settled.refusals:
        found[refusal.index] = _refusal_answer(refusal)
    return found


def admitted_answers(
    fresh: Sequence[Candidate], hashes: Sequence[str], places: Sequence[Place], *, at: datetime
) -> list[str]:
    """What is said of each fresh candidate once it is committed."""
    stamp = _stamp(at)
    return [
        _receipt_answer("ADMITTED", event_id, topic, partition, position, digest, stamp)
        for (_, (_, _, event_id), topic, _, _), digest, (partition, position) in zip(fresh, hashes, places, strict=True)
    ]


def _receipts_of_repeats(admitted: Admitted) -> Mapping[Identity, Receipt]:
    """What was there before, and what came earlier in the same batch."""
    fresh = zip(admitted.settled.fresh, admitted.appended.places, strict=True)
    return {
        **{c.identity: Receipt(c.payload_hash, "", c.topic, *place, admitted.at) for c, place in fresh},
        **admitted.known,
    }


def _receipt_answer(
    status: str, event_id: str, topic: str, partition: int, position: int, payload_hash: str, admitted_at: str
) -> str:
    """Put together by hand, at a third of an encoder's price: nothing of it, an admitted event's id neither, has a quote."""
    return (
        f'{{"event_id":"{event_id}","status":"{status}","receipt":{{"topic":"{topic}","partition":{partition},'
        f'"position":{position},"payload_hash":"{payload_hash}","admitted_at":"{admitted_at}"}}}}'
    )


def _refusal_answer(refusal: Refusal) -> str:
    answer = {
        "event_id": refusal.identity.event_id or None,
        "status": "QUARANTINED",
        "reason": refusal.reason,
        "detail": refusal.detail,
        "quarantine_id": refusal.quarantine_id,
    }
    return orjson.dumps(answer).decode()


_stamp = lru_cache(maxsize=64)(iso)  # a batch shares one moment; formatting it 450 times would cost 7 ms


def _by_type(repeats: Sequence[Repeat]) -> Counter[tuple[str, str]]:
    return Counter((repeat.identity.platform_run_id, repeat.identity.event_type) for repeat in repeats)


def _quarantine_records(refusals: Sequence[Refusal], new_ids: set[str]) -> list[OutRecord]:
    """One record per new refusal, so that the sealer has ordered positions; the payload stays in the table."""
    left = set(new_ids)
    records = []
    for refusal in refusals:
        if refusal.quarantine_id in left:
            left.discard(refusal.quarantine_id)
            records.append(_quarantine_record(refusal))
    return records


def _quarantine_record(refusal: Refusal) -> OutRecord:
    run, event_type, event_id = refusal.identity
    body = {
        "quarantine_id": refusal.quarantine_id,
        "platform_run_id": run,
        "event_id": event_id,
        "event_type": event_type,
        "reason": refusal.reason,
        "detail": refusal.detail,
        "payload_sha256": refusal.payload_sha256,
    }
    return OutRecord(QUARANTINE_TOPIC, refusal.quarantine_id, refusal.quarantine_id, run, orjson.dumps(body))
