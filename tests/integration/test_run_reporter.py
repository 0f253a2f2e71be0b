"""run_reporter: every line names one lost and one doubled record, and the report is written once whatever happens."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from fraud_daemons.clock import iso
from fraud_daemons.postgres_runtime.connector import Connection
from fraud_daemons.runtime.activity import Activity
from fraud_daemons.state import reports
from fraud_daemons.workers.obs_gov import _sides, run_reporter
from fraud_daemons.workers.obs_gov._equation_terms import Line as Equation
from fraud_daemons.workers.obs_gov._equations import LINES
from fraud_daemons.workers.obs_gov._sides import Readers, balancing
from fraud_daemons.workers.obs_gov.run_reporter import WORKER
from tests.integration.planted_defects import PLANTS, Named, Objects, Stores
from tests.integration.whole_line import (
    TRANSACTIONS,
    ask_for_report,
    finish,
    reporter,
    stream_the_world,
    whole_run,
    written_report,
)
from tests.line import Line


@dataclass(frozen=True)
class OneTransaction:
    """A database whose every scope is the transaction that is open already."""

    connection: Connection

    @contextmanager
    def scope(self) -> Iterator[Connection]:
        yield self.connection


class Undo(Exception):
    """Rolls a transaction back."""


def equation_of(name: str) -> Equation:
    return next(line for line in LINES if line.name == name)


@contextmanager
def planted(line: Line, objects: Objects, name: str) -> Iterator[tuple[Readers, Named]]:
    """Readers of the run as it stands with the line's defects in it; nothing of them stays."""
    context = line.context_for(WORKER)
    try:
        with line.database.scope() as connection:
            readers = Readers(lambda _name: OneTransaction(connection), context.store, context.profile.path("worlds"))  # type: ignore[arg-type, return-value]
            with PLANTS[name](Stores(connection, objects, line.run)) as named:
                yield readers, named
            raise Undo
    except Undo:
        pass


def balance(readers: Readers, line: Equation, run: str) -> dict[str, Any]:
    """An equation to its end."""
    return ended(balancing(readers, line, run))


def ended(pieces: Generator[None, None, dict[str, Any]]) -> dict[str, Any]:
    try:
        while True:
            next(pieces)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


def both_are_named(found: dict[str, Any], named: Named) -> None:
    """The fact: the lost id stands as missing and the doubled one as surplus, one each; they do not cancel."""
    surplus = [] if named.surplus is None else [f"surplus {named.surplus}"]
    assert (found["missing"], found["surplus"]) == (1, len(surplus)), found
    assert found["examples"] == [f"missing {named.lost}", *surplus]


def count_only(readers: Readers, line: Equation, run: str) -> Generator[None, None, dict[str, Any]]:
    """The reporter that the issue warns of: it compares how many, not which."""
    yield
    left, right = readers.ids(line.left, run).total(), readers.ids(line.right, run).total()
    return {"name": line.name, "left": line.left.what, "right": line.right.what, "count": left,
            "missing": max(0, left - right), "surplus": max(0, right - left), "dead_lettered": 0, "examples": []}  # fmt: skip


# --- the fact of the issue, line by line


def test_every_line_has_its_planted_defect() -> None:
    """A new line of the report comes with a defect planted in its stage."""
    assert list(PLANTS) == [line.name for line in LINES]


def test_a_good_run_balances_and_every_line_has_something_to_compare(finished: Line) -> None:
    """Nothing missing, nothing surplus, nothing dead; and no line passes because both sides are empty."""
    context = finished.context_for(WORKER)
    readers = Readers(context.database_of, context.store, context.profile.path("worlds"))
    for line in LINES:
        found = balance(readers, line, finished.run)
        assert (found["missing"], found["surplus"], found["dead_lettered"], found["examples"]) == (0, 0, 0, []), found
        few = line.subset or line.name == "deciding_policies_equal_published"  # one policy decided the run
        assert found["count"] >= (1 if few else 2), f"{line.name} compares next to nothing"


@pytest.mark.parametrize("name", PLANTS)
def test_one_lost_and_one_doubled_record_are_both_named(finished: Line, objects: Objects, name: str) -> None:
    """In the stage on the right of each line; a comparison of counts sees neither of them."""
    with planted(finished, objects, name) as (readers, named):
        both_are_named(balance(readers, equation_of(name), finished.run), named)
        blind = ended(count_only(readers, equation_of(name), finished.run))
        assert (blind["missing"], blind["surplus"]) == (0, 0)
        with pytest.raises(AssertionError):
            both_are_named(blind, named)
    context = finished.context_for(WORKER)
    readers = Readers(context.database_of, context.store, context.profile.path("worlds"))
    again = balance(readers, equation_of(name), finished.run)
    assert (again["missing"], again["surplus"]) == (0, 0), "the plant left something behind"


# --- the same of the worker, from the request on the bus to the object


def lose_and_double_a_binding(line: Line) -> Named:
    """Committed: one binding is gone, another stands once more under a foreign id."""
    with (
        line.database.scope() as connection,
        PLANTS["admitted_traffic_equals_bound"](
            Stores(connection, None, line.run)  # type: ignore[arg-type]
        ) as named,
    ):
        return Named(named.lost, named.surplus)


def the_report_names_both(line: Line, activities: Sequence[Activity]) -> None:
    """The fact: a report comes, fails, and names what was lost and what was doubled."""
    named = lose_and_double_a_binding(line)
    report = ask_for_report(line, activities)
    assert report is not None, "no report came"
    assert report["verdict"] == "FAIL"
    [found] = [e for e in report["equations"] if e["name"] == "admitted_traffic_equals_bound"]
    both_are_named(found, named)


def test_the_report_names_both(line: Line, short_dir: Path) -> None:
    """One lost and one doubled binding in a run that went the whole way: verdict FAIL, both ids in the written report."""
    the_report_names_both(whole_run(line, short_dir), reporter(line))


def test_advancing_the_checkpoint_only_turns_the_fact_red(line: Line, short_dir: Path) -> None:
    """A pass-through takes the request and no report ever comes."""
    whole_run(line, short_dir)
    with pytest.raises(AssertionError, match="no report came"):
        the_report_names_both(line, line.pass_through(WORKER))


def test_comparing_counts_turns_the_fact_red(line: Line, short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reporter that compares how many passes the same run, since the two cancel."""
    whole_run(line, short_dir)
    monkeypatch.setattr(run_reporter, "balancing", count_only)
    with pytest.raises(AssertionError, match="PASS"):
        the_report_names_both(line, reporter(line))


def test_the_report_counts_what_went_through(finished: Line) -> None:
    """Outputs and stages say how many were sent and came through; two reports of one run differ in their id only."""
    [first, second] = [
        written_report(finished, request_id)
        for (request_id,) in finished.sql("select request_id from reporter.requests order by requested_at")
    ]
    assert first is not None
    assert second is not None
    for output in first["outputs"].values():
        assert (output["sent"], output["admitted"], output["stop_reason"]) == (
            TRANSACTIONS,
            TRANSACTIONS,
            "end_of_world",
        )
    assert {first["stages"][stage] for stage in ("bound", "featured", "decided", "audited")} == {TRANSACTIONS}
    assert first["terms"]["conflicts"] == 3, "the refused events are named"
    unlike = {name for name in first if first[name] != second[name]}
    assert unlike <= {
        "request_id",
        "equations",
        "elapsed_seconds",
    }  # the second counts the first report, and was asked for later


# --- dead letters, empty runs


def test_a_dead_letter_is_a_named_term_and_not_missing(line: Line, short_dir: Path) -> None:
    """A flow whose bound record was broken on the way is dead_lettered on every line that it does not reach."""
    stream_the_world(line, short_dir)
    line.work(run_worker("context_store_flow_binding"))
    line.sql(
        "update bus.log set body = 'no json at all' where topic = 'flows.bound' and \"position\" = 3 and \"partition\" = 0"
    )
    finish(line)
    report = ask_for_report(line, reporter(line))
    assert report is not None
    terms = {e["name"]: e["dead_lettered"] for e in report["equations"] if e["dead_lettered"]}
    assert terms == {
        "bound_equals_featured": 1, "bound_equals_graph_applied": 1, "admitted_traffic_equals_decided": 1,
    }  # fmt: skip
    assert [e["examples"] for e in report["equations"] if e["examples"]] == []
    assert report["verdict"] == "PASS"
    assert report["terms"]["dead_lettered"] == 3, "the feature plane's letter, the graph's and the decision fabric's"


def test_an_outcome_that_was_set_aside_is_a_named_term(line: Line, short_dir: Path) -> None:
    """An action outcome that decision_log_audit could not read leaves a chain open: dead_lettered, not missing."""
    stream_the_world(line, short_dir)
    # features wait for the labels of a world with a truth feed
    for name in (
        "context_store_flow_binding",
        "label_store",
        "online_feature_plane",
        "decision_fabric",
        "action_layer",
    ):
        line.work(run_worker(name))
    assert line.records("action_outcomes")
    line.sql(
        'update bus.log set body = \'{}\' where (topic, "partition", "position") ='
        ' (select topic, "partition", "position" from bus.log where topic = \'action_outcomes\' limit 1)'
    )
    finish(line)
    report = ask_for_report(line, reporter(line))
    assert report is not None
    terms = {e["name"]: e["dead_lettered"] for e in report["equations"] if e["dead_lettered"]}
    assert terms == {"decided_equals_audit_chains": 1}
    assert report["verdict"] == "PASS"


def run_worker(name: str) -> Any:
    """A worker of the line by its name."""
    from tests.integration.whole_line import BEHIND_THE_GATE

    return next(worker for worker in BEHIND_THE_GATE if worker.name == name)


def test_an_empty_run_does_not_pass(line: Line) -> None:
    """Nothing equals nothing on every line: that proves nothing, also when an earlier report is there to be compared."""
    line.run = "platform_19990101T000000Z"
    line.begin_run()
    for ordinal in (1, 2):
        report = ask_for_report(line, reporter(line), ordinal)
        assert report is not None
        assert {(e["missing"], e["surplus"]) for e in report["equations"]} == {(0, 0)}
        assert sum(e["count"] for e in report["equations"]) == ordinal - 1
        assert report["verdict"] == "FAIL"


# --- what else it tells


def test_the_report_tells_who_sent_how_long_it_took_and_what_happened_around_it(
    finished: Line, objects: Objects
) -> None:
    """Answers by producer add up to the outputs, each stage has its percentiles in order, a fault in a worker's log within
    the run's time and a death in the audit are told and earlier ones are not; the page says the same, from one file."""
    [(begun,)] = finished.sql("select started_at from control.runs where platform_run_id = %s", (finished.run,))
    run_dir = finished.context_for(WORKER).profile.run_dir
    (run_dir / "logs").mkdir(exist_ok=True)
    told = {"event": "fault_contained", "activity": "a", "kind": "transient", "reason": "postgres: refused"}
    stamps = [iso(begun - timedelta(hours=1)), iso(begun), iso(begun)]
    (run_dir / "logs" / "case_trigger.log").write_bytes(
        b"".join(orjson.dumps({**told, "at": at}) + b"\n" for at in stamps)
    )
    died = {"worker": "case_trigger", "kind": "exit", "cause": "signal"}
    (run_dir / "events.ndjson").write_bytes(b"".join(orjson.dumps({**died, "at": at}) + b"\n" for at in stamps[:2]))
    report = ask_for_report(finished, reporter(finished), 3)
    assert report
    sent = Counter[str]()
    for row in report["producers"]:
        sent[row["event_type"]] += row["admitted"]
    assert sent == {name: tally["admitted"] for name, tally in {**report["outputs"], "truth": report["truth"]}.items()}
    for stage, found in report["stage_latency_ms"].items():
        assert found["records"] > 0, stage
        assert found["p50"] <= found["p95"] <= found["p99"], stage
    assert report["faults_contained"] == {"case_trigger": {"transient: postgres: refused": 2}}
    assert report["restarts"] == {"case_trigger": {"signal": 1}}
    [(key, sha256)] = finished.sql(
        "select page_key, page_sha256 from reporter.reports where request_id = %s", (report["request_id"],)
    )
    page = objects.get(key)
    assert hashlib.sha256(page).hexdigest() == sha256
    text = page.decode()
    assert report["platform_run_id"] in text
    assert "2 transient: postgres: refused" in text
    for outside in ("http:", "https:", "<script", "src=", "@import", "url("):
        assert outside not in text, "the page needs nothing from outside"
    (run_dir / "logs" / "case_trigger.log").unlink()
    (run_dir / "events.ndjson").unlink()


# --- once


def test_a_report_is_written_once_and_read_twice(finished: Line, objects: Objects) -> None:
    """The same request on the bus twice, and everything read again from position 0: one row, one object, the same bytes."""
    keys = objects.keys(f"{finished.run}/obs/run_report/")
    rows = finished.sql("select * from reporter.reports order by request_id")
    [request] = finished.sql("select request_id from reporter.requests order by requested_at limit 1")
    first = written_report(finished, request[0])
    assert ask_for_report(finished, reporter(finished), ordinal=1) == first
    finished.fresh_checkpoints()
    finished.drain(reporter(finished))
    assert objects.keys(f"{finished.run}/obs/run_report/") == keys
    assert finished.sql("select * from reporter.reports order by request_id") == rows
    assert len(keys) >= 2


class Killed(BaseException):
    """A SIGKILL between two statements: nothing after it runs."""


@pytest.mark.parametrize("cut", ["before the put", "after the put"])
def test_a_crash_around_the_put_repeats_the_same_bytes(
    line: Line, objects: Objects, short_dir: Path, monkeypatch: pytest.MonkeyPatch, cut: str
) -> None:
    """Bytes are fixed in the ledger first: what a later process puts is what the first one would have put, even when the
    run looks otherwise by then."""
    whole_run(line, short_dir)
    complete = reports.complete

    def die(*_: object, **__: object) -> None:
        raise Killed

    activities = reporter(line)
    line.drain(activities)  # what governed the run is put before
    if cut == "before the put":
        monkeypatch.setattr(activities[1]._context.store, "put_once", die)  # type: ignore[attr-defined]
    else:
        monkeypatch.setattr(reports, "complete", die)
    with pytest.raises(Killed):
        ask_for_report(line, activities)
    [(body, state)] = line.sql("select body, state from reporter.reports")
    assert state == "INTENT"
    keys = objects.keys(f"{line.run}/obs/run_report/")
    assert len(keys) == (0 if cut == "before the put" else 1)
    lose_and_double_a_binding(line)
    monkeypatch.setattr(reports, "complete", complete)
    line.drain(reporter(line))
    [(after, state)] = line.sql("select body, state from reporter.reports")
    assert (bytes(after), state) == (bytes(body), "COMPLETE")
    [key] = objects.keys(f"{line.run}/obs/run_report/")
    assert objects.get(key) == bytes(body)


def test_a_request_without_its_fields_is_set_aside(line: Line) -> None:
    """It becomes a dead letter; the request behind it is answered."""
    line.run = "platform_19990102T000000Z"
    line.append("control", [{"kind": "REPORT_REQUESTED", "platform_run_id": line.run}], event_id=lambda _: "x")
    assert ask_for_report(line, reporter(line)) is not None
    assert line.sql("select worker, event_id from dead_letters.letters") == [("run_reporter", "x")]


assert _sides.EXAMPLES_MAX >= 2  # the facts above look for two examples
