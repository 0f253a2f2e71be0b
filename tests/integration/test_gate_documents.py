"""What the gate says about itself is what it does: its schemas, its OpenAPI document, its page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser

import fastjsonschema
import orjson
import pytest

from fraud_daemons.domain.envelope import EVENT_TYPES
from fraud_daemons.domain.schemas import ReasonCode, load_schema
from tests.gate import Gate, events_of, mark, open_gate
from tests.line import RUN, Line


@pytest.fixture
def gate(line: Line) -> Iterator[Gate]:
    with open_gate(line) as opened:
        yield opened


def test_every_schema_is_served_as_it_validates(gate: Gate) -> None:
    """Every version of every event type, envelope and transaction: the very file that the gate compiles. Without a key."""
    index = gate.request("GET", "/schemas", key=None).body["schemas"]
    assert set(index) == {*EVENT_TYPES, "envelope", "transaction"}
    for name, versions in index.items():
        for version, place in versions.items():
            served = gate.request("GET", place, key=None)
            assert (served.status, served.body) == (200, load_schema(name, version))
            fastjsonschema.compile(served.body)
    for nowhere in ("/schemas/traffic/9", "/schemas/weather/1", "/schemas/traffic", "/schemas/../envelope/1"):
        missing = gate.request("GET", nowhere, key=None)
        assert (missing.status, missing.body["error"]) == (404, "unknown_schema")


def test_the_document_is_whole_and_describes_what_is_admitted(gate: Gate) -> None:
    """Every reference leads somewhere, and the events of our own producer are valid by their schema in it."""
    document = gate.request("GET", "/openapi.json", key=None).body
    text = orjson.dumps(document).decode()
    named = document["components"]["schemas"]
    assert set(re.findall(r'"#/components/schemas/([^"]+)"', text)) <= named.keys()
    assert {f"{event_type}.v1" for event_type in EVENT_TYPES} <= named.keys()
    for event in (events_of([1], run=RUN)[0], mark("traffic", 1, run=RUN)):
        fastjsonschema.validate(named[f"{event['event_type']}.v1"], event)
    assert {str(code) for code in ReasonCode} == set(
        re.findall(r"- `([A-Z_]+)`", document["paths"]["/v1/events"]["post"]["description"])
    )


def test_every_path_of_the_document_is_answered(gate: Gate) -> None:
    """None of them is 404 unknown_path, and each refuses another method with 405 and Allow."""
    for path, methods in gate.request("GET", "/openapi.json").body["paths"].items():
        place = path.replace("{name}", "traffic").replace("{version}", "1").replace("{decision_id}", "d1")
        for method in methods:
            answer = gate.request(method.upper(), place, b"{}" if method == "post" else None)
            assert str(answer.status) in methods[method]["responses"], (place, answer.body)
        wrong = gate.request("DELETE", place)
        assert (wrong.status, wrong.headers["Allow"]) == (405, *[method.upper() for method in methods])


class Fetches(HTMLParser):
    """What a page would fetch or run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found += [
            f"{tag} {value}" for name, value in attributes if name in ("src", "srcset") or name.startswith("on")
        ]
        if tag in ("script", "link", "iframe", "img"):
            self.found.append(tag)


def test_the_page_is_readable_without_anything_from_elsewhere(gate: Gate) -> None:
    """One document, no script, nothing fetched; it names every path, reason, type and field."""
    page = gate.request("GET", "/docs", key=None)
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'")
    fetches = Fetches()
    fetches.feed(page.body)
    assert fetches.found == []
    assert "url(" not in page.body
    for word in (*EVENT_TYPES, *ReasonCode, "/v1/events", "/v1/transactions", "card_token", "up_to_source_seq"):
        assert str(word) in page.body


def test_a_decision_nobody_can_have_is_unknown(gate: Gate) -> None:
    """Whatever bytes stand in the path: 404, and the database is not asked for what it cannot take."""
    for path in ("/v1/decisions/%00", "/v1/decisions/", "/v1/decisions/%ff%fe", "/v1/decisions/" + "d" * 500):
        answer = gate.request("GET", path)
        assert (answer.status, answer.body["error"]) == (404, "unknown")
