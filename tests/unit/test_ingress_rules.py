"""Pure parts of control and ingress: pacing, live transactions, reading a batch."""

from __future__ import annotations

from itertools import pairwise

import orjson
import pytest

from fraud_daemons.domain.admission import Malformed, read_batch
from fraud_daemons.domain.live_transaction import TransactionInvalid, fan_out
from fraud_daemons.domain.schemas import validate_event
from fraud_daemons.workers.control_ingress._producer_pacing import WINDOW_SECONDS, Pacing
from fraud_daemons.workers.control_ingress._producer_rounds import Part, packed

RUN = "platform_20260101T000000Z"
TIMES = [f"2026-01-01T00:{n // 60:02d}:{n % 60:02d}.000000Z" for n in range(600)]


@pytest.mark.parametrize("rate", [1.0, 7.0, 300.0, 5000.0])
def test_a_rate_is_never_exceeded_by_more_than_a_window_and_is_reached(rate: float) -> None:
    """Whatever moments the turns come at, what was sent stays within one window of rate x time."""
    pacing, now, index = Pacing(rate=rate), 100.0, 40
    while now < 110.0:
        turn = pacing.turn(now=now, index=index, times=TIMES[:450])
        index += turn.transactions
        ahead = (index - 40) - rate * (now - 100.0)
        assert ahead <= max(1, rate * WINDOW_SECONDS) + 1
        now += turn.rest_seconds or 0.013
    assert index - 40 >= min(rate * 10.0, 450 * 10 / 0.013) * 0.95 - 1


def test_speedup_follows_event_time() -> None:
    """At speedup 60 a minute of the world takes a second; nothing due means a rest until the next event."""
    pacing = Pacing(speedup=60.0)
    assert pacing.turn(now=0.0, index=0, times=TIMES).transactions == 4  # seconds 0 to 3 lie in the first window
    assert pacing.turn(now=1.0, index=4, times=TIMES[4:]).transactions == 60
    turn = pacing.turn(now=1.0, index=64, times=TIMES[64:])
    assert turn.transactions == 0
    assert 0 < turn.rest_seconds <= 0.1


def test_a_schedule_begins_anew_after_a_restart() -> None:
    """An outage is not followed by a flood."""
    pacing = Pacing(rate=100.0)
    pacing.turn(now=0.0, index=0, times=TIMES)
    assert pacing.turn(now=60.0, index=5, times=TIMES).transactions == len(TIMES)
    pacing.restart()
    assert pacing.turn(now=60.0, index=5, times=TIMES).transactions == 5


def test_parts_are_packed_in_order_within_the_limit() -> None:
    """No POST is larger than the gate takes, and no part overtakes another."""
    parts = [Part("traffic", n, [{}] * size, {"mark": True}) for n, size in enumerate((0, 450, 450, 3, 900, 2))]
    posts = packed(parts, events_max=1000)
    assert [part.first_index for post in posts for part in post] == list(range(6))
    assert all(sum(len(part.everything) for part in post) <= 1000 for post in posts)
    assert len(posts) == 2


def test_a_live_transaction_gives_four_valid_events_of_one_flow() -> None:
    """All four pass the gate's own rules, share one place in the order, and come out the same each time."""
    transaction = {"flow_id": "f-1", "occurred_at": "2026-02-10T10:19:51+01:00", "amount_minor": 5, "currency": "USD"}
    flow = fan_out(transaction, platform_run_id=RUN, producer="client")
    assert flow == fan_out(transaction, platform_run_id=RUN, producer="client")
    assert [validate_event(event, currency="USD") for event in flow.events] == [None] * 4
    assert {event["occurred_at"] for event in flow.events} == {"2026-02-10T09:19:51.000000Z"}
    sequences = {event["source_seq"] for event in flow.events}
    assert len(sequences) == 1
    assert 2**52 <= sequences.pop() < 2**53
    places = [
        fan_out(transaction | {"flow_id": f"f-{n}"}, platform_run_id=RUN, producer="client").events[0]["source_seq"]
        for n in range(2000)
    ]
    assert len(set(places)) == 2000
    assert all(a != b for a, b in pairwise(places))


def test_a_live_transaction_may_be_about_no_money() -> None:
    """A balance inquiry or an account check has amount 0, posted whole as well as in four events."""
    inquiry = {"flow_id": "f-0", "occurred_at": "2026-02-10T09:19:51Z", "amount_minor": 0, "currency": "USD"}
    flow = fan_out(inquiry, platform_run_id=RUN, producer="client")
    assert [validate_event(event, currency="USD") for event in flow.events] == [None] * 4
    with pytest.raises(TransactionInvalid, match="amount_minor"):
        fan_out(inquiry | {"amount_minor": -1}, platform_run_id=RUN, producer="client")


@pytest.mark.parametrize("wrong", [[], "text", None, {}, {"flow_id": "f"}, {"flow_id": 7, "occurred_at": "x"}])
def test_what_is_no_transaction_is_refused(wrong: object) -> None:
    """Any other JSON value is a named refusal, never a crash."""
    with pytest.raises(TransactionInvalid):
        fan_out(wrong, platform_run_id=RUN, producer="client")


def test_a_body_is_read_as_object_array_or_lines() -> None:
    """Three shapes; lines under plain JSON's name work too; a body without any JSON is malformed."""
    assert [item.value for item in read_batch(b'{"a": 1}', ndjson=False, events_max=1000)] == [{"a": 1}]
    assert [item.value for item in read_batch(b"[1, 2]", ndjson=False, events_max=1000)] == [1, 2]
    assert [item.value for item in read_batch(b'{"a": 1}\r\n\n{"a": 2}', ndjson=False, events_max=1000)] == [
        {"a": 1},
        {"a": 2},
    ]
    assert read_batch(b"[]", ndjson=False, events_max=1000) == []
    with pytest.raises(Malformed):
        read_batch(b"x\ny", ndjson=True, events_max=1000)


@pytest.mark.parametrize("control", ["\x00", "\n", "\x1f", "\x7f"])
def test_a_batch_that_looks_plain_holds_no_control_character(control: str) -> None:
    """In JSON they stand as escapes, DEL as itself: a batch with one is not plain, and its event is refused."""
    transaction = {"flow_id": "f", "occurred_at": TIMES[0], "amount_minor": 1, "currency": "USD"}
    event = fan_out(transaction, platform_run_id=RUN, producer="c").events[0]
    [good] = read_batch(orjson.dumps([event]), ndjson=False, events_max=10)
    assert good.plain
    event["payload"]["flow_id"] = f"a{control}b"
    [bad] = read_batch(orjson.dumps([event]), ndjson=False, events_max=10)
    assert not bad.plain
    rejection = validate_event(bad.value, plain=bad.plain)
    assert rejection is not None
    assert "control character" in rejection.detail
