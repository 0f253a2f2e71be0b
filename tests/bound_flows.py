"""Bound flows by hand, the vectors that the feature plane gives them, and the same recomputed with nothing forgotten."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from fraud_daemons.clock import iso
from fraud_daemons.domain.envelope import AFTER_EVERYTHING, make_mark
from fraud_daemons.domain.features import EntityWindow, microseconds, terminal_key, vector
from fraud_daemons.runtime.activity import Activity
from fraud_daemons.state import features as store
from tests.line import RUN, Line

START = datetime.fromisoformat("2026-03-02T12:00:00+00:00")


def bound(number: int, *, second: int | None = None, run: str = RUN, **changes: Any) -> dict[str, Any]:
    """A bound record: flow `number`, at `second` seconds (default: its number) after a fixed start."""
    who = {"card_token": f"c{number % 3}", "terminal_id": f"t{number % 2}", "merchant_id": "m1"}
    return {
        "flow_id": f"f{number}",
        "platform_run_id": run,
        "scenario_run_id": "a" * 32,
        "world": "demo",
        "occurred_at": iso(START + timedelta(seconds=number if second is None else second)),
        "source_seq": number,
        "event_id": "e" * 32,
        "traffic": {"flow_id": f"f{number}", "amount_minor": 100 + number, "currency": "USD", "message_type": "0100"},
        "anchor": None,
        "arrival": None,
        "entities": None,
        **who,
        "context_status": "COMPLETE",
        "release_rule": "complete",
        "sources": {},
        "admitted_at": 1.5,
        **changes,
    }


def vectors(line: Line) -> dict[tuple[str, str], dict[str, Any]]:
    """(run, flow) -> vector, read from the bus; a flow featured twice is a defect."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for body in line.bodies("flows.featured"):
        key = (body["platform_run_id"], body["flow_id"])
        assert key not in found, f"{key} was given two vectors"
        found[key] = body["features"]
    return found


def recomputed(bodies: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    """The same vectors from nothing but the records, taken in their order, each window rebuilt for each of them."""
    seen: list[Mapping[str, Any]] = []
    found = {}

    def card_of(body: Mapping[str, Any]) -> Any:
        return body["card_token"]

    def key_of(entity: str | None) -> int | None:
        return None if entity is None else store.flow_key(entity)

    def window(
        run: str, of: Callable[[Mapping[str, Any]], Any], other: Callable[[Mapping[str, Any]], Any], entity: Any
    ) -> EntityWindow | None:
        if entity is None:
            return None
        rows = [
            (microseconds(b["occurred_at"]), b["source_seq"], b["traffic"]["amount_minor"], key_of(other(b)))
            for b in seen
            if b["platform_run_id"] == run and of(b) == entity
        ]
        return EntityWindow.from_rows(sorted(rows, key=lambda row: row[:2]))

    for body in bodies:
        seen.append(body)
        run = body["platform_run_id"]
        card = window(run, card_of, terminal_key, body["card_token"])
        terminal = window(run, terminal_key, card_of, terminal_key(body))
        found[run, body["flow_id"]] = vector(card, terminal, body)
    return found


def line_vectors_with(bodies: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    """Vectors of records in order, by windows that are never dropped."""
    windows: dict[str, EntityWindow] = {}
    found = {}
    for body in bodies:
        keys = (f"c:{body['card_token']}", str(terminal_key(body)))
        for key, other in (keys, keys[::-1]):
            row = (microseconds(body["occurred_at"]), body["source_seq"], body["traffic"]["amount_minor"])
            windows.setdefault(key, EntityWindow()).add(*row, store.flow_key(other))
        found[body["platform_run_id"], body["flow_id"]] = vector(windows[keys[0]], windows[keys[1]], body)
    return found


def truth_mark(up_to: str) -> dict[str, Any]:
    """The truth feed of the bound records' world has told everything up to a time."""
    return make_mark(
        output="truth", up_to=(up_to, AFTER_EVERYTHING[1]), end_of_world=False, stop_reason=None, platform_run_id=RUN,
        scenario_run_id="a" * 32, world="demo", producer="test",
    )  # fmt: skip


def feed_labels(line: Line, labels: Sequence[Mapping[str, Any]], up_to: str) -> None:
    """Labels as label_store publishes them, and the mark behind them, which stood on `truth` before."""
    mark = truth_mark(up_to)
    line.append("truth", [mark], key=lambda _: "mark-0")
    line.append("labels", [*labels, mark], key=lambda body: "mark-0" if "label_id" not in body else body["flow_id"])


def steps(line: Line, activities: Sequence[Activity], records: int) -> None:
    """Step until at least this many records were handled."""
    handled = 0
    while handled < records:
        handled += activities[0].step().records
