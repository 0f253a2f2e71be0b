"""A console to talk to over real HTTP: `open_console(line)` builds the worker over the line's own tables and opens its port."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from fraud_daemons.console.board import Board
from fraud_daemons.console.status import StatusWatch
from fraud_daemons.observability.heartbeat import HeartbeatFile
from fraud_daemons.observability.process_identity import identity_of
from fraud_daemons.runtime.activity import Activity
from fraud_daemons.runtime.database import Database
from fraud_daemons.status.picture import ProcessState, draw_picture
from fraud_daemons.workers.obs_gov.console import WORKER
from tests.line import Line

TOKEN = "a-token-for-tests"
PACKS = {"decision_lane": ("decision_fabric",), "control_ingress": ("ingestion_gate",)}
BEAT = {
    "lag_records": 3,
    "steps": 40,
    "records": 900,
    "faults": {"transient": 2},
    "connector": {"opened": 1, "reused": 80, "waited": 5, "retried": 2, "evicted": 1},
    "detail": {"http_answers": {"200": 9, "429": 2, "503": 1}, "events_answered": {"admitted": 8, "duplicate": 1}},
}


@dataclass
class Answer:
    """Status, body and headers of one response."""

    status: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


@dataclass
class Console:
    """A running console and the platform it looks at: one process state per worker, which a test may change."""

    line: Line
    port: int
    activities: list[Activity]
    processes: dict[str, ProcessState]

    @property
    def board(self) -> Board:
        status = self.activities[0]
        assert isinstance(status, StatusWatch)
        return status.board

    def step(self) -> None:
        """Every activity once: the service, the status, the tables."""
        for activity in self.activities:
            activity.step()

    def look(self) -> dict[str, Any]:
        """The picture after a look at everything."""
        self.board.ask()  # somebody looks, so the next steps draw
        self.line.clock.advance(5.0)
        self.step()
        self.activities[0].step()  # what the tables said is shown with the next status
        return dict(self.get("/snapshot", token=TOKEN).json)

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            response = connection.getresponse()
            return Answer(response.status, response.read(), dict(response.getheaders()))
        finally:
            connection.close()

    def get(self, path: str, *, token: str | None = None, **headers: str) -> Answer:
        return self.request("GET", path, **({"Authorization": f"Bearer {token}"} if token else {}), **headers)

    def enter(self, token: str) -> Answer:
        """What the page does with the token of its link."""
        return self.request("POST", "/session", orjson.dumps({"token": token}))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def open_console(
    line: Line,
    *,
    settings: Mapping[str, Any] | None = None,
    database: Database | None = None,
    look: Callable[[], dict[str, Any]] | None = None,
) -> Iterator[Console]:
    """A console over the line, with beats of this very process; nothing has been looked at yet."""
    line.secrets = {"console": {"token": TOKEN}, "alerts": {"signing_key": "key-of-the-hook"}}
    line.ports["console"] = free_port()
    processes = {
        worker: ProcessState(worker, pack, "running", pid=os.getpid(), uptime_seconds=60.0)
        for pack, workers in PACKS.items()
        for worker in workers
    }
    context = line.context_for(WORKER, settings=settings)
    run_dir = context.profile.run_dir
    beats = write_beats(line, run_dir)

    def picture() -> dict[str, Any]:
        for beat in beats.values():
            beat.beat("ready", **BEAT)
        return draw_picture(
            profile="test",
            platform_run_id=line.run,
            packs=PACKS,
            processes=processes.values(),
            services=[],
            beats=run_dir / "beats",
            beat_age_seconds_max=12.0,
            now_monotonic=line.clock.monotonic(),
        ).to_json()

    context = replace(context, look_at_platform=look or picture)
    if database is not None:
        context = replace(context, database=database, database_of=lambda _name: database)
    console = Console(line, line.ports["console"], list(WORKER.build(context)), processes)
    console.activities[1].step()  # opens the port
    try:
        yield console
    finally:
        for activity in console.activities:
            activity.close()


def write_beats(line: Line, run_dir: Path) -> dict[str, HeartbeatFile]:
    """A beat per worker, as its loop would write it."""
    folder = run_dir / "beats"
    folder.mkdir(parents=True, exist_ok=True)
    me = identity_of(os.getpid())
    assert me is not None
    files = {
        worker: HeartbeatFile(
            folder / f"{worker}.json", worker=worker, pack=pack, process=me, clock=line.clock, version="test"
        )
        for pack, workers in PACKS.items()
        for worker in workers
    }
    for beat in files.values():
        beat.beat("ready", **BEAT)
    return files
