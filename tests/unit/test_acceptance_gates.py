"""The gates' judgements: what each lets pass, and each thing that it must not let pass. Measuring is the system tests' part."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from fraud_daemons.acceptance.gates import (
    GATES,
    _stream,
    connections_bounded,
    environment_conformance,
    liveness_idle_hold,
    liveness_post_stream,
    recurrence_scan,
)
from fraud_daemons.acceptance.gates.liveness_idle_hold import Hold, Look
from fraud_daemons.acceptance.gates.log_hits import hits_of_postgres, hits_of_text, hits_of_worker
from fraud_daemons.acceptance.gates.run_report import incomplete
from fraud_daemons.acceptance.gates.sessions import Ages
from fraud_daemons.acceptance.gates.verdicts import FAIL, PASS, Finding, unmeasured
from fraud_daemons.acceptance.reporting import STAGES
from fraud_daemons.acceptance.sequence import _exit_code
from fraud_daemons.clock import SystemClock, iso
from fraud_daemons.conformance.environment import judged, unknown
from fraud_daemons.domain.envelope import OUTPUTS
from fraud_daemons.errors import ExitCode
from fraud_daemons.observability.heartbeat import Heartbeat
from fraud_daemons.observability.log_window import Window, mark, written_since
from fraud_daemons.observability.process_identity import ProcessIdentity, identity_of
from fraud_daemons.state.sessions import ServerSessions, Session
from fraud_daemons.status.picture import PackPicture, PlatformPicture, WorkerPicture

AGES = Ages(renewal_seconds=1440)


# --- what is judged


def worker(**changes: Any) -> WorkerPicture:
    good = WorkerPicture("case_trigger", "running", True, "running ready", None, 7, 60.0, 0, 0.4, 0, 1)
    return replace(good, **changes)


def picture(**changes: Any) -> PlatformPicture:
    found = worker(**changes)
    return PlatformPicture("p", "r", found.status, (PackPicture("case_labels", found.status, None, (found,)),), ())


def beat(*, since: float = 1.0, faults: dict[str, int] | None = None, start_ticks: int = 1) -> Heartbeat:
    return Heartbeat("case_trigger", "case_labels", 7, start_ticks, "boot", 5.0, "", "ready", None, since, "", faults=faults or {})  # fmt: skip


def session(pid: int, *, age: float = 100.0, state: str = "idle", since: float = 1.0, name: str = "w") -> Session:
    return Session(pid, f"begun {pid}", name, state, age, since)


def server(*sessions: Session, opened: int = 10, counted_from: str = "a") -> dict[str, ServerSessions]:
    return {"PLATFORM_DSN": ServerSessions(opened, 0, 0, counted_from, sessions)}


def held(*looks: Look, after: dict[str, ServerSessions] | None = None, seconds: float = 1.0) -> Finding:
    hold = Hold(seconds, server(session(1)), list(looks), after or server(session(1)))
    return liveness_idle_hold.judge(hold, ages=AGES)


def look(at: float, *, servers: dict[str, ServerSessions] | None = None, since: float = 1.0, **changes: Any) -> Look:
    return Look(at, picture(**changes), {"case_trigger": beat(since=since)}, servers or server(session(1)))


def test_a_hold_whose_sessions_are_hidden_was_not_measured() -> None:
    """Nobody can say that nobody sits in a transaction; what was seen of the processes counts all the same."""
    hidden = {"PLATFORM_DSN": replace(server(session(1))["PLATFORM_DSN"], hidden=31)}
    found = held(look(0.0, servers=hidden), look(0.5, servers=hidden))
    assert (found.verdict, found.measured) == (FAIL, False)
    assert found.observed.startswith("PLATFORM_DSN hides 31 sessions")
    restarted = held(look(0.0, servers=hidden), look(0.5, servers=hidden, restarts=1))
    assert (restarted.verdict, restarted.measured) == (FAIL, True)


# --- the two streams


def streamed(**tally: int) -> _stream.Streamed:
    good = {"sent": 20, "admitted": 20, "duplicate": 0, "quarantined": 0}
    outputs = {output: {**good, **(tally if output == "traffic" else {})} for output in OUTPUTS}
    return _stream.Streamed(outputs, {"bound": 20, "decided": 20}, 0.5, 0.1)


@pytest.mark.parametrize(
    "tally", [{"sent": 19, "admitted": 19}, {"admitted": 19, "duplicate": 1}, {"admitted": 19, "quarantined": 1},
              {"sent": 21, "admitted": 20, "duplicate": 1}],
)  # fmt: skip
def test_a_stream_gate_wants_every_event_admitted_once(tally: dict[str, int]) -> None:
    """One not sent, sent twice, or refused, in one output of four, is a FAIL that names the output."""
    assert _stream.judge(streamed(), events=20, run_total=20, seconds_max=3.0).verdict == PASS
    found = _stream.judge(streamed(**tally), events=20, run_total=20, seconds_max=3.0)
    assert (found.verdict, found.observed.split(":")[0]) == (FAIL, "traffic")


def test_a_stream_gate_wants_every_stage_to_hold_them() -> None:
    """A stage one short, or one over, is named."""
    for count in (19, 21):
        found = _stream.judge(
            replace(streamed(), stages={"bound": count, "decided": 20}), events=20, run_total=20, seconds_max=3.0
        )
        assert (found.verdict, found.observed) == (FAIL, f"bound: {count} of 20")


@pytest.mark.parametrize(
    ("seconds", "named"),
    [
        (
            3.01,
            "the time alone: 80 of 80 admitted as they should be, in 3.01 s of streaming, more than 3 s; is the machine",
        ),
        (None, "how long it streamed is not known"),
    ],
)
def test_a_stream_gate_wants_its_time_and_says_when_that_alone_is_wrong(seconds: float | None, named: str) -> None:
    """On the bar is good, past it a FAIL whose words only the time can cause; what it took stands in what was covered."""
    assert (
        _stream.judge(replace(streamed(), streaming_seconds=3.0), events=20, run_total=20, seconds_max=3.0).verdict
        == PASS
    )
    found = _stream.judge(replace(streamed(), streaming_seconds=seconds), events=20, run_total=20, seconds_max=3.0)
    assert found.verdict == FAIL
    assert found.observed.startswith(named)
    assert "within 3 s of streaming" in found.expected
    assert (found.covered["streaming_seconds"], found.covered["streaming_seconds_max"]) == (seconds, 3.0)


def test_a_late_stream_that_lost_an_event_blames_both() -> None:
    """The time is one of two findings then, and no excuse."""
    late = replace(streamed(sent=20, admitted=19), streaming_seconds=4.0)
    found = _stream.judge(late, events=20, run_total=20, seconds_max=3.0)
    assert [said.split(":")[0] for said in found.covered["wrong"]] == ["traffic", "4.00 s of streaming, more than 3 s"]


# --- liveness


@pytest.mark.parametrize(
    "changes", [{"status": "stopped"}, {"status": "running waiting", "reason": "postgres: refused"}, {"restarts": 1}]
)
def test_liveness_wants_all_of_them_ready_and_nobody_restarted(changes: dict[str, Any]) -> None:
    """Not ready, or dead and back within the run."""
    before = {"case_trigger": 0}
    assert liveness_post_stream.judge(picture(), restarts_before=before).verdict == PASS
    assert liveness_post_stream.judge(picture(**changes), restarts_before=before).verdict == FAIL


def test_a_quiet_hold_passes() -> None:
    """The same worker, the same session, all along; and a session that reached its age and was replaced is a renewal."""
    assert held(look(0.0), look(0.5)).verdict == PASS
    old, new = session(1, age=1439.9), session(2, age=0.1)
    kept = session(3)
    hold = Hold(1.0, server(old, kept), [look(0.0), look(0.5)], server(new, session(3, age=101.0), opened=11))
    assert liveness_idle_hold.judge(hold, ages=AGES).verdict == PASS


@pytest.mark.parametrize(
    ("lapse", "named"),
    [
        ({"restarts": 3}, "restarted (3 times"),
        ({"pid": 8}, "restarted"),
        ({"status": "running waiting", "reason": "postgres: refused"}, "running waiting (postgres: refused) at 0.5 s"),
        ({"since": 4.0}, "left its state between two looks"),
    ],
)
def test_a_lapse_in_the_hold_is_named(lapse: dict[str, Any], named: str) -> None:
    """A worker that came back before the next look shows by its restarts, its pid, or since when it is ready."""
    found = held(look(0.0), look(0.5, **lapse), look(0.9))
    assert found.verdict == FAIL
    assert named in found.observed


def test_a_new_session_in_the_hold_is_named_even_one_that_came_and_went() -> None:
    """One that stays is named by its owner; one between two looks shows in the server's counter; a leak by its age."""
    stays = held(look(0.0), after=server(session(1), session(2, name="case_labels/case_trigger/7"), opened=11))
    assert stays.observed == "PLATFORM_DSN: 1 new session of case_labels/case_trigger/7"
    unseen = held(look(0.0), after=server(session(1), opened=12))
    assert unseen.observed == "2 sessions were opened and closed again between two looks"
    leak = held(look(0.0, servers=server(session(1, state="idle in transaction", since=2.5))))
    assert "idle in transaction for 2.5 s" in leak.observed
    short = held(look(0.0, servers=server(session(1, state="idle in transaction", since=0.2))))
    assert short.verdict == PASS
    again = held(look(0.0), after=server(session(1), counted_from="b"))
    assert "counters began anew" in again.observed


def test_a_hold_that_nobody_watched_is_no_pass() -> None:
    """Looks too far apart: FAIL, and not measured."""
    found = held(look(0.0), look(9.0), seconds=10.0)
    assert (found.verdict, found.measured) == (FAIL, False)


# --- connections


def moments(**opened: int) -> dict[str, dict[str, ServerSessions]]:
    """Looks after each phase with the same one session; `opened` = the server's counter then."""
    counters = {"begin": 10, "gate_20": 10, "gate_200": 10, "liveness_idle_hold": 10, **opened}
    return {moment: server(session(1), opened=count) for moment, count in counters.items()}


OWN = {"begin": 0, "gate_20": 0, "gate_200": 0, "liveness_idle_hold": 0}


def test_a_connection_per_batch_is_told_by_the_servers_counter() -> None:
    """Sessions that came and went are told, sessions of the watching process are not counted, and first uses are allowed."""
    judge = connections_bounded.judge
    assert judge(moments(), own=OWN, ages=AGES).verdict == PASS
    per_batch = moments(gate_200=15, liveness_idle_hold=15)
    assert judge(per_batch, own=OWN, ages=AGES).observed == "gate_200: 5 of 5 sessions were opened and closed again"
    assert judge(per_batch, own={**OWN, "gate_200": 5, "liveness_idle_hold": 5}, ages=AGES).verdict == PASS
    uses = moments(gate_200=13, liveness_idle_hold=13)
    uses["gate_200"] = server(*map(session, range(1, 5)), opened=13)
    uses["liveness_idle_hold"] = uses["gate_200"]
    assert judge(uses, own=OWN, ages=AGES).verdict == PASS
    leak = moments(gate_200=30, liveness_idle_hold=30)
    leak["gate_200"] = leak["liveness_idle_hold"] = server(*map(session, range(1, 22)), opened=30)
    assert judge(leak, own=OWN, ages=AGES).observed == "gate_200 opened 20 sessions, gate_20 0: they grow"


# --- the scan


def scan(windows: dict[str, Window] | None = None, **changes: Any) -> Finding:
    facts: dict[str, Any] = {"silent": [], "contained": {}, "views": None, "seconds": 60.0, **changes}
    return recurrence_scan.judge(windows or {}, **facts)


def test_a_scan_passes_over_nothing_it_has_not_read() -> None:
    """A gap, a silent worker, a fault by the heartbeat, a session that ended badly: each is a FAIL."""
    assert scan().verdict == PASS
    gap = scan({"logs/w.log": Window((), (), "w.log: what stood there is gone")})
    assert (gap.verdict, gap.measured) == (FAIL, False)
    silent = scan(silent=["case_trigger"])
    assert (silent.verdict, silent.measured) == (FAIL, False)
    assert scan(contained={"case_trigger": {"transient": 2}}).verdict == FAIL
    views = {"sessions_ended_badly": 0, "deadlocks": 0, "samples": 120}
    assert "by its activity views (120 looks)" in scan(views=views).observed
    assert scan(views={**views, "sessions_ended_badly": 1}).verdict == FAIL


def test_faults_since_the_run_began_are_counted_and_a_new_process_begins_at_nothing() -> None:
    """Heartbeat counters are compared for the same process; another one's are all of this run."""
    before = {"case_trigger": beat(faults={"transient": 3})}
    assert recurrence_scan.contained(before, {"case_trigger": beat(faults={"transient": 3})}) == {}
    grown = recurrence_scan.contained(before, {"case_trigger": beat(faults={"transient": 4, "poison": 1})})
    assert grown == {"case_trigger": {"transient": 1, "poison": 1}}
    other = recurrence_scan.contained(before, {"case_trigger": beat(faults={"transient": 2}, start_ticks=9)})
    assert other == {"case_trigger": {"transient": 2}}


def test_the_words_of_the_incident_are_found_and_digits_by_chance_are_not() -> None:
    """Literals, errno and SQLSTATE in each kind of log; 10048 inside an id, a time, a pid or a count is none."""
    seed = "psycopg.OperationalError: connection failed: Address already in use (0x00002740/10048)"
    assert [hit.word for hit in hits_of_text("f", [seed])] == [
        "psycopg.OperationalError", "Address already in use", "0x00002740", "10048",
    ]  # fmt: skip
    assert [hit.word for hit in hits_of_text("f", ["OSError: [Errno 99] Cannot assign requested address"])] == [
        "Cannot assign requested address", "EADDRNOTAVAIL",
    ]  # fmt: skip
    assert not hits_of_text("f", ["id a10048b", "12:00:00.10048", "pid 10048, since", "[Errno 2] No such file"])
    line = {"event": "segment_sealed", "level": "info", "records": 10048, "key": "x/10048.json", "at": "T10048"}
    assert not hits_of_worker("f", [orjson.dumps(line).decode()])
    fault = {"event": "fault_contained", "level": "warning", "kind": "transient", "reason": "postgres: 57P01"}
    assert [hit.word for hit in hits_of_worker("f", [orjson.dumps(fault).decode()])] == ["transient: postgres: 57P01"]
    error = {"error_severity": "FATAL", "state_code": "53300", "message": "too many clients"}
    assert [hit.word for hit in hits_of_postgres("f", [orjson.dumps(error).decode()])] == ["53300 too many clients"]
    assert not hits_of_postgres(
        "f", [orjson.dumps({"error_severity": "LOG", "message": "checkpoint complete"}).decode()]
    )


def test_a_window_reads_over_a_rotation_and_tells_a_gap(tmp_path: Path) -> None:
    """Everything behind the mark, from the rotated file on; a file that is gone or was cut is a gap, not nothing."""
    log = tmp_path / "w.log"
    log.write_text("before\n")
    begun = mark(log)
    with log.open("a") as file:
        file.write("one\n")
    log.rename(tmp_path / "w.log.1")
    log.write_text("two\n")
    assert written_since(begun).lines == ("one", "two")
    (tmp_path / "w.log.1").unlink()
    assert "gone" in (written_since(begun).gap or "")
    cut = mark(log)
    log.write_text("")
    assert "was cut" in (written_since(cut).gap or "")
    fresh = mark(tmp_path / "new.log")
    (tmp_path / "new.log").write_text("first\n")
    assert written_since(fresh).lines == ("first",)


# --- report, environment, sequence


def test_a_report_with_a_missing_stage_line_or_output_is_not_whole() -> None:
    """Each part that is not there is named; so are a stage of another size, and records that still flow."""
    stages = dict.fromkeys(STAGES, 220)
    whole: dict[str, Any] = {
        "equations": [{"name": "a"}], "stages": stages, "outputs": {output: {} for output in OUTPUTS}, "caught_up": True,
    }  # fmt: skip
    assert incomplete(whole, equations={"a"}) == []
    assert incomplete(whole, equations={"a", "b"}) == ["the line b is not in the report"]
    less = {name: count for name, count in stages.items() if name != "audited"}
    assert incomplete({**whole, "stages": less}, equations={"a"}) == ["the stage audited is not in the report"]
    short = {**stages, "decided": 219}
    assert incomplete({**whole, "stages": short}, equations={"a"}) == ["the stage decided counts 219 of 220"]
    assert incomplete({**whole, "outputs": {}}, equations={"a"}) != []
    assert incomplete({**whole, "caught_up": False}, equations={"a"}) == ["records were still flowing when it was made"]


def test_an_environment_that_deviates_or_cannot_be_asked_is_no_pass() -> None:
    """FAIL for a deviation; not measured when nothing could be asked, or nothing was."""
    good = judged("a", good=True, expected="e", observed="o", remedy="r")
    bad = judged("b", good=False, expected="e", observed="o", remedy="r")
    mute = unknown("c", expected="e", why="away", remedy="r")
    judge = environment_conformance.judge
    assert judge([good]).verdict == PASS
    assert (judge([good, bad]).verdict, judge([good, bad]).measured) == (FAIL, True)
    assert (judge([good, mute]).verdict, judge([good, mute]).measured) == (FAIL, False)
    assert (judge([]).verdict, judge([]).measured) == (FAIL, False)


def test_the_exit_code_tells_no_from_unknown() -> None:
    """0 all pass, 1 when one that was measured failed, 4 when what failed could not be measured."""
    good, bad, mute = Finding("e", "o", PASS), Finding("e", "o", FAIL), unmeasured("e", "away")
    assert _exit_code({"a": good}) is ExitCode.GOOD
    assert _exit_code({"a": good, "b": bad, "c": mute}) is ExitCode.NO
    assert _exit_code({"a": good, "c": mute}) is ExitCode.UNKNOWN


def test_the_gates_are_the_eight_in_their_order() -> None:
    """Names and order are a contract."""
    assert list(GATES) == [
        "gate_20", "gate_200", "liveness_post_stream", "liveness_idle_hold", "recurrence_scan", "connections_bounded",
        "run_report", "environment_conformance",
    ]  # fmt: skip


def test_a_worker_is_silent_when_its_log_holds_nothing_of_its_process(tmp_path: Path) -> None:
    """A line since the process began is enough, in the window or before it; only older lines, or no beat, are silence."""
    me = identity_of(os.getpid())
    assert me
    clock, log = SystemClock(), tmp_path / "logs" / "case_trigger.log"
    log.parent.mkdir()
    scene: Any = SimpleNamespace(
        clock=clock, read_beats=lambda: {"case_trigger": replace(beat(), **vars_of(me))},
        profile=SimpleNamespace(path=lambda *parts: tmp_path.joinpath(*parts)),
    )  # fmt: skip
    quiet, spoken = Window((), (), None), Window(('{"event":"x"}',), (), None)
    silent = recurrence_scan._silent
    log.write_text('{"event":"worker_stopped","at":"2020-01-01T00:00:00Z"}\n')
    assert silent(scene, "case_trigger", {"logs/case_trigger.log": quiet})
    assert not silent(scene, "case_trigger", {"logs/case_trigger.log": spoken})
    with log.open("a") as file:
        file.write(f'{{"event":"worker_started","at":"{iso(clock.now())}"}}\n')
    assert not silent(scene, "case_trigger", {"logs/case_trigger.log": quiet})
    log.unlink()
    assert silent(scene, "case_trigger", {"logs/case_trigger.log": quiet})
    scene.read_beats = dict
    assert silent(scene, "case_trigger", {"logs/case_trigger.log": quiet})


def vars_of(process: ProcessIdentity) -> dict[str, Any]:
    return {"pid": process.pid, "start_ticks": process.start_ticks, "boot_id": process.boot_id}
