"""What the gate decides about a batch, before and after it has looked at what it admitted earlier. Pure.

`read_batch` turns a body into items, `judge` sorts them into candidates and refusals, `settle` holds the candidates
against the identity law: same id and same hash is a repeat, another hash an anomaly that is kept apart. It refuses
nothing on its own account: the rules for one event live in `schemas`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import orjson

from fraud_daemons.domain.card_numbers import holds_pan, without_long_numbers, without_pans
from fraud_daemons.domain.envelope import EVENT_TYPES, MARK_KEYS, PROGRESS_MARK
from fraud_daemons.domain.identity import canonical_json, derived_id, frame_key
from fraud_daemons.domain.schemas import ReasonCode, is_plain, validate_event

UNPINNED: Final = ""
"""Run of a refusal whose event named no run that exists."""

NAME_CHARACTERS_MAX: Final = 64

MARK_KEY: Final = f"{MARK_KEYS}0"
"""The key of a mark as it comes; where a topic has several partitions, copies with other keys go to the rest."""

_OF_EVENTS: Final = frozenset(EVENT_TYPES) - {PROGRESS_MARK}
"""The topics that marks stand behind."""


class Malformed(Exception):
    """The body as a whole is not JSON; the message says where."""


class TooMany(Exception):
    """The body holds more events than a request may; the message says how many."""


class Identity(NamedTuple):
    """What admission is unique by; also the key of ig.admissions."""

    platform_run_id: str
    event_type: str
    event_id: str


class Item(NamedTuple):
    """One event of a body: its value, and its own bytes where the format has them (a line of NDJSON)."""

    value: Any
    raw: bytes | None = None
    broken: str | None = None
    """Why the line is no JSON at all; None when it is."""
    plain: bool = False
    """No text of it can hold a control character."""


class Candidate(NamedTuple):
    """A valid event: where it goes, and the bytes that are stored and forwarded."""

    nth: int
    """In its request, from 0."""
    identity: Identity
    topic: str
    key: str
    body: bytes

    @property
    def payload_hash(self) -> str:
        """SHA-256 of the body in hex, worked out at each call."""
        return hashlib.sha256(self.body).hexdigest()

    @property
    def is_mark(self) -> bool:
        return self.identity.event_type == PROGRESS_MARK


@dataclass(frozen=True, slots=True)
class Refusal:
    """An event that is not admitted: why, and its original bytes but for card numbers."""

    index: int
    identity: Identity
    reason: str
    detail: str
    body: bytes
    payload_sha256: str

    @property
    def quarantine_id(self) -> str:
        """Derived, so that the same refusal of the same bytes is one row however often it comes."""
        run, _, event_id = self.identity
        return derived_id("quarantine", run, event_id, self.payload_sha256, self.reason)


class Repeat(NamedTuple):
    """An event that was admitted before, or earlier in the same batch."""

    nth: int
    identity: Identity


@dataclass(frozen=True)
class Settled:
    """A batch held against what was admitted before."""

    fresh: tuple[Candidate, ...]
    """In the order of the append: events as they came, marks behind them."""
    repeats: tuple[Repeat, ...]
    refusals: tuple[Refusal, ...]


def read_batch(body: bytes, *, ndjson: bool, events_max: int) -> list[Item]:
    """The events of a body: one object, an array, or one object per line. Raises Malformed and TooMany."""
    if ndjson:
        return _lines(body, events_max)
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if body.lstrip()[:1] == b"{" and b"\n" in body.strip():  # lines sent under the name of plain JSON
            return _lines(body, events_max)
        raise Malformed(f"the body is not JSON: {error}") from error
    events = value if isinstance(value, list) else [value]
    _check_number(len(events), events_max)
    plain = is_plain(body)
    return [Item(event, None, None, plain) for event in events]


def _check_number(events: int, events_max: int) -> None:
    if events > events_max:
        raise TooMany(f"{events} events; at most {events_max} fit")


def _lines(body: bytes, events_max: int) -> list[Item]:
    lines = [line for line in body.split(b"\n") if line.strip()]
    _check_number(len(lines), events_max)
    items = [_line(line) for line in lines]
    if items and all(item.broken for item in items):
        raise Malformed(f"no line of the body is JSON; the first: {items[0].broken}")
    return items


def _line(line: bytes) -> Item:
    try:
        return Item(value=orjson.loads(line), raw=line)
    except orjson.JSONDecodeError as error:
        return Item(value=None, raw=line, broken=str(error))


def judge(
    items: Sequence[Item], *, scope: Collection[str], currency: str | None, known_runs: Collection[str]
) -> tuple[list[Candidate], list[Refusal]]:
    """Every item either a candidate or a refusal. `known_runs` holds those runs of the batch that exist."""
    good: list[int] = []
    refusals: list[Refusal] = []
    for index, item in enumerate(items):
        wrong = _wrong(item, scope=scope, currency=currency, known_runs=known_runs)
        if wrong is None:
            good.append(index)
        else:
            refusals.append(_refusal(index, item, *wrong, known_runs=known_runs))
    return _candidates(good, [items[index].value for index in good]), refusals


class Unjudged(NamedTuple):
    """A batch that looks as if all of it were valid: room can be made for it before it is judged."""

    events: list[Any]
    order: Sequence[int]
    """The indexes of the events as they are to be appended, marks behind the others."""
    topics: Sequence[str]
    """In that order."""
    plain: bool
    """As of an `Item`."""


def at_a_glance(body: bytes, *, ndjson: bool, events_max: int, scope: Collection[str]) -> Unjudged | None:
    """The events of a body and where each goes, should all be valid; None when one is seen not to be, or the body is wrong."""
    try:
        value = [*map(orjson.loads, body.splitlines())] if ndjson else orjson.loads(body)
        if not isinstance(value, list) or len(value) > events_max:
            return None
        topics = [event["event_type"] for event in value]
        if not all(topic in scope for topic in set(topics)):
            return None
        order: Sequence[int] = range(len(topics))
        if PROGRESS_MARK in topics:
            order = sorted(order, key=lambda nth: topics[nth] == PROGRESS_MARK)
            topics = [_topic(value[nth]) for nth in order]
            if not _OF_EVENTS.issuperset(topics):
                return None
    except (orjson.JSONDecodeError, KeyError, TypeError, IndexError):
        return None
    return Unjudged(value, order, topics, is_plain(body))


def judge_all_good(
    batch: Unjudged, nths: Sequence[int], *, currency: str | None, known_runs: Collection[str]
) -> list[Candidate] | None:
    """The candidates that these events of a batch are; None when one of them is none."""
    events = [batch.events[nth] for nth in nths]
    for event in events:
        if validate_event(event, currency=currency, plain=batch.plain) is not None:
            return None
        if event["pins"]["platform_run_id"] not in known_runs:
            return None
    return _candidates(nths, events)


def _candidates(nths: Iterable[int], events: Sequence[dict[str, Any]]) -> list[Candidate]:
    return list(map(_candidate, nths, events, canonical_bodies(events)))


_BETWEEN: Final = b'},{"event_id":'
"""Where one event of a canonical array ends and the next begins, and nowhere else: `event_id` sorts first in an envelope,
quotes inside a text are escaped, and no schema lets an array of objects into an event."""


def canonical_bodies(events: Sequence[dict[str, Any]]) -> list[bytes]:
    """`canonical_json` of each valid event. All in one call and cut apart: a call for each costs four times as much."""
    parts = canonical_json(events)[1:-1].split(_BETWEEN)
    if len(parts) != len(events):
        return [canonical_json(event) for event in events]
    if len(parts) == 1:
        return parts
    first, *middle, last = parts
    return [first + b"}", *[b'{"event_id":%b}' % part for part in middle], b'{"event_id":' + last]


def _wrong(
    item: Item, *, scope: Collection[str], currency: str | None, known_runs: Collection[str]
) -> tuple[str, str] | None:
    """(reason, detail) of the first thing that is wrong with an item."""
    if item.broken:
        return ReasonCode.ENVELOPE_INVALID, f"the line is not JSON: {item.broken}"
    event = item.value
    rejection = validate_event(event, currency=currency, plain=item.plain)
    if rejection is not None:
        return rejection.code, rejection.detail
    if event["event_type"] not in scope:
        return ReasonCode.EVENT_TYPE_NOT_IN_SCOPE, f"this key may not send {event['event_type']}"
    if event["pins"]["platform_run_id"] not in known_runs:
        return (
            ReasonCode.RUN_UNKNOWN,
            "pins.platform_run_id names no run, or one that was retired; begin one with: platform run new",
        )
    return None


def named_runs(events: Sequence[Any]) -> set[str]:
    """The runs that events name, whatever else is wrong with them."""
    try:
        named = {event["pins"]["platform_run_id"] for event in events}
    except (KeyError, TypeError, IndexError):  # one of them has no such place, or something else stands there
        return {run for event in events if (run := _named_run(event))}
    return {run for run in named if _is_run_name(run)}


def _named_run(event: Any) -> str | None:
    pins = event.get("pins") if isinstance(event, dict) else None
    run = pins.get("platform_run_id") if isinstance(pins, dict) else None
    return run if _is_run_name(run) else None


def _is_run_name(run: Any) -> bool:
    return isinstance(run, str) and 0 < len(run) <= NAME_CHARACTERS_MAX and run.isprintable()


def _topic(event: dict[str, Any]) -> str:
    """Where an event goes: its type names the topic, a mark what it stands behind."""
    topic: str = event["payload"]["output"] if event["event_type"] == PROGRESS_MARK else event["event_type"]
    return topic


_new: Final = tuple.__new__
"""A NamedTuple made by its name costs twice as much, and there are two to an event."""


def _candidate(nth: int, event: dict[str, Any], body: bytes) -> Candidate:
    event_type, payload = event["event_type"], event["payload"]
    topic = event_type
    if event_type in ("arrival_events", "arrival_entities"):
        key = frame_key(payload["merchant_id"], payload["terminal_id"], payload["arrival_seq"])
    elif event_type == PROGRESS_MARK:
        topic, key = payload["output"], MARK_KEY
    else:
        key = payload["flow_id"]
    identity = _new(Identity, (event["pins"]["platform_run_id"], event_type, event["event_id"]))
    return _new(Candidate, (nth, identity, topic, key, body))


def _refusal(index: int, item: Item, reason: str, detail: str, *, known_runs: Collection[str]) -> Refusal:
    event = item.value if isinstance(item.value, dict) else {}
    run = _named_run(item.value)
    body = without_long_numbers(item.raw or b"") if item.broken else without_pans(item.value, item.raw)
    return Refusal(
        index=index,
        identity=Identity(
            run if run in known_runs and run else UNPINNED,
            _name(event.get("event_type")),
            _name(event.get("event_id")),
        ),
        reason=reason,
        detail=detail,
        body=body,
        payload_sha256=hashlib.sha256(body).hexdigest(),
    )


def _name(value: Any) -> str:
    """A claimed name as far as it can be kept in a text column; "" when it is none."""
    is_name = isinstance(value, str) and value.isprintable() and not holds_pan(value)
    return value[:NAME_CHARACTERS_MAX] if is_name else ""


def settle(candidates: Sequence[Candidate], admitted: Mapping[Identity, str]) -> Settled:
    """Hold candidates against `admitted` (identity -> payload hash) and against one another, in order."""
    first: dict[Identity, Candidate] = {}
    fresh: list[Candidate] = []
    repeats: list[Repeat] = []
    refusals: list[Refusal] = []
    for candidate in candidates:
        seen = admitted.get(candidate.identity)
        if seen is not None:
            same = seen == candidate.payload_hash
        elif (earlier := first.setdefault(candidate.identity, candidate)) is not candidate:
            same = earlier.body == candidate.body
        else:
            fresh.append(candidate)
            continue
        if same:
            repeats.append(Repeat(candidate.nth, candidate.identity))
        else:
            refusals.append(mismatch(candidate))
    fresh.sort(key=lambda candidate: candidate.is_mark)  # stable: marks come after what they cover
    return Settled(tuple(fresh), tuple(repeats), tuple(refusals))


def mismatch(candidate: Candidate, *, body: bytes | None = None) -> Refusal:
    """The refusal of another payload under an id that is taken; `body` when the original came in another shape."""
    kept = candidate.body if body is None else body
    return Refusal(
        index=candidate.nth,
        identity=candidate.identity,
        reason=ReasonCode.PAYLOAD_HASH_MISMATCH,
        detail="this event_id was admitted with another payload; both are kept",
        body=kept,
        payload_sha256=hashlib.sha256(kept).hexdigest(),
    )
