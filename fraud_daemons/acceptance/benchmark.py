"""The benchmark: the whole line, durable, on the running platform, beside two bare probes on the same server.

Figures are ratios of one run on one machine. Rate = transactions / (last record of the run durable - first POST);
latency = a transaction's last part admitted -> its decision durable; memory = PSS of every process of the run
directory, substrate included, its growth counted from the end of a warm-up. The probes run first, while the platform
is idle, and count by their median.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, LiteralString

from fraud_daemons.acceptance.progress import wait_until_caught_up
from fraud_daemons.acceptance.streaming import new_run, request_stream, wait_for_stream
from fraud_daemons.bootstrap import operator_database, owner_dsn
from fraud_daemons.clock import Clock, SystemClock
from fraud_daemons.config.profiles import Profile
from fraud_daemons.errors import CommandError, ExitCode
from fraud_daemons.postgres_runtime.connector import Connection
from fraud_daemons.postgres_runtime.statements import load
from fraud_daemons.runtime.database import Database, connections
from fraud_daemons.worlds.generator import make_world

PROBE_RUNS = 3
PROBE_TIMEOUT_SECONDS = 180
PACED_PER_SECOND = 300
WARM_UP_TRANSACTIONS = 8_000
"""Streamed before anything is measured, so that the server's buffers and the workers' windows hold what they will hold:
memory that grows after this grows without end."""
WAIT_SECONDS_MAX = 900.0
_SQL = "fraud_daemons.acceptance.sql"


@dataclass(frozen=True)
class Plan:
    """How long each part lasts. `transactions` bounds the flat-out part, `paced_seconds` the two paced ones."""

    transactions: int
    paced_seconds: int
    probes: bool


@dataclass(frozen=True)
class Leg:
    """What one streamed run showed."""

    transactions: int
    seconds: float
    admitted_seconds: float
    latency_ms: dict[str, float]


_MOMENTS: Final = (
    (
        "WSP_CHECKPOINT_DSN",
        "select extract(epoch from min(started_at))::float8 from wsp.streams where platform_run_id = %(run)s",
    ),
    (
        "IG_ADMISSION_DSN",
        "select extract(epoch from max(admitted_at))::float8 from ig.admissions where platform_run_id = %(run)s",
    ),
    (
        "EVENT_BUS_DSN",
        "select extract(epoch from max(appended_at))::float8 from bus.log where platform_run_id = %(run)s",
    ),
)
"""First POST, last admission and last durable record of a run: DSN name and statement."""


class Benchmark:
    """One benchmark on one running platform."""

    def __init__(self, profile: Profile, plan: Plan, *, tell: Callable[[str], None]) -> None:
        self._profile = profile
        self._plan = plan
        self._tell = tell
        self._clock: Clock = SystemClock()
        self._database: Database = operator_database(profile, "bench")

    def run(self) -> dict[str, Any]:
        """The JSON object of `platform bench --json`."""
        line, floor = self._probes()
        world = self._world()
        self._tell(f"warm-up: {WARM_UP_TRANSACTIONS} transactions")
        self._leg(world, min(WARM_UP_TRANSACTIONS, self._plan.transactions), rate=None)
        before, memory_before = self._server(), self._pss_bytes()
        self._tell(f"flat out: {self._plan.transactions} transactions")
        flat = self._leg(world, self._plan.transactions, rate=None)
        memory_after = self._pss_bytes()
        after = self._server()
        decided = flat.transactions / flat.seconds
        self._tell(f"flat out: {decided:.0f} decided/s; now paced at {PACED_PER_SECOND}/s")
        at_300 = self._paced(world, PACED_PER_SECOND)
        self._tell(f"paced at half of flat out: {decided / 2:.0f}/s")
        at_half = self._paced(world, max(1, int(decided / 2)))
        return {
            "decided_per_second": round(decided, 1),
            "admitted_per_second": round(flat.transactions * 4 / flat.admitted_seconds, 1),
            "latency_ms": {"at_300_per_second": at_300.latency_ms, "at_half_rate": at_half.latency_ms},
            "sessions_opened": after["sessions"] - before["sessions"],
            "transactions_per_decision": round((after["commits"] - before["commits"]) / flat.transactions, 3),
            "pss_bytes_total": memory_after,
            "pss_growth_percent": round(100 * (memory_after - memory_before) / memory_before, 1),
            "line_probe_per_second": line,
            "floor_probe_per_second": floor,
            "decided_over_line": round(decided / line, 3) if line else None,
            "durability": self._durability(),
            "transactions": flat.transactions,
            "seconds": round(flat.seconds, 1),
        }

    def _world(self) -> str:
        name = f"bench_{self._plan.transactions}"
        make_world(
            self._profile.path("worlds"), name=name, transactions=self._plan.transactions, seed=1,
            currency=self._profile.get("decision.currency"),
        )  # fmt: skip
        return name

    def _leg(self, world: str, transactions: int, *, rate: float | None) -> Leg:
        """Stream `transactions` of the world into a new run and wait until everything is durable."""
        self._clock_tick()
        run = new_run(self._profile, note="benchmark").platform_run_id
        stream_id = request_stream(
            self._profile, world=world, platform_run_id=run, max_events_per_output=transactions, rate=rate
        )
        wait_for_stream(self._profile, stream_id, timeout_seconds=WAIT_SECONDS_MAX)
        wait_until_caught_up(
            partial(operator_database, self._profile, "bench"),
            beats=self._profile.path("beats"),
            clock=self._clock,
            timeout_seconds=WAIT_SECONDS_MAX,
        )
        with connections(partial(operator_database, self._profile, "bench")) as at:
            row = at("DF_REPLAY_DSN").execute(load(_SQL, "benchmark_leg.sql"), {"run": run}).fetchone()
            first_post, admitted, durable = (_moment(at(name), statement, run) for name, statement in _MOMENTS)
        if row is None or row[0] != transactions:
            raise CommandError(
                f"bench: {row and row[0]} of {transactions} decided; see: platform report", exit_code=ExitCode.NO
            )
        decided, p50, p95, p99 = row
        return Leg(decided, durable - first_post, admitted - first_post, {"p50": p50, "p95": p95, "p99": p99})

    def _paced(self, world: str, rate: int) -> Leg:
        return self._leg(world, min(self._plan.transactions, rate * self._plan.paced_seconds), rate=rate)

    def _clock_tick(self) -> None:
        """Run ids have a resolution of a second."""
        import threading

        self._clock.wait(1.1, threading.Event())

    def _server(self) -> dict[str, int]:
        with self._database.scope() as connection:
            row = connection.execute(
                "select sessions, xact_commit from pg_stat_database where datname = current_database()"
            ).fetchone()
        return {"sessions": row[0], "commits": row[1]} if row else {"sessions": 0, "commits": 0}

    def _durability(self) -> dict[str, str]:
        with self._database.scope() as connection:
            rows = connection.execute(
                "select name, setting from pg_settings where name in ('fsync', 'synchronous_commit', 'full_page_writes')"
            ).fetchall()
        return {str(name): str(setting) for name, setting in rows}

    def _pss_bytes(self) -> int:
        """PSS of every process that carries this run directory, and of their children: PostgreSQL's sessions write
        their title over the environment that would name it."""
        marker = f"PLATFORM_RUN_DIR={self._profile.run_dir}".encode()
        parents: dict[int, int] = {}
        ours: set[int] = set()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    stat = (entry / "stat").read_text()
                    parents[int(entry.name)] = int(stat[stat.rindex(")") + 2 :].split()[1])
                    if marker in (entry / "environ").read_bytes():
                        ours.add(int(entry.name))
                except OSError:  # another user's process, or one that just left
                    continue
        ours |= {pid for pid, parent in parents.items() if parent in ours}
        return sum(_pss_of(Path("/proc", str(pid))) for pid in ours)

    def _probes(self) -> tuple[float | None, float | None]:
        folder = self._profile.root / "benchmarks" / "probes"
        if not self._plan.probes:
            return None, None
        self._tell(f"probes on the idle server, median of {PROBE_RUNS}")
        return self._probe(folder / "line_probe.py", "line"), self._probe(folder / "floor_probe.py", "floor")

    def _probe(self, script: Path, word: str) -> float:
        """Median rate of a probe. It takes its DSN as an argument, so it gets one without a password, by PGPASSWORD."""
        dsn, password = owner_dsn(self._profile)
        rates = []
        for _ in range(PROBE_RUNS):
            done = subprocess.run(
                [sys.executable, str(script), dsn], capture_output=True, text=True, timeout=PROBE_TIMEOUT_SECONDS,
                env={**os.environ, "PGPASSWORD": password}, check=False,
            )  # fmt: skip
            found = re.search(rf"^{word} (\d+)", done.stdout, flags=re.MULTILINE)
            if done.returncode or not found:
                raise CommandError(f"bench: {script.name} failed: {(done.stderr or done.stdout).strip()[-300:]}")
            rates.append(float(found.group(1)))
        return statistics.median(rates)


def _pss_of(entry: Path) -> int:
    try:
        found = re.search(r"^Pss:\s+(\d+) kB", (entry / "smaps_rollup").read_text(), flags=re.MULTILINE)
    except OSError:  # it left meanwhile
        return 0
    return int(found.group(1)) * 1024 if found else 0


def _moment(connection: Connection, statement: LiteralString, run: str) -> float:
    """Seconds since the epoch; 0 where nothing happened."""
    row = connection.execute(statement, {"run": run}).fetchone()
    return float(row[0] or 0.0) if row else 0.0
