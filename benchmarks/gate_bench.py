"""The gate by itself, beside what a bare admission reaches on the same server in the same run. Prints one JSON object.

usage: gate_bench.py [--events 60000] [--batch 500] [--rounds 3] [--in-flight 1 2] [--single-seconds 30] [--run-dir DIR]

A platform of one pack (control_ingress) is brought up on its own substrate and taken down again, so nobody reads behind
the gate. In turn, so that all meet the same machine: the floor probe's `gate` stage alone, then one client that POSTs
the same number of events in batches, once with each number of requests in flight: with one the client, the gate and the
server work in turn, with two (over two connections) the gate has the next batch while the server commits the last. The
four outputs come in equal parts, encoded beforehand like the probe's. An answer means that the receipts are committed
with fsync. Memory is the gate's PSS after the first and after the last round. Last, single events at 50 a second, each
timed from the moment it was due.

On a machine with other work only the CPU per event compares: of the gate's process and of its database sessions, evidence
included, by events. It is a yardstick and judges nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import importlib.util
import io
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import orjson
import psycopg
from psycopg.conninfo import make_conninfo

from fraud_daemons.domain.envelope import OUTPUTS, make_event
from fraud_daemons.domain.identity import derived_id

ROOT = Path(__file__).resolve().parents[1]
COMMAND = Path(sys.executable).parent / "platform"
PROBE = ROOT / "benchmarks/probes/floor_probe.py"
SINGLES_PER_SECOND = 50
COMMAND_SECONDS_MAX = 180


class Alone:
    """A platform of the gate's pack only; of another checkout when one is named."""

    def __init__(self, run_dir: Path, *, tree: Path = ROOT) -> None:
        self.run_dir = run_dir
        self._tree = tree
        self._command = tree / ".venv/bin/platform" if tree != ROOT else COMMAND
        mine = {
            "PLATFORM_PROFILE_RUN_DIR": str(run_dir),
            "PLATFORM_PROFILE_PACKS": "control_ingress",
            "PLATFORM_GATE_PORT": "0",
        }
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith("PLATFORM")} | mine

    def say(self, *words: str) -> Any:
        done = subprocess.run(
            [str(self._command), *words, "--json"], cwd=self._tree, env=self._environment, capture_output=True, text=True,
            timeout=COMMAND_SECONDS_MAX, check=False,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(
                f"platform {' '.join(words)}: exit {done.returncode}: {(done.stderr or done.stdout)[-500:]}"
            )
        return json.loads(done.stdout)

    def pid(self) -> int:
        workers = [w for pack in self.say("status")["packs"] for w in pack["workers"]]
        return next(int(w["pid"]) for w in workers if w["worker"] == "ingestion_gate")

    def port(self) -> int:
        return int(json.loads((self.run_dir / "ports.json").read_text())["gate_port"])

    def secrets(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.run_dir / "secrets.json").read_text())
        return found

    def dsn(self, dbname: str) -> str:
        password = self.secrets()["postgres"]["fp_owner"]
        return make_conninfo(host=f"{self.run_dir}/pg", port=5432, user="fp_owner", password=password, dbname=dbname)


class Client:
    """One connection, kept open."""

    def __init__(self, port: int, key: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self._connection.connect()
        self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._headers = {"Content-Type": "application/json", "X-API-Key": key}

    def post(self, body: bytes) -> bytes:
        self.send(body)
        return self.receive()

    def send(self, body: bytes) -> None:
        self._connection.request("POST", "/v1/events", body=body, headers=self._headers)

    def receive(self) -> bytes:
        response = self._connection.getresponse()
        answer = response.read()
        if response.status != http.client.OK:
            raise SystemExit(f"the gate answered {response.status}: {answer[:300]!r}")
        return answer


def events(run: str, *, first: int, count: int) -> list[dict[str, Any]]:
    """`count` events of the four outputs in turn, of flows from `first` on."""
    who = {"party_id": None, "account_id": None, "card_token": "", "device_id": None, "ip": None}
    where = dict.fromkeys(("channel", "pos_entry_mode", "mcc", "merchant_name", "country", "state", "postal_code"))
    made = []
    for number in range(first, first + count // len(OUTPUTS)):
        place = {"merchant_id": f"m{number % 997}", "terminal_id": f"t{number % 1999}", "arrival_seq": number + 1}
        cards = who | {"card_token": f"card-{number % 5000}", "party_id": f"p{number % 5000}"}
        payloads: dict[str, dict[str, Any]] = {
            "traffic": {
                "flow_id": f"f{number}",
                "amount_minor": number % 50_000,
                "currency": "USD",
                "message_type": "0100",
            },
            "arrival_events": place | where | {"channel": "pos", "mcc": "5411"},
            "arrival_entities": place | cards,
            "flow_anchors": {"flow_id": f"f{number}"} | place | cards,
        }
        made += [
            make_event(
                event_type=output, payload=payloads[output], occurred_at="2026-01-01T00:00:00.000000Z", source_seq=number,
                platform_run_id=run, scenario_run_id=derived_id("scenario", "gate_bench"), world="gate_bench",
                producer="world_stream_producer",
            )
            for output in OUTPUTS
        ]  # fmt: skip
    return made


def posted(clients: Sequence[Client], bodies: Sequence[bytes]) -> list[bytes]:
    """The answers to `bodies`, each client's next request sent when its last answer is there: so many are in flight."""
    answers, turn = [], deque(clients[: len(bodies)])
    for client, body in zip(turn, bodies, strict=False):
        client.send(body)
    for body in bodies[len(turn) :]:
        answers.append(turn[0].receive())
        turn[0].send(body)
        turn.rotate(-1)
    return answers + [client.receive() for client in turn]


def admitted_per_second(clients: Sequence[Client], run: str, *, first: int, count: int, batch: int) -> float:
    made = events(run, first=first, count=count)
    bodies = [orjson.dumps(made[at : at + batch]) for at in range(0, len(made), batch)]
    began = time.perf_counter()
    answers = posted(clients, bodies)
    elapsed = time.perf_counter() - began
    admitted = sum(answer.count(b'"ADMITTED"') for answer in answers)
    if admitted != len(made):
        raise SystemExit(f"{len(made)} events were sent and {admitted} admitted")
    return admitted / elapsed


def single_milliseconds(client: Client, run: str, *, first: int, seconds: float) -> list[float]:
    """How long each of a steady stream of single events took, from when it was due: who is late delays the next."""
    bodies = [orjson.dumps(e) for e in events(run, first=first, count=int(seconds * SINGLES_PER_SECOND))]
    took, began = [], time.perf_counter()
    for number, body in enumerate(bodies):
        due = began + number / SINGLES_PER_SECOND
        if (early := due - time.perf_counter()) > 0:
            time.sleep(early)
        client.post(body)
        took.append((time.perf_counter() - due) * 1000)
    return sorted(took)


def probe_per_second(admin_dsn: str, *, events: int, batch: int) -> float:
    """The floor probe's `gate` stage, alone, in a database of its own that is dropped again."""
    probe = _probe_module(admin_dsn, events, batch)
    with psycopg.connect(admin_dsn, autocommit=True) as admin:
        admin.execute("drop database if exists floor_probe with (force)")
        admin.execute("create database floor_probe")
    try:
        with psycopg.connect(probe.DSN, autocommit=True) as connection:
            connection.execute(probe.SCHEMA)
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            probe.gate()
    finally:
        with psycopg.connect(admin_dsn, autocommit=True) as admin:
            admin.execute("drop database floor_probe with (force)")
    found = re.search(r"gate +(\d+) records/s", said.getvalue())
    if found is None:
        raise SystemExit(f"the probe said {said.getvalue()!r}")
    return float(found.group(1))


def _probe_module(admin_dsn: str, events: int, batch: int) -> ModuleType:
    """The probe as it lies there; it takes its arguments from the command line when it is loaded."""
    before, sys.argv = sys.argv, ["floor_probe", admin_dsn, str(events), str(batch)]
    try:
        spec = importlib.util.spec_from_file_location("floor_probe", PROBE)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.argv = before
    return module


def pss_bytes(pid: int) -> int:
    found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), flags=re.MULTILINE)
    return int(found.group(1)) * 1024 if found else 0


def cpu_seconds(pid: int) -> float:
    """What a process has used so far, all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def percentile(ordered: Sequence[float], share: float) -> float:
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2)


class Used:
    """CPU that the gate has used so far: its process, and its database sessions."""

    def __init__(self, alone: Alone) -> None:
        self._pid, self._dsn = alone.pid(), alone.dsn("fraud_platform")

    def seconds(self) -> tuple[float, float]:
        with psycopg.connect(self._dsn) as connection:
            sessions = connection.execute(
                "select pid from pg_stat_activity where application_name like %s", (f"%/ingestion_gate/{self._pid}",)
            ).fetchall()
        return cpu_seconds(self._pid), sum(cpu_seconds(pid) for (pid,) in sessions)


@dataclass
class Series:
    """What one number of requests in flight came to, a figure per round; CPU in microseconds an event."""

    per_second: list[float] = field(default_factory=list)
    over_probe: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    sessions_cpu: list[float] = field(default_factory=list)

    def said(self) -> dict[str, float]:
        return {
            "admitted_per_second": round(statistics.median(self.per_second)),
            "admitted_over_probe": round(statistics.median(self.over_probe), 3),
            "gate_cpu_us_per_event": round(statistics.median(self.cpu), 1),
            "sessions_cpu_us_per_event": round(statistics.median(self.sessions_cpu), 1),
        }


def measured(alone: Alone, plan: argparse.Namespace) -> dict[str, Any]:
    run = alone.say("run", "new")["platform_run_id"]
    port, key = alone.port(), alone.secrets()["gate"]["producer_key"]
    clients, used = [Client(port, key) for _ in range(max(plan.in_flight))], Used(alone)
    admitted_per_second(
        clients, run, first=0, count=plan.events // 4, batch=plan.batch
    )  # warm: plans, caches, sessions
    first = plan.events
    series, probe, memory = {in_flight: Series() for in_flight in plan.in_flight}, [], []
    for _ in range(plan.rounds):
        probe.append(probe_per_second(alone.dsn("postgres"), events=plan.events, batch=plan.batch))
        for in_flight, one in series.items():
            before = used.seconds()
            one.per_second.append(
                admitted_per_second(clients[:in_flight], run, first=first, count=plan.events, batch=plan.batch)
            )
            time.sleep(plan.settle_seconds)  # what is sealed behind the last answers is paid for by these events too
            after = used.seconds()
            one.over_probe.append(one.per_second[-1] / probe[-1])
            one.cpu.append((after[0] - before[0]) / plan.events * 1e6)
            one.sessions_cpu.append((after[1] - before[1]) / plan.events * 1e6)
            first += plan.events
        memory.append(pss_bytes(alone.pid()))
    singles = single_milliseconds(clients[0], run, first=first, seconds=plan.single_seconds)
    with psycopg.connect(alone.dsn("fraud_platform")) as connection:
        [durable] = connection.execute(
            "select current_setting('fsync') || current_setting('synchronous_commit') || current_setting('full_page_writes')"
        ).fetchone() or [""]
    return {
        **series[plan.in_flight[0]].said(),
        "by_requests_in_flight": {str(in_flight): one.said() for in_flight, one in series.items()},
        "probe_gate_per_second": round(statistics.median(probe)),
        "rounds": [
            {"probe": round(p), **{f"gate_{n}": round(one.per_second[at]) for n, one in series.items()}}
            for at, p in enumerate(probe)
        ],
        "gate_pss_bytes": memory,
        "gate_pss_growth_percent": round(100 * (memory[-1] - memory[0]) / memory[0], 1),
        "single_ms_at_50_per_second": {f"p{share:g}": percentile(singles, share / 100) for share in (50, 95, 99)},
        "single_events": len(singles),
        "events": plan.events,
        "batch": plan.batch,
        "durable": durable == "ononon",
    }


@contextlib.contextmanager
def running(run_dir: Path | None, *, tree: Path = ROOT) -> Iterator[Alone]:
    folder = run_dir or Path(tempfile.mkdtemp(prefix="fp", dir="/tmp"))
    alone = Alone(folder / "run", tree=tree)
    try:
        alone.say("up", "--timeout", "120")
        yield alone
    finally:
        alone.say("down")
        if run_dir is None:
            shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="The gate by itself, beside the floor probe's gate stage.")
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--batch", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--in-flight", type=int, nargs="+", default=[1, 2], help="requests in flight; each is measured")
    parser.add_argument(
        "--settle-seconds", type=float, default=3.0, help="after a series, for what is sealed behind it"
    )
    parser.add_argument("--single-seconds", type=float, default=30.0)
    parser.add_argument("--run-dir", type=Path, default=None)
    plan = parser.parse_args()
    with running(plan.run_dir) as alone:
        print(json.dumps(measured(alone, plan), indent=1))


if __name__ == "__main__":
    main()
