"""world_stream_producer: streams sealed worlds to the gate, and keeps its own journal of what it sent and was answered.

A STREAM_READY message makes a row in wsp.streams; the streamer works on one stream at a time, in rounds. A round's end
is fixed in the table before anything of it is sent, and journal, totals and cursors move in one transaction after the
last answer. So after a kill anywhere the same round goes out again, with the same events and marks, and the gate absorbs
what it had taken already. A later request on the same run goes on behind the cursor.

It starts a stream only when every worker that the stream feeds takes records on, and says which one it waits for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fraud_daemons.domain.envelope import OUTPUTS, TRUTH
from fraud_daemons.errors import ConfigurationError, TransientFault
from fraud_daemons.observability import events
from fraud_daemons.runtime.activity import Activity, Outcome, PlainActivity
from fraud_daemons.runtime.worker import Worker, WorkerContext
from fraud_daemons.state import streams
from fraud_daemons.state.streams import FEEDS, JournalEntry, Stream, Tally
from fraud_daemons.workers.control_ingress._producer_client import GateClient
from fraud_daemons.workers.control_ingress._producer_hold import waiting_for
from fraud_daemons.workers.control_ingress._producer_pacing import Pacing
from fraud_daemons.workers.control_ingress._producer_requests import StreamRequests
from fraud_daemons.workers.control_ingress._producer_rounds import (
    END_OF_WORLD,
    PRODUCER,
    Bounds,
    Part,
    Pins,
    packed,
    parts_of,
    stop_reason_at,
    truth_end,
)
from fraud_daemons.worlds.sealed import World, open_world

IDLE_REST_SECONDS = 0.25

Answers = list[dict[str, Any]]


@dataclass
class _Round:
    """The round that is being sent, and the answers that came so far."""

    stream_id: str
    bounds: Bounds
    posts: list[list[Part]]
    answers: list[Answers] = field(default_factory=list)


@dataclass
class _Current:
    """The stream that is being worked on, as of the last commit."""

    stream: Stream
    world: World
    limit: int
    """The row behind the stream's last."""
    marked: int
    """Rows of the run's cursor: a mark at or below it was sent before."""


class Streamer(PlainActivity):
    """Sends one stream at a time, a POST per step, so that the loop beats between them."""

    def __init__(self, context: WorkerContext, client: GateClient) -> None:
        self.name = f"{context.worker.name}.streamer"
        self._context = context
        self._client = client
        get = context.profile.get
        self._post_events_max: int = get("gate.batch_events_max")
        # rows and the mark behind them are one part, and a part is never split over two requests
        self._rows_max: int = min(get("producer.round_transactions_max"), self._post_events_max - 1)
        self._current: _Current | None = None
        self._round: _Round | None = None
        self._world: World | None = None
        self._pacing = Pacing()

    def step(self) -> Outcome:
        current = self._current or self._take_up()
        if current is None:
            return Outcome(rest_seconds=IDLE_REST_SECONDS)
        if current.stream.next_index == current.limit:  # nothing is left to send: the cursor stood there already
            return self._end_round(current, None)
        if self._round is None:
            rest = self._begin_round(current)
            if rest > 0:
                return Outcome(rest_seconds=rest)
        return self._send(current)

    def forget(self) -> None:
        """The table says where we are. Answers stay: they are facts, and count while the same round is being sent."""
        self._current = None
        self._pacing.restart()
        self._client.close()

    def close(self) -> None:
        self._client.close()

    def _take_up(self) -> _Current | None:
        """The oldest open stream, begun if it waits; None when there is none."""
        with self._context.database.scope() as connection:
            stream = streams.oldest_open(connection)
        if stream is None:
            return None
        try:
            world = self._open(stream.world)
        except ConfigurationError as error:
            self._give_up(stream, error)
            return None
        if stream.state == "WAITING":
            trouble = waiting_for(self._context.profile, self._context.clock)
            if trouble is not None:
                raise TransientFault(trouble, reason=trouble)
            stream = self._begin(stream)
        self._current = self._placed(stream, world)
        self._context.log.info(
            events.STREAM_STARTED, **self._named(stream), next_index=stream.next_index, limit=self._current.limit
        )
        return self._current

    def _open(self, name: str) -> World:
        """The sealed world; opening one hashes all of it, so the last one stays open over faults."""
        if self._world is None or self._world.name != name:
            self._world = open_world(self._context.profile.path("worlds"), name)
        return self._world

    def _begin(self, stream: Stream) -> Stream:
        """Fix where the stream starts: behind the cursor, or at the beginning again."""
        with self._context.database.scope() as connection:
            cursors = streams.cursors(connection, platform_run_id=stream.platform_run_id, world=stream.world)
            again = stream.request.get("from") == "start"
            streams.begin(
                connection,
                stream,
                first_index=0 if again else min(cursors[output] for output in OUTPUTS),
                truth_next=0 if again else cursors[TRUTH],
                at=self._context.clock.now(),
            )
        with self._context.database.scope() as connection:
            begun = streams.find(connection, stream.stream_id)
        if begun is None:
            raise TransientFault(f"stream {stream.stream_id} vanished from wsp.streams", reason="stream vanished")
        return begun

    def _placed(self, stream: Stream, world: World) -> _Current:
        """Where the stream stands, its end, and the run's cursor; a round in memory that is not its round is dropped."""
        with self._context.database.scope() as connection:
            cursors = streams.cursors(connection, platform_run_id=stream.platform_run_id, world=stream.world)
        asked = stream.request.get("max_events_per_output")
        cap = asked or self._context.profile.get("producer.max_events_per_output") or world.transactions
        first, limit = stream.first_index or 0, world.transactions
        self._pacing = Pacing(rate=stream.request.get("rate"), speedup=stream.request.get("speedup"))
        current = _Current(
            stream, world, limit=max(first, min(first + cap, limit)), marked=min(cursors[output] for output in OUTPUTS)
        )
        if stream.round_end is None:
            self._round = None
        elif not self._sending(stream, self._bounds(current, stream.round_end)):
            self._round = self._planned(current, stream.round_end)
        return current

    def _sending(self, stream: Stream, bounds: Bounds) -> bool:
        """Whether the round in memory is that very round."""
        sending = self._round
        return sending is not None and (sending.stream_id, sending.bounds) == (stream.stream_id, bounds)

    def _begin_round(self, current: _Current) -> float:
        """Fix the next round's end and plan it; seconds to rest first when its time has not come."""
        stream, world = current.stream, current.world
        start = stream.next_index or 0
        rows = world.read("traffic", start, min(self._rows_max, current.limit - start))
        turn = self._pacing.turn(
            now=self._context.clock.monotonic(), index=start, times=[row["occurred_at"] for row in rows]
        )
        if turn.transactions == 0:
            return turn.rest_seconds
        end = start + turn.transactions
        with self._context.database.scope() as connection:
            streams.intend_round(connection, stream, round_end=end)
        current.stream = replace(stream, round_end=end)
        self._round = self._planned(current, end)
        return 0.0

    def _bounds(self, current: _Current, end: int) -> Bounds:
        return Bounds(
            start=current.stream.next_index or 0,
            end=end,
            truth_start=current.stream.truth_next or 0,
            stop_reason=stop_reason_at(end, limit=current.limit, transactions=current.world.transactions),
            with_marks=end > current.marked,
        )

    def _planned(self, current: _Current, end: int) -> _Round:
        stream, bounds = current.stream, self._bounds(current, end)
        pins = Pins(stream.platform_run_id, current.world.scenario_run_id, stream.world)
        parts = parts_of(current.world, bounds, pins, rows_max=self._rows_max)
        return _Round(stream.stream_id, bounds, packed(parts, events_max=self._post_events_max))

    def _send(self, current: _Current) -> Outcome:
        """The next POST of the round; after the last one, the commit."""
        sending = self._round
        if sending is None:
            raise AssertionError("a round is planned before it is sent")
        if len(sending.answers) < len(sending.posts):
            post = [event for part in sending.posts[len(sending.answers)] for event in part.everything]
            sending.answers.append(self._client.post(post))
        if len(sending.answers) < len(sending.posts):
            return Outcome()
        return self._end_round(current, sending)

    def _end_round(self, current: _Current, ended: _Round | None) -> Outcome:
        """Journal, totals, place and cursors in one transaction; `ended` is None for a stream with nothing left to send."""
        stream = current.stream
        outputs = {feed: replace(stream.outputs.get(feed, Tally())) for feed in FEEDS}
        journal = _journal(ended, outputs) if ended else []
        truth_next = truth_end(current.world, ended.bounds) if ended else stream.truth_next or 0
        stop_reason = ended.bounds.stop_reason if ended else END_OF_WORLD
        for tally in outputs.values():
            tally.stop_reason = stop_reason
        with self._context.database.scope() as connection:
            streams.end_round(
                connection,
                stream,
                truth_next=truth_next,
                outputs=outputs,
                journal=journal,
                done=stop_reason is not None,
                at=self._context.clock.now(),
            )
        self._round = None
        end = stream.round_end if stream.round_end is not None else stream.next_index
        current.stream = replace(stream, next_index=end, round_end=None, truth_next=truth_next, outputs=outputs)
        if stop_reason is not None:
            self._current = None
            self._context.log.info(
                events.STREAM_ENDED,
                **self._named(current.stream),
                stop_reason=stop_reason,
                sent=outputs["traffic"].sent,
            )
        return Outcome(records=sum(len(entry.event_ids) for entry in journal))

    def _give_up(self, stream: Stream, error: ConfigurationError) -> None:
        """A world that is not there or was changed: this stream can never be sent, the next one may."""
        with self._context.database.scope() as connection:
            streams.fail(connection, stream, reason=str(error.problems[0]), at=self._context.clock.now())
        self._context.log.info(events.STREAM_ENDED, **self._named(stream), stop_reason="failed", reason=error.reason)

    def _named(self, stream: Stream) -> dict[str, Any]:
        """How a log line says which stream it is about."""
        return {"stream_id": stream.stream_id, "platform_run_id": stream.platform_run_id, "world": stream.world}


def _journal(ended: _Round, outputs: dict[str, Tally]) -> list[JournalEntry]:
    """What was sent and answered, part by part; adds to the totals on the way. Marks are journalled and not counted."""
    entries = []
    for post, answers in zip(ended.posts, ended.answers, strict=True):
        at = 0
        for part in post:
            statuses = [answer["status"] for answer in answers[at : at + len(part.events)]]
            at += len(part.events)
            mark_status = answers[at]["status"] if part.mark else None
            at += 1 if part.mark else 0
            _count(outputs[part.output], statuses)
            entries.append(
                JournalEntry(
                    output=part.output,
                    first_index=part.first_index,
                    event_ids=[event["event_id"] for event in part.events],
                    statuses=statuses,
                    mark_id=part.mark["event_id"] if part.mark else None,
                    mark_status=mark_status,
                )
            )
    return entries


def _count(tally: Tally, statuses: Sequence[str]) -> None:
    tally.sent += len(statuses)
    tally.admitted += statuses.count("ADMITTED")
    tally.duplicate += statuses.count("DUPLICATE")
    tally.quarantined += statuses.count("QUARANTINED")


def build(context: WorkerContext) -> list[Activity]:
    """The consumer of requests, and the streamer."""
    profile = context.profile
    deadline, beat_age = profile.get("database.client_deadline_seconds"), profile.get("loop.beat_age_seconds_max")
    client = GateClient(
        address=lambda: (profile.get("gate.host"), context.port_of("gate")),
        read_key=lambda: context.read_secrets().get("gate", {}).get("producer_key"),
        clock=context.clock,
        # above the gate's deadline for its database, so that it can say why; below a beat's age, for nobody beats meanwhile
        answer_seconds_max=(deadline + beat_age) / 2,
    )
    return [context.consumer(StreamRequests(), topics=WORKER.consumes), Streamer(context, client)]


WORKER = Worker(
    name=PRODUCER,
    schema="wsp",
    dsn="WSP_CHECKPOINT_DSN",
    build=build,
    consumes=("control",),
    equations=("world_slice_equals_sent", "sent_equals_admitted_plus_quarantined"),
)
