"""archive_writer: every record of every topic once, in order, whatever is cut off; ledger and objects compared both ways."""

from __future__ import annotations

import gzip
import random
import zlib
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import orjson
import pytest

from fraud_daemons import bootstrap
from fraud_daemons.acceptance.archive import FAMILY, verify
from fraud_daemons.errors import TransientFault
from fraud_daemons.evidence.archive_lines import line_of, packed, read_line, unpacked
from fraud_daemons.evidence.port import EvidenceStore
from fraud_daemons.state import segments
from fraud_daemons.workers.obs_gov._equation_terms import Line as Equation
from fraud_daemons.workers.obs_gov._equations import LINES
from fraud_daemons.workers.obs_gov._sides import Readers, balancing
from fraud_daemons.workers.rtdl_core.archive_writer import WORKER
from tests.line import Line

EQUATION = next(line for line in LINES if line.name == "published_equals_archived")
SMALL = {"evidence.segment_records_max": 20, "evidence.linger_seconds": 0.0}


@pytest.fixture
def archived(line: Line) -> Line:
    """A line whose run is its own: the object store is shared by the tests."""
    digits = f"{zlib.crc32(line.dsn.encode()):014d}"
    line.run = f"platform_{digits[:8]}T{digits[8:]}Z"
    return line


class Cut(Exception):
    """The process ends here."""


class CuttingStore:
    """The real store; now and then the process ends before a put or right after it, or the store is away."""

    def __init__(self, store: EvidenceStore, dice: random.Random) -> None:
        self._store, self._dice = store, dice
        self.cuts = 0

    def put_once(self, key: str, body: bytes, *, sha256: str) -> Any:
        fate = self._dice.choice(("before", "after", "away", "good"))
        self.cuts += fate != "good"
        if fate == "before":
            raise Cut
        if fate == "away":
            raise TransientFault("the store is away", reason="object store: refused")
        outcome = self._store.put_once(key, body, sha256=sha256)
        if fate == "after":
            raise Cut
        return outcome

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def feed(line: Line, count: int) -> None:
    """Records on three topics, some of an odd shape."""
    for topic in ("flows.bound", "decisions", "labels"):
        line.append(
            topic, [{"platform_run_id": line.run, "n": n, "text": "line\nbreak \u00e9"} for n in range(count)],
            key=lambda body: f"k{body['n']}", event_id=lambda body, topic=topic: f"{topic}-{body['n']}",
        )  # fmt: skip


def lost_or_doubled(line: Line) -> list[str]:
    """What a plain listing and zcat of the archive say about the records on the bus."""
    wanted = line.sql("select topic, position, event_id, body from bus.log where platform_run_id = %s", (line.run,))
    found = []
    store = line.make_store()
    for facts in store.list(f"{line.run}/{FAMILY}/"):
        topic = facts.key.rpartition("/")[2].split("-")[0]
        for text in gzip.decompress(store.get(facts.key)).splitlines():
            entry = orjson.loads(text)
            found.append((topic, entry["position"], entry["event_id"], entry["body"]))
    expected = sorted((topic, at, event_id, orjson.loads(body)) for topic, at, event_id, body in wanted)
    by_place = lambda entry: entry[:3]  # noqa: E731
    return [] if sorted(found, key=by_place) == sorted(expected, key=by_place) else [f"{len(found)} of {len(expected)}"]


def verified(line: Line) -> dict[str, Any]:
    with line.database.scope() as connection:
        ledger = segments.of_run(connection, "archive", FAMILY, line.run)
    return verify(ledger, line.make_store(), run=line.run)


def balance(line: Line, tmp: Any) -> dict[str, Any]:
    readers = Readers(database_of=lambda _: line.database, store=line.make_store(), worlds_dir=tmp)
    return _ended(balancing(readers, EQUATION, line.run))


def _ended(steps: Iterator[Any]) -> dict[str, Any]:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            document: dict[str, Any] = end.value
            return document


def test_it_reads_every_topic_there_is() -> None:
    """A topic that is added later must be archived too."""
    assert WORKER.consumes == bootstrap.TOPICS


def test_every_record_once_and_in_order_over_many_cuts(archived: Line, tmp_path: Any) -> None:
    """Twenty and more ends before a put, after it, and stores that are away: each record is in one object, in order."""
    line = archived
    feed(line, 300)
    real, dice = line.make_store(), random.Random(20)
    cutting = CuttingStore(real, dice)
    line.make_store = lambda: cutting
    while cutting.cuts < 25:
        with suppress(Cut, TransientFault):
            line.drain(line.activities(WORKER, settings=SMALL))
            feed_more = cutting.cuts < 25
            if feed_more:
                line.append("labels", [{"platform_run_id": line.run, "n": cutting.cuts}], key=lambda _: "k",
                            event_id=lambda body: f"more-{body['n']}-{dice.random()}")  # fmt: skip
    line.make_store = lambda: real
    line.drain(line.activities(WORKER, settings=SMALL))
    assert lost_or_doubled(line) == []
    assert verified(line)["verdict"] == "PASS"
    assert balance(line, tmp_path)["missing"] == balance(line, tmp_path)["surplus"] == 0
    assert balance(line, tmp_path)["count"] >= 900


def test_a_ledger_row_without_an_object_is_named(archived: Line, tmp_path: Any) -> None:
    """Red counterpart: a writer that marks its rows complete and puts nothing is seen by the command and by the equation."""
    line = archived
    feed(line, 30)
    real = line.make_store()

    class Pretending:
        def put_once(self, _key: str, _body: bytes, *, sha256: str) -> Any:
            from fraud_daemons.evidence.port import PutOutcome

            return PutOutcome.WRITTEN

        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

    line.make_store = Pretending  # type: ignore[assignment]
    line.drain(line.activities(WORKER, settings=SMALL))
    line.make_store = lambda: real
    document = verified(line)
    assert document["verdict"] == "FAIL"
    assert document["deviations"] == document["segments"] > 3
    assert "not there" in document["examples"][0]["what"]
    assert balance(line, tmp_path)["missing"] == 90


def test_a_pass_through_is_seen(archived: Line, tmp_path: Any) -> None:
    """Red counterpart: with the checkpoint only advanced nothing is archived, and a run without a ledger does not verify."""
    line = archived
    feed(line, 5)
    line.drain(line.pass_through(WORKER))
    assert balance(line, tmp_path)["missing"] == 15
    assert verified(line)["verdict"] == "FAIL"


def test_runs_do_not_mix(archived: Line) -> None:
    """Records of two runs that lie between one another on the bus are in objects of their own run."""
    line = archived
    other = line.run.replace("platform_", "platform_9")[:-2] + "Z"
    bodies = [{"platform_run_id": other if n % 2 else line.run, "n": n} for n in range(40)]
    line.append("labels", bodies, key=lambda _: "k", event_id=lambda body: f"l{body['n']}")
    line.drain(line.activities(WORKER, settings=SMALL))
    store = line.make_store()
    for run, odd in ((line.run, 0), (other, 1)):
        numbers = []
        for facts in store.list(f"{run}/{FAMILY}/"):
            numbers += [orjson.loads(text)["body"]["n"] for text in unpacked(store.get(facts.key))]
        assert sorted(numbers) == [n for n in range(40) if n % 2 == odd]


@pytest.mark.parametrize("body", [b'{"a":1}', b"not json", b'{"a":\n1}', b"", b"\xff\x00"])
def test_a_line_keeps_the_body_as_it_stands(body: bytes) -> None:
    """What cannot be spliced into a line is kept as base64; the line is always JSON, and the same bytes again."""
    import base64

    line = line_of(position=7, event_id='e"7', key="k", appended_at=1.5, body=body)
    entry = orjson.loads(line)
    kept = base64.b64decode(entry["body_base64"]) if "body_base64" in entry else orjson.dumps(entry["body"])
    assert kept == body
    assert (read_line(line).position, read_line(line).event_id) == (7, 'e"7')
    assert packed([line, line]) == packed([line, line])
    assert list(unpacked(packed([line, line]))) == [line, line]


def test_the_line_of_the_report_is_the_writers() -> None:
    """WORKER.equations names it."""
    assert isinstance(EQUATION, Equation)
    assert WORKER.equations == (EQUATION.name,)
