"""A gate to talk to over real HTTP: `open_gate(line)` builds the worker, opens its port and gives a client."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest

from fraud_daemons.clock import SystemClock
from fraud_daemons.domain.admission import Item, Settled, judge, named_runs
from fraud_daemons.domain.envelope import make_event, make_mark
from fraud_daemons.domain.identity import derived_id
from fraud_daemons.runtime.activity import Activity
from fraud_daemons.state import principals
from fraud_daemons.state.principals import Principal
from fraud_daemons.workers.control_ingress import _gate_intake
from fraud_daemons.workers.control_ingress._gate_answers import admitted_answers
from fraud_daemons.workers.control_ingress._gate_appending import Appended
from fraud_daemons.workers.control_ingress._gate_intake import Admitted, Intake
from fraud_daemons.workers.control_ingress.ingestion_gate import WORKER
from tests.line import Line

PRODUCER_KEY, CLIENT_KEY = "producer-key-for-tests", "client-key-for-tests"
SCENARIO = derived_id("scenario", "test")


@dataclass
class Answer:
    """Status, parsed body and headers of one response."""

    status: int
    body: Any
    headers: Mapping[str, str]

    @property
    def results(self) -> list[dict[str, Any]]:
        assert self.status == 200, (self.status, self.body)
        return list(self.body["results"])

    @property
    def statuses(self) -> list[str]:
        return [result["status"] for result in self.results]


@dataclass
class Gate:
    """A running gate: its activities, and requests to it."""

    port: int
    activities: list[Activity]
    stop: Any
    key: str | None = PRODUCER_KEY
    headers: dict[str, str] = field(default_factory=dict)

    def request(
        self, method: str, path: str, body: bytes | None = None, *, key: str | None = "", content_type: str = ""
    ) -> Answer:
        headers = {"Content-Type": content_type or "application/json"}
        chosen = self.key if key == "" else key
        if chosen is not None:
            headers["X-API-Key"] = chosen
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body=body, headers=headers)
            response = connection.getresponse()
            raw = response.read()
            is_page = path == "/docs" and response.status == 200
            kind = "text/html; charset=utf-8" if is_page else "application/json"
            assert response.getheader("Content-Type") == kind
            body = raw.decode() if is_page else orjson.loads(raw)
            return Answer(response.status, body, dict(response.getheaders()))
        finally:
            connection.close()

    def post(self, events: Any, **options: Any) -> Answer:
        return self.request("POST", "/v1/events", orjson.dumps(events), **options)


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def prepare(line: Line) -> None:
    """A run, the keys, and a port for the gate."""
    line.begin_run()
    line.ports["gate"] = free_port()
    line.secrets = {"gate": {"producer_key": PRODUCER_KEY, "client_key": CLIENT_KEY}}
    with line.database.scope() as connection:
        principals.ensure(connection, line.secrets["gate"])


@contextmanager
def open_gate(line: Line, *, settings: Mapping[str, Any] | None = None) -> Iterator[Gate]:
    """A gate on `line`, serving until the block ends."""
    if "gate" not in line.ports:
        prepare(line)
    context = line.context_for(WORKER, settings=settings)
    activities = list(WORKER.build(context))
    activities[0].step()
    try:
        yield Gate(line.ports["gate"], activities, context.stop)
    finally:
        activities[0].close()


def hope_of_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every batch is written in hope that all of it is valid and new, and judged two events at a time."""
    monkeypatch.setattr(_gate_intake, "HOPE_AFTER_BATCHES", 0)
    monkeypatch.setattr(_gate_intake, "HOPE_EVENTS_MIN", 1)
    monkeypatch.setattr(_gate_intake, "PART_EVENTS", 2)


def admit_everything(_gate: Intake, items: Sequence[Item], principal: Principal) -> Admitted:
    """Instead of `Intake.admit`: the pass-through, which says yes to every event of the right shape and keeps nothing."""
    candidates, _ = judge(
        items, scope=principal.event_types, currency=None, known_runs=named_runs([item.value for item in items])
    )
    at = SystemClock().now()
    places = [(0, 0)] * len(candidates)
    answers = admitted_answers(candidates, [c.payload_hash for c in candidates], places, at=at)
    appended = Appended(candidates, places, answers, ())
    return Admitted(Settled(tuple(candidates), (), ()), {}, at, appended)


def traffic(number: int, *, run: str, amount_minor: int = 1000, **payload: Any) -> dict[str, Any]:
    """The traffic event of flow `number`."""
    return make_event(
        event_type="traffic",
        payload={"flow_id": f"flow-{number}", "amount_minor": amount_minor, "currency": "USD", "message_type": "0100"}
        | payload,
        occurred_at=f"2026-01-01T00:00:{number % 60:02d}.000000Z",
        source_seq=number,
        platform_run_id=run,
        scenario_run_id=SCENARIO,
        world="test",
        producer="world_stream_producer",
    )


def events_of(numbers: Sequence[int], *, run: str) -> list[dict[str, Any]]:
    return [traffic(number, run=run) for number in numbers]


def mark(output: str, number: int, *, run: str) -> dict[str, Any]:
    """The mark "everything of `output` up to row `number` has been sent"."""
    return make_mark(
        output=output,
        up_to=(f"2026-01-01T00:00:{number % 60:02d}.000000Z", number),
        end_of_world=False,
        stop_reason=None,
        platform_run_id=run,
        scenario_run_id=SCENARIO,
        world="test",
        producer="world_stream_producer",
    )
