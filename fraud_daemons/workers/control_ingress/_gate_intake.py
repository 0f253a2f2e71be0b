"""Admission: in ONE transaction what was admitted before is looked up, the rest is appended to the log, and its
receipts, refusals and repeats are written.

Two requests may bring the same new event at the same moment. Nobody locks ids for that: the one that comes second
finds a key taken that was free, rolls back and looks again, and then sees a repeat. The same holds for who does not look
at all: large batches of a sender whose last ones were all new and valid are written in hope. They are not even judged
before: the server writes the first events while the gate judges the next, and where the hope was wrong nothing is kept and
the batch is done over with care.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import orjson

from fraud_daemons.bus.port import OutRecord
from fraud_daemons.bus.postgres_log import PostgresBus
from fraud_daemons.clock import Clock
from fraud_daemons.domain.admission import (
    Candidate,
    Identity,
    Item,
    Refusal,
    Repeat,
    Settled,
    at_a_glance,
    judge,
    judge_all_good,
    named_runs,
    settle,
)
from fraud_daemons.errors import OverloadFault
from fraud_daemons.postgres_runtime.connector import Connection
from fraud_daemons.runtime.database import Database
from fraud_daemons.state import admissions, runs
from fraud_daemons.state.admissions import Receipt
from fraud_daemons.state.principals import Principal
from fraud_daemons.workers.control_ingress._gate_answers import refusal_answer, repeat_answer
from fraud_daemons.workers.control_ingress._gate_appending import Appended, append, append_judged
from fraud_daemons.workers.control_ingress._gate_receipts import FreshReceipts

ATTEMPTS_MAX = 3
HOPE_AFTER_BATCHES = 8
"""So many large batches of a sender in which all was valid and new, and the next is written in hope: to look it up costs a
third of an admission, to be disappointed a whole one. A sender who goes over a stream again disappoints once."""
HOPE_EVENTS_MIN = 100
"""A smaller batch is always looked up: it costs next to nothing, and a live caller's retry is the likeliest repeat."""
PART_EVENTS = 50
"""So many events are judged at a time: fewer would be dearer to encode, of more the server would learn later."""
RUNS_REMEMBERED_SECONDS = 10.0
RUNS_REMEMBERED_MAX = 10_000
QUARANTINE_TOPIC = "quarantine"


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


class _Disappointed(Exception):
    """A batch written in hope holds an event that is refused: the transaction must roll back."""


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
        self._all_fresh: Counter[str] = Counter()
        """By sender: large batches in a row that were all valid and new. Two threads at once may lose one: it is only a guess."""
        self.answered: Counter[str] = Counter()
        """Events answered since the process began, by answer: for metrics. The truth is in the tables."""

    def admit_in_hope(
        self, body: bytes, principal: Principal, *, ndjson: bool = False, events_max: int
    ) -> Admitted | None:
        """Admit a large batch of a sender whose last ones were all valid and new as if this one were: the server writes the
        first events while the next are judged. None when it is not so, or not worth a hope; then nothing was admitted, and
        `admit` has the last word.

        Raises what `admit` raises.
        """
        if self._all_fresh[principal.name] < HOPE_AFTER_BATCHES:
            return None
        batch = at_a_glance(body, ndjson=ndjson, events_max=events_max, scope=principal.event_types)
        if batch is None or len(batch.events) < HOPE_EVENTS_MIN:
            return None
        known_runs = self._known(named_runs(batch.events))

        def in_parts() -> Iterator[Sequence[Candidate]]:
            for first in range(0, len(batch.order), PART_EVENTS):
                nths = batch.order[first : first + PART_EVENTS]
                part = judge_all_good(batch, nths, currency=self._currency, known_runs=known_runs)
                if part is None:
                    raise _Disappointed
                yield part

        try:
            with self._database.scope() as connection:
                log = self._bus.log(connection)
                if not log.undivided(set(batch.topics)):
                    return None
                at = self._clock.now()
                destinations = [(topic, "") for topic in batch.topics]
                appended = append(
                    connection, log, in_parts(), destinations,
                    producer=principal.name, at=at, meanwhile=batch.events.clear,
                )  # fmt: skip
        except (admissions.Overtaken, _Disappointed):
            return None
        return self._committed(Admitted(Settled(tuple(appended.fresh), (), ()), {}, at, appended), principal)

    def admit(self, items: list[Item], principal: Principal) -> Admitted:
        """Judge, dedupe, admit and append. `items` is emptied: to free what a body was parsed into takes its time, and while
        the server writes there is some.

        Raises TransientFault, CommitAmbiguous and OverloadFault; after any of them the same batch may be sent again.
        """
        known_runs = self._known(named_runs([item.value for item in items]))
        candidates, refusals = judge(items, scope=principal.event_types, currency=self._currency, known_runs=known_runs)

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
        for _ in range(ATTEMPTS_MAX):
            try:
                with self._database.scope() as connection:
                    known = admissions.receipts(connection, [c.identity for c in candidates])
                    admitted = self._write(
                        connection, known, decide(known), principal, at=self._clock.now(), meanwhile=meanwhile
                    )
            except admissions.Overtaken:
                continue
            return self._committed(admitted, principal)
        raise OverloadFault("the same events come in over several connections at once", reason="gate: overtaken")

    def _committed(self, admitted: Admitted, principal: Principal) -> Admitted:
        """What this process remembers of a batch once it is durable."""
        self._fresh.keep(admitted.appended.lots)
        settled = admitted.settled
        self.answered.update(
            admitted=len(settled.fresh), duplicate=len(settled.repeats), quarantined=len(settled.refusals)
        )
        if settled.repeats or settled.refusals:
            self._all_fresh[principal.name] = 0
        elif len(settled.fresh) >= HOPE_EVENTS_MIN:
            self._all_fresh[principal.name] += 1
        return admitted

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
        appended = append_judged(
            connection,
            self._bus.log(connection),
            settled.fresh,
            refused,
            producer=principal.name,
            at=at,
            meanwhile=meanwhile,
        )
        return Admitted(settled, known, at, appended)

    def admit_again(self, connection: Connection, fresh: Sequence[Candidate], *, producer: str, at: datetime) -> bool:
        """Admit what was refused before, in the caller's transaction; False when another request was faster: roll back."""
        try:
            append_judged(connection, self._bus.log(connection), fresh, (), producer=producer, at=at)
        except admissions.Overtaken:
            return False
        self.answered.update(admitted=len(fresh))
        return True

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


def answers(admitted: Admitted) -> list[str]:
    """One answer per event as a JSON object, in the order of the request."""
    settled = admitted.settled
    found = [""] * (len(settled.fresh) + len(settled.repeats) + len(settled.refusals))
    for candidate, answer in zip(settled.fresh, admitted.appended.answers, strict=True):
        found[candidate.nth] = answer
    receipts = _receipts_of_repeats(admitted) if settled.repeats else {}
    for index, identity in settled.repeats:
        found[index] = repeat_answer(identity.event_id, receipts[identity])
    for refusal in settled.refusals:
        found[refusal.index] = refusal_answer(refusal)
    return found


def _receipts_of_repeats(admitted: Admitted) -> Mapping[Identity, Receipt]:
    """What was there before, and what came earlier in the same batch."""
    fresh = zip(admitted.settled.fresh, admitted.appended.places, strict=True)
    return {
        **{c.identity: Receipt(c.payload_hash, "", c.topic, *place, admitted.at) for c, place in fresh},
        **admitted.known,
    }


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
