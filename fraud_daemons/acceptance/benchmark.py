"""The benchmark: the whole line, durable, on the running platform, beside two bare probes on the same server.

Figures are ratios of one run on one machine. Rate = transactions / (last record of the run durable - first POST);
latency = a transaction's last part admitted -> its decision durable; memory and CPU = those of every process of the run
directory, substrate included (`footprint`), growth counted from the end of a warm-up. The probes run first, while the
platform is idle, and count by their median.
"""

from __future__ import annotations

import math
import os
import re
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, LiteralString

from fraud_daemons.acceptance.footprint import Footprint, cpu_per_transaction, footprint, growth, pss_by_process
from fraud_daemons.acceptance.progress import wait_until_caught_up
from fraud_daemons.acceptance.streaming import new_run, request_stream, wait_for_stream
from fraud_daemons.bootstrap import operator_database, owner_dsn, servers
from fraud_daemons.clock import Clock, SystemClock
from fraud_daemons.config.profiles import Profile
from fraud_daemons.errors import CommandError, ExitCode
from fraud_daemons.postgres_runtime.connector import Connection
from fraud_daemons.postgres_runtime.statements import load
from fraud_daemons.runtime.database import Database, connections
from fraud_daemons.state.admissions import OF_RUN
from fraud_daemons.worlds.generator import make_world

PROBE_RUNS = 3
PROBE_TIMEOUT_SECONDS = 180
PACED_PER_SECOND = 300
TRANSACTIONS_MIN = 100
WAIT_SECONDS_MAX = 900.0
SPARE = 1.25
"""The flat-out part has so many times what the warm-up's rate would fill it with: that rate contains a beginning and an end."""
WORLD_MIN, WORLD_STEP = 20_000, 50_000
"""Worlds are made in steps of so many transactions, so that the next benchmark finds its world made."""
_SQL = "fraud_daemons.acceptance.sql"


@dataclass(frozen=True)
class Plan:
    """How long each part lasts. The flat-out part lasts `seconds`, or as long as `transactions` take where that is given;
    the paced ones `paced_seconds` each, 0 = neither.

    `warm_up` transactions are streamed before anything is measured, so that what has a bound has reached it: the server's
    128 MB of buffers are touched after some 8,000, the store's heap settles later. What still grows after 20,000 is state
    of the run itself - 200 bytes of windows per transaction - or grows without end.
    """

    warm_up: int
    seconds: int
    transactions: int | None
    paced_seconds: int
    probes: bool


@dataclass(frozen=True)
class Leg:
    """What one streamed run showed."""

    transactions: int
    seconds: float
    admitted_seconds: float
    latency_ms: dict[str, float]
    footprint: Footprint
    """When everything was durable, before anybody asked for figures."""


def flat_out_transactions(plan: Plan, *, per_second: float) -> int:
    """What the plan says, or as many as fill its seconds at the warm-up's rate, with some to spare."""
    return plan.transactions or max(TRANSACTIONS_MIN, math.ceil(plan.seconds * SPARE * per_second))


def world_size(transactions: int) -> int:
    """Transactions of the smallest of our worlds that has so many."""
    return WORLD_MIN if transactions <= WORLD_MIN else math.ceil(transactions / WORLD_STEP) * WORLD_STEP


_MOMENTS: Final = (
    (
        "WSP_CHECKPOINT_DSN",
        "select extract(epoch from min(started_at))::float8 from wsp.streams where platform_run_id = %(run)s",
    ),
    (
        "IG_ADMISSION_DSN",
        f"select extract(epoch from max(admitted_at))::float8 from ig.admissions where {OF_RUN}",
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
        self._tell(f"warm-up: {self._plan.warm_up} transactions")
        warm = self._leg(self._world(self._plan.warm_up), self._plan.warm_up, rate=None)
        transactions = flat_out_transactions(self._plan, per_second=warm.transactions / warm.seconds)
        world = self._world(transactions)
        before, then = self._servers(), footprint(self._profile.run_dir)
        self._tell(f"flat out: {transactions} transactions")
        flat = self._leg(world, transactions, rate=None)
        now, after = flat.footprint, self._servers()
        decided = flat.transactions / flat.seconds
        memory = pss_by_process(then, now)
        self._tell(f"flat out: {decided:.0f} decided/s; memory: {growth(memory)}")
        return {
            "decided_per_second": round(decided, 1),
            "admitted_per_second": round(flat.transactions * 4 / flat.admitted_seconds, 1),
            "latency_ms": self._paced_latencies(world, decided),
            "sessions_opened": after["sessions"] - before["sessions"],
            "transactions_per_decision": round((after["commits"] - before["commits"]) / flat.transactions, 3),
            "pss_bytes_total": now.pss_bytes_total,
            "pss_growth_percent": round(100 * (now.pss_bytes_total / then.pss_bytes_total - 1), 1),
            "pss_by_process": memory,
            "cpu_ms_per_transaction": cpu_per_transaction(then, now, flat.transactions),
            "line_probe_per_second": line,
            "floor_probe_per_second": floor,
            "decided_over_line": round(decided / line, 3) if line else None,
            "durability": self._durability(),
            "transactions": flat.transactions,
            "seconds": round(flat.seconds, 1),
        }

    def _world(self, transactions: int) -> str:
        """A world of at least so many transactions, made when it is not there."""
        size = world_size(transactions)
        name = f"bench_{size}"
        make_world(
            self._profile.path("worlds"), name=name, transactions=size, seed=1,
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
        seen = footprint(self._profile.run_dir)
        with connections(partial(operator_database, self._profile, "bench")) as at:
            row = at("DF_REPLAY_DSN").execute(load(_SQL, "benchmark_leg.sql"), {"run": run}).fetchone()
            first_post, admitted, durable = (_moment(at(name), statement, run) for name, statement in _MOMENTS)
        if row is None or row[0] != transactions:
            raise CommandError(
                f"bench: {row and row[0]} of {transactions} decided; see: platform report", exit_code=ExitCode.NO
            )
        decided, p50, p95, p99 = row
        return Leg(decided, durable - first_post, admitted - first_post, {"p50": p50, "p95": p95, "p99": p99}, seen)

    def _paced_latencies(self, world: str, decided: float) -> dict[str, dict[str, float]] | None:
        """The latencies at the fixed pace and at half of flat out; None without paced parts."""
        if not self._plan.paced_seconds:
            return None
        rates = {"at_300_per_second": PACED_PER_SECOND, "at_half_rate": max(1, int(decided / 2))}
        answer = {}
        for name, rate in rates.items():
            self._tell(f"paced at {rate}/s")
            answer[name] = self._leg(world, rate * self._plan.paced_seconds, rate=rate).latency_ms
        return answer

    def _clock_tick(self) -> None:
        """Run ids have a resolution of a second."""
        import threading

        self._clock.wait(1.1, threading.Event())

    def _servers(self) -> Counter[str]:
        """Sessions opened and transactions committed so far, on all servers together."""
        totals = Counter[str]()
        for server in servers(self._profile):
            with operator_database(self._profile, "bench", server.name).scope() as connection:
                row = connection.execute(
                    "select sessions, xact_commit from pg_stat_database where datname = current_database()"
                ).fetchone()
            totals.update({"sessions": row[0], "commits": row[1]} if row else {})
        return totals

    def _durability(self) -> dict[str, str]:
        with self._database.scope() as connection:
            rows = connection.execute(
                "select name, setting from pg_settings where name in ('fsync', 'synchronous_commit', 'full_page_writes')"
            ).fetchall()
        return {str(name): str(setting) for name, setting in rows}

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


def _moment(connection: Connection, statement: LiteralString, run: str) -> float:
    """Seconds since the epoch; 0 where nothing happened."""
    row = connection.execute(statement, {"run": run}).fetchone()
    return float(row[0] or 0.0) if row else 0.0
