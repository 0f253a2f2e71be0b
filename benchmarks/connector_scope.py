"""What a scope of the connector costs, in CPU of the client, above a held connection with an explicit commit.

    .venv/bin/python benchmarks/connector_scope.py [--rounds 20] [--scopes 2000] [--json]

Each scope asks `select 1` and commits, on a PostgreSQL of the embedded kind over its unix socket. The candidates take
turns, so that whatever else the machine does meets all of them; the figure is the median over the rounds of (candidate
minus held connection of the same round), in microseconds of process CPU per scope. Beside the connector stand what one
would use otherwise: psycopg_pool and SQLAlchemy, each bare and with its check before use - the connector always checks.

2026-11-26, 2 cores that others were using, Python 3.11, psycopg 3.3.9, psycopg-pool 3.3.3, SQLAlchemy 2.1.9, 20 rounds of 1,000:
connector +7.9 us (held connection 30.6), psycopg_pool +8.4, with check +27.5, SQLAlchemy +52.6, with pre-ping +73.8.

The bar: 25 us. The exit code is 1 when the connector is above it.
"""

from __future__ import annotations

import argparse
import gc
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import sqlalchemy
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import ConnectionPool

from fraud_daemons.postgres_runtime import ConnectOptions, DsnSource, postgres_threadlocal_connection
from fraud_daemons.supervision.substrate.postgres import start_server

BAR_MICROSECONDS = 25.0
HELD = "held connection"
CONNECTOR = "connector"
Scope = Callable[[], object]


def candidates(dsn: str, stack: ExitStack) -> Iterator[tuple[str, Scope]]:
    """By name: one scope, with whatever it borrows from opened beforehand."""
    options = ConnectOptions(application_name="bench")
    dsn = make_conninfo(dsn, **options.parameters())
    held = stack.enter_context(psycopg.connect(dsn))

    def by_hand() -> None:
        held.execute("select 1")
        held.commit()

    yield HELD, by_hand

    source = DsnSource("bench", lambda: dsn)

    def by_connector() -> None:
        with postgres_threadlocal_connection(source, options) as connection:
            connection.execute("select 1")

    yield CONNECTOR, by_connector

    for name, check in (("psycopg_pool", None), ("psycopg_pool, check", ConnectionPool.check_connection)):
        pool = stack.enter_context(ConnectionPool(dsn, min_size=1, max_size=1, open=True, check=check))
        pool.wait()

        def by_pool(pool: ConnectionPool = pool) -> None:
            with pool.connection() as connection:
                connection.execute("select 1")

        yield name, by_pool

    parts = conninfo_to_dict(dsn)
    for name, ping in (("SQLAlchemy", False), ("SQLAlchemy, pre-ping", True)):
        engine = sqlalchemy.create_engine(
            "postgresql+psycopg://", connect_args=parts, pool_size=1, max_overflow=0, pool_pre_ping=ping
        )
        stack.callback(engine.dispose)

        def by_engine(engine: sqlalchemy.Engine = engine) -> None:
            with engine.begin() as connection:
                connection.exec_driver_sql("select 1")

        yield name, by_engine


def measure(scope: Scope, scopes: int) -> float:
    """Microseconds of this process's CPU per scope."""
    begun = time.process_time()
    for _ in range(scopes):
        scope()
    return (time.process_time() - begun) / scopes * 1e6


def run(dsn: str, *, rounds: int, scopes: int) -> dict[str, list[float]]:
    """By candidate, one figure a round."""
    with ExitStack() as stack:
        who = dict(candidates(dsn, stack))
        for scope in who.values():
            measure(scope, scopes // 10)
        figures: dict[str, list[float]] = {name: [] for name in who}
        gc.disable()  # a collection meets whoever is at work
        for _ in range(rounds):
            for name, scope in who.items():
                gc.collect()
                figures[name].append(measure(scope, scopes))
        gc.enable()
    return figures


def above_held(figures: dict[str, list[float]]) -> dict[str, tuple[float, float, float]]:
    """By candidate: lower quartile, median, upper quartile of what it costs above the held connection."""
    above = {}
    for name, rounds in figures.items():
        low, middle, high = statistics.quantiles([a - b for a, b in zip(rounds, figures[HELD], strict=True)], n=4)
        above[name] = (low, middle, high)
    return above


@contextmanager
def server() -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="fp", dir="/tmp"))
    try:
        with start_server(folder, connections_max=20) as running:
            yield running.dsn()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--scopes", type=int, default=2000)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with server() as dsn:
        figures = run(dsn, rounds=given.rounds, scopes=given.scopes)
    above = above_held(figures)
    if given.json:
        print(json.dumps({name: {"quartiles_us": [round(f, 1) for f in a]} for name, a in above.items()}))
    else:
        print(
            f"CPU per scope, us; {given.rounds} rounds of {given.scopes} scopes; {HELD}: {statistics.median(figures[HELD]):.1f}"
        )
        for name, (low, middle, high) in above.items():
            print(f"  {name:22} {middle:+7.1f}   (quartiles {low:+.1f} … {high:+.1f})")
    return int(above[CONNECTOR][1] > BAR_MICROSECONDS)


if __name__ == "__main__":
    sys.exit(main())
