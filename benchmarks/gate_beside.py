"""The gates of two checkouts beside each other: which one admits faster? Prints one JSON object.

usage: gate_beside.py TREE [--chunks 30] [--events 16000] [--batch 500] [--in-flight 1]

TREE is another checkout of the project with its environment (`make setup`). A platform of one pack is brought up from it
and one from this checkout, each on its own substrate, and they get the load in turn, a chunk of events at a time, so that
both meet the same machine: its speed swings by a tenth within a minute, which hides what one change gives from runs one
after the other. Beside the same checkout the median of the ratios lay within 4 % of 1 in three trials.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

from gate_bench import Alone, Client, admitted_per_second, cpu_seconds, running


class Side:
    """One of the two platforms, and what its chunks took: wall clock and the gate's CPU, in microseconds an event."""

    def __init__(self, alone: Alone, *, in_flight: int) -> None:
        self._run = alone.say("run", "new")["platform_run_id"]
        self._pid, key = alone.pid(), alone.secrets()["gate"]["producer_key"]
        self._clients = [Client(alone.port(), key) for _ in range(in_flight)]
        self._first = 0
        self.wall: list[float] = []
        self.cpu: list[float] = []

    def take(self, count: int, *, batch: int) -> None:
        before = cpu_seconds(self._pid)
        rate = admitted_per_second(self._clients, self._run, first=self._first, count=count, batch=batch)
        self._first += count
        self.wall.append(1e6 / rate)
        self.cpu.append((cpu_seconds(self._pid) - before) / count * 1e6)

    def said(self) -> dict[str, float]:
        return {
            "us_per_event": round(statistics.median(self.wall), 2),
            "gate_cpu_us_per_event": round(statistics.median(self.cpu), 2),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description="The gates of two checkouts, in turn.")
    parser.add_argument("tree", type=Path)
    parser.add_argument("--chunks", type=int, default=30)
    parser.add_argument("--events", type=int, default=16_000, help="in a chunk")
    parser.add_argument("--batch", type=int, default=500)
    parser.add_argument("--in-flight", type=int, default=1)
    plan = parser.parse_args()
    with running(None) as mine, running(None, tree=plan.tree.resolve()) as other:
        here, there = Side(mine, in_flight=plan.in_flight), Side(other, in_flight=plan.in_flight)
        for side in (here, there):
            side.take(plan.events, batch=plan.batch)  # warm: plans, caches, sessions
            side.wall.clear()
            side.cpu.clear()
        for chunk in range(plan.chunks):
            for side in (here, there) if chunk % 2 else (there, here):
                side.take(plan.events, batch=plan.batch)
        ratios = [there_took / here_took for here_took, there_took in zip(here.wall, there.wall, strict=True)]
    answer = {"here": here.said(), "there": there.said(), "there_over_here": round(statistics.median(ratios), 3)}
    print(json.dumps(answer | {"chunks": plan.chunks, "in_flight": plan.in_flight}, indent=1))


if __name__ == "__main__":
    main()
