"""The consumer's step: read a batch at the checkpoint, let the handler decide, and in ONE transaction write state,
outgoing records and the checkpoint.

On the bus's own server the outgoing records are appended to the log in that same transaction, last. When the bus is on
another server they go to the outbox, and the same step forwards it, in order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from psycopg import sql

from fraud_daemons.bus import outbox
from fraud_daemons.bus.port import Record, TopicPartition
from fraud_daemons.bus.postgres_log import PostgresBus, channel_of
from fraud_daemons.checkpoints.port import Claim, Move
from fraud_daemons.checkpoints.postgres import PostgresCheckpoints
from fraud_daemons.clock import Clock
from fraud_daemons.errors import FatalFault, PoisonFault
from fraud_daemons.observability import events
from fraud_daemons.observability.logs import Logger
from fraud_daemons.postgres_runtime.connector import Connection
from fraud_daemons.runtime.activity import Outcome
from fraud_daemons.runtime.database import Database
from fraud_daemons.runtime.letter_limit import LetterLimit
from fraud_daemons.runtime.redriving import Redriving
from fraud_daemons.runtime.unit_of_work import UnitOfWork
from fraud_daemons.state.letter_orders import OpenRedrive

LAG_INTERVAL_SECONDS = 1.0
WARM_SECONDS = 0.1
WARM_POLLS = 2
"""After its last record a reader looks often for this long, at most this many times further apart than when busy: a topic
that is never idle for 50 ms sends no notification, and a reader that backed off meanwhile would add its rest to the latency
of every record. A topic that was idle for longer wakes its readers, so looking often for longer finds nothing."""

REST_PER_STEP = 1.5
REST_AFTER_STEP_MAX_SECONDS = 0.1
"""After a batch that was not full a reader rests so many times as long as the batch took, and no notification wakes it when that
is longer than a busy reader's own pause. On a busy machine steps take longer, so batches grow and the fixed price of a step
is paid by more records; on a quiet one a step takes a few milliseconds, and every notification wakes the reader."""

HELD_SECONDS = 0.5
"""What a handler held back is read again when a record came on another of its partitions, and at the latest after this."""


class Handler(Protocol):
    """The worker's own part: what a batch means."""

    def handle(self, records: Sequence[Record], unit: UnitOfWork) -> None:
        """Turn `records` (in order per partition) into state and outgoing records. Raises PoisonFault for a bad one.

        `unit.hold(record)` leaves a record, and those behind it in its partition, for a later step."""

    def forget(self) -> None:
        """Drop in-memory state: the last step failed or its fate is unknown."""


class StatelessHandler:
    """Defaults for a handler that holds nothing between batches."""

    def forget(self) -> None:
        """Nothing is held."""


@dataclass(frozen=True)
class Pace:
    """How much at once and how often to look."""

    batch_records_max: int = 500
    poll_busy_seconds: float = 0.02
    poll_idle_seconds: float = 0.5
    gather_seconds: float = 0.0
    """How long records gather after a batch that was not full, whatever wakes the reader: fewer, larger batches."""
    dead_letters_run_max: int = 200
    dead_letters_share_max: float = 0.5


class Consumer:
    """An activity that reads topics. `choose` may narrow the topics per step (all subscriptions by default);
    `wants_idle` asks for `handle([])` when nothing came, for handlers with timers; `from_what_is_left` begins where a
    trimmed topic begins: for requests, which are for nobody who was not there when they were made."""

    def __init__(
        self,
        *,
        name: str,
        handler: Handler,
        topics: Sequence[str],
        database: Database,
        bus: PostgresBus,
        same_server: bool,
        clock: Clock,
        log: Logger,
        pace: Pace,
        choose: Callable[[Connection], Sequence[str]] | None = None,
        wants_idle: bool = False,
        from_what_is_left: bool = False,
    ) -> None:
        self.name = name
        self.dead_letters = 0
        self._handler = handler
        self._topics = tuple(topics)
        self._database = database
        self._bus = bus
        self._same_server = same_server
        self._clock = clock
        self._log = log
        self._pace = pace
        self._choose = choose
        self._wants_idle = wants_idle
        self._from_what_is_left = from_what_is_left
        self._limit = pace.batch_records_max
        self._claim: Claim | None = None
        self._positions: dict[TopicPartition, int] | None = None
        self._batch: list[Record] = []
        self._isolating = False
        self._letters = LetterLimit(pace.dead_letters_run_max, pace.dead_letters_share_max)
        self._idle_rest = pace.poll_busy_seconds
        self._last_records = -WARM_SECONDS
        self._step_began = 0.0
        self._gathers_until = 0.0
        self._lag: int | None = None
        self._lag_measured = -LAG_INTERVAL_SECONDS
        self._listening_on: Connection | None = None
        self._held: frozenset[TopicPartition] = frozenset()
        self._held_until = 0.0
        self._redriving = Redriving(name, database=database, clock=clock, log=log)

    def step(self) -> Outcome:
        if self._claim is None:
            return self._take_claim()
        if not self._same_server:
            self._forward()
        if self._redrive(self._claim):
            return Outcome(records=1)
        self._batch = []
        self._step_began = self._clock.monotonic()
        with self._database.scope() as connection:
            self._listen(connection)
            positions = self._positions or self._load(connection, self._claim)
            records, full = self._read(connection, positions)
            if not records and not self._wants_idle:
                return self._idle(connection, positions)
            self._batch = records
            unit = UnitOfWork(connection, worker=self.name, now=self._clock.now(), positions=positions)
            self._handler.handle(records, unit)
            taken = [record for record in records if not unit.holds(record)] if unit.held else records
            self._letters.refuse_beyond(
                records=len(taken), letters=unit.dead_letters, topic=self._topics[0], reason=unit.letter_reason
            )
            moves = _moves(positions, taken, unit.skips)
            self._publish(connection, unit)
            PostgresCheckpoints(connection).advance(self._claim, moves)
            self._measure_lag(connection, positions, moves)
        self._batch = taken
        return self._committed(positions, moves, unit, full=full)

    def forget(self) -> None:
        self._positions = None
        self._listening_on = None
        self._handler.forget()

    def shrink(self) -> bool:
        if self._limit == 1:
            return False
        self._limit = max(1, min(self._limit, len(self._batch) or self._limit) // 2)
        return True

    def isolate(self, fault: PoisonFault) -> bool:
        """Halve the batch until one record is left, then set that one aside and step past it in one transaction."""
        if not self._batch or self._claim is None:
            return False
        if len(self._batch) > 1:
            self._limit, self._isolating = len(self._batch) // 2, True
            return True
        record = self._batch[0]
        self._letters.refuse_beyond(records=1, letters=1, topic=record.topic, reason=fault.reason)
        with self._database.scope() as connection:
            unit = UnitOfWork(connection, worker=self.name, now=self._clock.now())
            unit.dead_letter(record, reason=fault.reason, detail=str(fault))
            where = (record.topic, record.partition)
            PostgresCheckpoints(connection).advance(self._claim, {where: (record.position, record.position + 1)})
        self._positions, self._isolating = None, False
        self._letters.count(records=1, letters=1)
        self.dead_letters += 1
        self._log.error(
            events.RECORD_DEAD_LETTERED,
            topic=record.topic,
            partition=record.partition,
            position=record.position,
            reason=fault.reason,
        )
        return True

    def detail(self) -> dict[str, Any]:
        """What the handler adds to the heartbeat, if anything."""
        told: dict[str, Any] = getattr(self._handler, "detail", dict)()
        return told

    def lag_records(self) -> int | None:
        return self._lag

    def wake_files(self) -> list[int]:
        if self._clock.monotonic() < self._gathers_until:
            return []
        connection = self._database.idle_connection() if self._same_server else None
        return [connection.fileno()] if connection is not None and connection is self._listening_on else []

    def close(self) -> None:
        """Nothing is half done between steps."""

    def _take_claim(self) -> Outcome:
        with self._bus.scope() as connection:
            partitions = self._bus.partitions(connection)
            begins = self._bus.log(connection).beginnings(self._topics) if self._from_what_is_left else {}
        missing = [topic for topic in self._topics if topic not in partitions]
        if missing:
            raise FatalFault(
                f"topics {', '.join(missing)} do not exist; run platform up", reason=f"bus: no topic {missing[0]}"
            )
        subscriptions = [(topic, p) for topic in self._topics for p in range(partitions[topic])]
        with self._database.scope() as connection:
            checkpoints = PostgresCheckpoints(connection)
            claim = checkpoints.claim(self.name, subscriptions)
            left = {where: begins.get(TopicPartition(*where), 0) for where in claim.positions}
            moves = {where: (at, left[where]) for where, at in claim.positions.items() if at < left[where]}
            checkpoints.advance(claim, moves)
        self._claim = claim
        self._log.info(events.CHECKPOINT_CLAIMED, activity=self.name, epoch=claim.epoch)
        return Outcome()

    def _load(self, connection: Connection, claim: Claim) -> dict[TopicPartition, int]:
        found = PostgresCheckpoints(connection).positions(claim)
        return {TopicPartition(*where): position for where, position in found.items()}

    def _read(self, connection: Connection, positions: Mapping[TopicPartition, int]) -> tuple[list[Record], bool]:
        """A batch, and whether more is waiting."""
        topics = self._choose(connection) if self._choose else self._topics
        held = self._held if self._clock.monotonic() < self._held_until else frozenset()
        wanted = {
            where: position for where, position in positions.items() if where.topic in topics and where not in held
        }
        if self._same_server:
            records = self._bus.log(connection).read(wanted, limit=self._limit)
        else:
            with self._bus.transaction() as log:
                records = log.read(wanted, limit=self._limit)
        full = len(records) >= self._limit
        isolating = self._isolating or self._limit < self._pace.batch_records_max
        return (records[: self._limit] if isolating else records), full

    def _publish(self, connection: Connection, unit: UnitOfWork) -> None:
        if self._same_server:
            self._bus.log(connection).append(unit.outgoing)
        else:
            outbox.put(connection, self.name, unit.outgoing)

    def _redrive(self, claim: Claim) -> bool:
        """One record that a person ordered out of the dead letters, beside the order of its topic."""

        def handle(redrive: OpenRedrive, unit: UnitOfWork) -> None:
            if self._choose:
                self._choose(unit.connection)
            self._handler.handle([Record(*redrive.fields)], unit)
            if not unit.held:
                self._publish(unit.connection, unit)
                PostgresCheckpoints(unit.connection).advance(claim, _moves(dict(unit.positions), [], unit.skips))

        done = self._redriving.step(handle, lambda connection: self._positions or self._load(connection, claim))
        if done:
            self.forget()  # one that failed may have left something in memory, one that is done came out of order
        return done

    def _forward(self) -> None:
        """Send on what an earlier step left in the outbox."""
        with self._database.scope() as connection:
            waiting = outbox.pending(connection, self.name)
            if waiting and self._claim is not None:  # a copy that slept through its successor's start sends nothing on
                PostgresCheckpoints(connection).positions(self._claim)
        if waiting:
            outbox.forward(self._bus, self.name, waiting)
            with self._database.scope() as connection:
                outbox.forget(connection, self.name, up_to=waiting[-1][0])

    def _idle(self, connection: Connection, positions: dict[TopicPartition, int]) -> Outcome:
        self._positions = positions
        if self._held:
            self._measure_lag(connection, positions, {})
        else:
            self._lag = 0
        return Outcome(rest_seconds=self._quiet_rest())

    def _quiet_rest(self) -> float:
        """How long to rest when nothing came: doubling, but often enough while the topic is warm."""
        rest = self._idle_rest
        warm = self._clock.monotonic() - self._last_records < WARM_SECONDS
        most = WARM_POLLS * self._pace.poll_busy_seconds if warm else self._pace.poll_idle_seconds
        self._idle_rest = min(most, self._idle_rest * 2)
        return max(rest, self._pace.gather_seconds)

    def _committed(
        self,
        positions: dict[TopicPartition, int],
        moves: Mapping[tuple[str, int], Move],
        unit: UnitOfWork,
        *,
        full: bool,
    ) -> Outcome:
        for where, (_, target) in moves.items():
            positions[TopicPartition(*where)] = target
        self._positions = positions
        self.dead_letters += unit.dead_letters
        self._letters.count(records=len(self._batch), letters=unit.dead_letters)
        self._limit, self._isolating = min(self._pace.batch_records_max, self._limit * 2), False
        if self._batch:
            self._idle_rest = self._pace.poll_busy_seconds
            self._last_records = self._clock.monotonic()
            self._log.debug(
                events.BATCH_COMMITTED, activity=self.name, records=len(self._batch), published=len(unit.outgoing)
            )
        # of a full batch that is held the rest of the topics was perhaps not read
        came_on = full or (bool(self._batch) and bool(self._held))
        busy = came_on or unit.more_waiting or (not self._same_server and unit.outgoing)
        self._hold(unit)
        rest = self._rest_after_batch() if self._batch else self._quiet_rest()
        return Outcome(records=len(self._batch), rest_seconds=0.0 if busy else rest)

    def _hold(self, unit: UnitOfWork) -> None:
        """Leave held partitions out until something came on another one: till then the answer would be the same.

        Kept over a failed step, so that halving a poisonous batch is not stopped by held records in front; the time
        limit covers a step whose commit got no answer."""
        if unit.held:
            self._held = frozenset(TopicPartition(*where) for where in unit.held)
            self._held_until = self._clock.monotonic() + HELD_SECONDS
        elif self._batch:
            self._held = frozenset()

    def _rest_after_batch(self) -> float:
        now = self._clock.monotonic()
        took = now - self._step_began
        breath = min(REST_AFTER_STEP_MAX_SECONDS, REST_PER_STEP * took)
        rest = max(self._idle_rest, self._pace.gather_seconds, breath)
        if self._pace.gather_seconds or breath > self._pace.poll_busy_seconds:
            self._gathers_until = now + rest
        return rest

    def _listen(self, connection: Connection) -> None:
        """Ask this connection for notifications; they count from the end of this transaction."""
        if self._same_server and connection is not self._listening_on:
            for topic in self._topics:
                connection.execute(sql.SQL("listen {}").format(sql.Identifier(channel_of(topic))))
            self._listening_on = connection

    def _measure_lag(
        self, connection: Connection, positions: Mapping[TopicPartition, int], moves: Mapping[tuple[str, int], Move]
    ) -> None:
        """Records behind the heads, at most once a second: a busy reader must not pay for its own gauge."""
        now = self._clock.monotonic()
        if now - self._lag_measured < LAG_INTERVAL_SECONDS:
            return
        self._lag_measured = now
        if self._same_server:
            heads = self._bus.log(connection).heads(self._topics)
        else:
            with self._bus.transaction() as log:
                heads = log.heads(self._topics)
        at: dict[Any, int] = {**positions, **{where: target for where, (_, target) in moves.items()}}
        self._lag = sum(max(0, head - at.get(where, head)) for where, head in heads.items())


def _moves(
    positions: Mapping[TopicPartition, int], records: Sequence[Record], skips: Mapping[tuple[str, int], int]
) -> dict[tuple[str, int], Move]:
    """From where to where each subscription moves: past the last record read, or to where the handler skipped."""
    targets: dict[tuple[str, int], int] = dict(skips)
    for record in records:
        where = (record.topic, record.partition)
        targets[where] = max(record.position + 1, targets.get(where, 0))
    return {
        where: (positions[TopicPartition(*where)], target)
        for where, target in targets.items()
        if target > positions[TopicPartition(*where)]
    }
