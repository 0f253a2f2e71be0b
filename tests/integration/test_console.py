"""The console over real HTTP and real tables: who may look, what is shown, what stays shown while the database is away."""

from __future__ import annotations

import http.client
import re
import socket
import threading
from pathlib import Path

import orjson
import pytest

from fraud_daemons.errors import TransientFault
from fraud_daemons.postgres_runtime.connector import Connection, ConnectOptions, DsnSource, close_thread_connections
from fraud_daemons.runtime.database import Database
from fraud_daemons.state import overview
from fraud_daemons.status.picture import ProcessState
from tests.console import TOKEN, free_port, open_console
from tests.line import Line

STATIC = Path(__file__).parents[2] / "fraud_daemons" / "console" / "static"
SECRET_PATHS = ("/stream", "/snapshot", "/metrics")


def test_without_the_token_nothing_is_shown(line: Line) -> None:
    """The page asks for the token, and no picture, stream or metric leaves without it or with a wrong one."""
    with open_console(line) as console:
        page = console.get("/")
        assert page.status == 401
        assert b"login.js" in page.body
        assert [console.get(path).status for path in SECRET_PATHS] == [401, 401, 401]
        assert [console.get(path, token="wrong").status for path in SECRET_PATHS] == [403, 403, 403]
        assert console.get("/healthz").json == {"status": "ok"}


def test_the_token_buys_a_cookie_that_is_not_the_token(line: Line) -> None:
    """The right token opens a session: HttpOnly, SameSite=Strict, and nobody who reads the cookie has the token."""
    with open_console(line) as console:
        answer = console.enter(TOKEN)
        cookie = answer.headers["Set-Cookie"]
        assert answer.status == 200
        assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
        assert TOKEN not in cookie
        session = cookie.partition(";")[0]
        assert console.get("/", Cookie=session).status == 200
        assert console.get("/snapshot", Cookie=session).status == 200
        assert console.get("/", Cookie=session[:-1] + "0x").status == 401


def test_wrong_tokens_are_refused_and_then_not_even_looked_at(line: Line) -> None:
    """After five wrong tokens every token gets 429 with Retry-After, the right one too; a page that is open goes on; one more
    try is given back every twelve seconds."""
    with open_console(line) as console:
        session = console.enter(TOKEN).headers["Set-Cookie"].partition(";")[0]
        assert [console.enter(f"guess {n}").status for n in range(5)] == [403] * 5
        refused = console.enter(TOKEN)
        assert refused.status == 429
        assert 1 <= int(refused.headers["Retry-After"]) <= 12
        assert console.get("/metrics", token=TOKEN).status == 429
        assert console.get("/snapshot", Cookie=session).status == 200
        line.clock.advance(int(refused.headers["Retry-After"]))
        assert console.enter(TOKEN).status == 200


def test_another_token_in_the_secrets_ends_every_session(line: Line) -> None:
    """A token that is replaced counts within seconds, and the cookies of the old one open nothing."""
    with open_console(line) as console:
        session = console.enter(TOKEN).headers["Set-Cookie"].partition(";")[0]
        line.secrets = {"console": {"token": "another"}}
        line.clock.advance(6)
        assert console.get("/", Cookie=session).status == 401
        assert console.enter(TOKEN).status == 403
        assert console.enter("another").status == 200


def test_without_a_token_in_the_secrets_nobody_enters(line: Line) -> None:
    """An empty secret is no password: neither the empty token nor a session made of it opens anything."""
    with open_console(line) as console:
        line.secrets = {}
        assert console.enter("").status == 403
        assert console.get("/metrics", token="").status in (401, 403)


def test_only_loopback_names_are_answered(line: Line) -> None:
    """A name from elsewhere that was made to lead here (DNS rebinding) is refused, whatever it asks; the port listens on
    loopback only."""
    with open_console(line) as console:
        for host in ("evil.example", f"evil.example:{console.port}", "127.0.0.1"):
            assert console.get("/", Host=host).status == 421
            assert console.get("/snapshot", token=TOKEN, Host=host).status == 421
        assert console.get("/healthz", Host=f"localhost:{console.port}").status == 200
        table = Path("/proc/net/tcp").read_text().splitlines()[1:]
        listening = [row.split()[1] for row in table if row.split()[3] == "0A"]
        assert f"0100007F:{console.port:04X}" in listening
        assert f"00000000:{console.port:04X}" not in listening


def test_every_answer_forbids_what_the_page_does_not_need(line: Line) -> None:
    """Security headers are on every answer, and the policy allows no inline script or style - and the pages have none."""
    with open_console(line) as console:
        for path in ("/", "/snapshot", "/static/console.js", "/nowhere"):
            headers = console.get(path, token=TOKEN).headers
            policy = headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Referrer-Policy"] == "no-referrer"
    for page in STATIC.glob("*.html"):
        text = page.read_text()
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=|https?://", text), page.name
    assert "innerHTML" not in (STATIC / "console.js").read_text()


def test_the_console_only_reads(line: Line) -> None:
    """No route changes anything: every method but GET is refused, apart from the exchange of the token."""
    with open_console(line) as console:
        assert console.request("POST", "/snapshot", b"{}", Authorization=f"Bearer {TOKEN}").status == 405
        assert console.request("DELETE", "/", Authorization=f"Bearer {TOKEN}").status == 405
        assert console.get("/session").status == 405
        assert console.get("/static/../web.py", token=TOKEN).status == 404
        assert console.request("POST", "/session", b"nonsense").status == 400


def test_the_picture_is_what_status_and_the_tables_say(line: Line) -> None:
    """Status, restarts, lag, counters, topics, runs and reports in the picture are those of their sources."""
    run = line.begin_run()
    line.append("traffic", [{"event_id": f"{n}", "pins": {"platform_run_id": run}} for n in range(7)])
    line.sql("insert into reporter.requests values (%s, 'r1', now())", (run,))
    line.sql(
        "insert into reporter.reports values (%s, 'r1', 'FAIL', %s, '', '', 'COMPLETE', now())",
        (run, b'{"equations": [{"name": "a", "missing": 1, "surplus": 0}, {"name": "b", "missing": 0, "surplus": 0}]}'),
    )
    line.sql(
        "insert into checkpoints.positions values ('context_store_flow_binding', 'traffic', 0, 0, 1),"
        " ('context_store_flow_binding', 'traffic', 1, 0, 1), ('context_store_flow_binding', 'traffic', 2, 0, 1)"
    )
    with open_console(line) as console:
        picture = console.look()
    worker = picture["status"]["packs"][0]["workers"][0]
    assert (worker["worker"], worker["status"], worker["lag_records"]) == ("decision_fabric", "running ready", 3)
    assert picture["beats"]["decision_fabric"]["connector"]["reused"] == 80
    assert picture["flow"]["heads"]["traffic"] == 7
    assert ["context_store_flow_binding", "traffic", 7] in picture["flow"]["lags"]
    assert picture["ledgers"]["runs"][0]["platform_run_id"] == run
    report = picture["ledgers"]["reports"][0]
    assert (report["verdict"], report["failed_lines"]) == ("FAIL", ["a"])
    assert picture["ledgers"]["posture"]["mode"] == "NORMAL"
    assert (picture["status_problem"], picture["tables_problem"]) == (None, None)


def test_a_pin_is_shown_with_its_reason_and_since_when(line: Line) -> None:
    """The posture is the one in force, with who pinned it, why and since when."""
    line.begin_run()
    line.sql(
        "insert into control.posture_pins (mode, reason, pinned_by, pinned_at) values ('DEGRADED_1', 'a drill', 'ann', now())"
    )
    with open_console(line) as console:
        posture = console.look()["ledgers"]["posture"]
    assert (posture["mode"], posture["reason"], posture["by"]) == ("DEGRADED_1", "a drill", "ann")
    assert posture["since"]


def test_a_death_a_wait_and_a_fault_come_onto_the_timeline(line: Line, short_dir: Path) -> None:
    """What the audit says, and what it cannot know - a change of status, a fault contained - stand in one order of time."""
    (short_dir / "events.ndjson").write_text(
        '{"at": "2025-12-31T23:59:00.000000Z", "worker": "decision_fabric", "pack": "decision_lane", "kind": "exit", '
        '"cause": "signal", "signal": "SIGKILL", "pid": 7, "restarts": 1, "last_log_lines": ["a secret"]}\n{"cut'
    )
    with open_console(line) as console:
        console.look()
        console.processes["decision_fabric"] = ProcessState(
            "decision_fabric", "decision_lane", "backoff", reason="exit 70"
        )
        timeline = console.look()["timeline"]
    assert [(e["worker"], e["kind"], e["cause"]) for e in timeline] == [
        ("decision_fabric", "exit", "signal"),
        ("decision_fabric", "status", "running failing"),
    ]
    assert "last_log_lines" not in timeline[0]


def test_two_pages_get_the_same_bytes_and_a_page_too_many_is_told_so(line: Line) -> None:
    """One picture serves all pages; beyond console.pages_max a page gets 503 with Retry-After."""
    with open_console(line, settings={"console.pages_max": 2}) as console:
        console.look()
        pages = [_Page(console.port), _Page(console.port)]
        before = [page.next("history") for page in pages]
        assert before[0] == before[1]
        for _ in range(2):
            console.activities[0].step()
            sequence = orjson.loads(console.board.fresh(age_seconds_max=60.0, wait_seconds=0.0))["sequence"]
            seen = [page.picture(sequence) for page in pages]
            assert seen[0] == seen[1]
        late = console.get("/stream", token=TOKEN)
        assert (late.status, late.headers["Retry-After"]) == (503, "5")


def test_the_status_is_drawn_while_the_database_is_away(line: Line) -> None:
    """With nobody behind the DSN the workers' states are still drawn anew, and the page says what it cannot know."""
    dead = f"host=127.0.0.1 port={free_port()} dbname=none user=none"
    database = Database(DsnSource("DEAD", lambda: dead), ConnectOptions(application_name="test"))
    with open_console(line, database=database) as console:
        console.board.ask()
        status, _, tables = console.activities
        with pytest.raises(TransientFault):
            tables.step()
        status.step()
        picture = console.get("/snapshot", token=TOKEN).json
    assert picture["tables_problem"].startswith("postgres")
    assert picture["status"]["packs"][0]["workers"][0]["status"] == "running ready"
    close_thread_connections()


def test_nothing_can_be_written_by_looking(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """The console's transactions are read only, whatever its role may do: a statement that writes is refused by the server."""
    run = line.begin_run()

    def writes(connection: Connection) -> list[dict[str, object]]:
        connection.execute("insert into reporter.requests values (%s, 'r1', now())", (run,))
        return []

    monkeypatch.setattr(overview, "reports", writes)
    with open_console(line) as console:
        console.board.ask()
        with pytest.raises(Exception, match=r"25006|read-only"):
            console.activities[2].step()
    assert line.sql("select count(*) from reporter.requests") == [(0,)]


def test_a_silent_supervisor_is_said_and_not_painted_green(line: Line) -> None:
    """When nobody can tell the processes' states, the page says so; what was known before stays, with the problem beside it."""

    def silent() -> dict[str, object]:
        raise TransientFault("no answer in 3 s", reason="supervisor: no answer")

    with open_console(line, look=silent) as console:
        console.board.ask()
        with pytest.raises(TransientFault):
            console.activities[0].step()
        assert console.get("/snapshot", token=TOKEN).json["status_problem"] == "supervisor: no answer"
        assert b"fraud_daemons_console_status_known 0.0" in console.get("/metrics", token=TOKEN).body


def test_when_nobody_looks_nothing_is_asked(line: Line) -> None:
    """Without a page, a scraper or a hook, a step asks neither the supervisor nor the database."""
    looks = []

    def counted() -> dict[str, object]:
        looks.append(1)
        return {"packs": [], "substrate": [], "profile": "test", "verdict": "stopped"}

    dead = Database(DsnSource("DEAD", lambda: "host=127.0.0.1 port=1"), ConnectOptions(application_name="test"))
    with open_console(line, look=counted, database=dead) as console:
        console.step()
        assert looks == []


class _Page:
    """An open page: a stream of events, read one by one."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        request = f"GET /stream HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
        self._socket.sendall(request.encode())
        self._response = http.client.HTTPResponse(self._socket)
        self._response.begin()
        assert self._response.getheader("Content-Type") == "text/event-stream"

    def next(self, name: str) -> bytes:
        """The next event of that name ("" = a picture)."""
        event = ""
        for line in self._response:
            if line.startswith(b"event: "):
                event = line[7:].strip().decode()
            elif line.startswith(b"data: ") and event == name:
                return line
            elif line == b"\n":
                event = ""
        raise AssertionError("the stream ended")

    def picture(self, sequence: int) -> bytes:
        """The picture of that number; a page that was slow gets those before it first, or none of them."""
        while orjson.loads((data := self.next("")).removeprefix(b"data: "))["sequence"] != sequence:
            pass
        return data


def test_an_open_page_does_not_hold_up_a_drain(line: Line) -> None:
    """When the console closes, it ends the streams first: draining takes a moment, not the pages' patience."""
    with open_console(line) as console:
        console.look()
        page = _Page(console.port)
        page.next("history")
        done = threading.Event()

        def close() -> None:
            for activity in console.activities:
                activity.close()
            done.set()

        threading.Thread(target=close, daemon=True).start()
        assert done.wait(3)
        console.activities.clear()
