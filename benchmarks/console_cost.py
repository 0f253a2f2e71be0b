"""What open console pages cost the platform, as a share of the machine. Prints one JSON object.

usage: console_cost.py [--pages 2] [--rate 300] [--rounds 6] [--seconds 10] [--profile local_parity]

Needs the platform of the profile up. A stream flows at a steady pace; in turn, for `seconds` each, no page and `pages` pages
are open. A page is what the browser's does to the platform: a session, the page with its parts once, then the pushed pictures
read as they come. CPU is that of the platform's own processes from /proc; a browser's own stays out, it belongs to the desk
that it stands on. The cost is the CPU a second of the console and its sessions with pages above that without, over what all
cores give in a second: with every core busy, so much less is decided. It is a yardstick and judges nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from fraud_daemons.acceptance.footprint import Footprint, footprint
from fraud_daemons.acceptance.streaming import new_run, request_stream
from fraud_daemons.clock import SystemClock
from fraud_daemons.config.profiles import load_profile
from fraud_daemons.worlds.generator import make_world

ROOT = Path(__file__).resolve().parents[1]
SETTLE_SECONDS = 2.0
LEAD_SECONDS = 5.0
PARTS = ("/", "/static/console.css", "/static/console.js", "/static/uPlot.iife.min.js", "/static/uPlot.min.css")
OURS = ("console", "postgres: fp_console")


class Page:
    """One open page, in a thread of its own."""

    def __init__(self, port: int, token: str) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=30)
        self._connection.request("POST", "/session", json.dumps({"token": token}))
        answer = self._connection.getresponse()
        answer.read()
        cookie = (answer.getheader("Set-Cookie") or "").partition(";")[0]
        if not cookie:
            raise SystemExit(f"the console answered {answer.status} to its token")
        self._headers = {"Cookie": cookie}
        self._closing = False
        self.pictures = 0
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for part in PARTS:
            self._connection.request("GET", part, headers=self._headers)
            self._connection.getresponse().read()
        self._connection.request("GET", "/stream", headers=self._headers)
        stream = self._connection.getresponse()
        while not self._closing and (line := stream.readline()):
            self.pictures += line.startswith(b"data: ")

    def close(self) -> None:
        self._closing = True  # the stream says something every two seconds at least
        self._thread.join(timeout=5)
        self._connection.close()


@contextmanager
def open_pages(count: int, port: int, token: str) -> Iterator[list[Page]]:
    pages = [Page(port, token) for _ in range(count)]
    try:
        yield pages
    finally:
        for page in pages:
            page.close()


def cpu_ms_per_second(run_dir: Path, seconds: float) -> tuple[float, float]:
    """(the console's, everybody's) over the next `seconds`."""
    before, began = footprint(run_dir), time.monotonic()
    time.sleep(seconds)
    after, elapsed = footprint(run_dir), time.monotonic() - began
    return _used(before, after, OURS) / elapsed, _used(before, after, after.cpu_ms) / elapsed


def _used(before: Footprint, after: Footprint, names: Any) -> float:
    return sum(after.cpu_ms.get(name, 0.0) - before.cpu_ms.get(name, 0.0) for name in names)


def measured(plan: argparse.Namespace) -> dict[str, Any]:
    profile = load_profile(plan.profile, root=ROOT, environment=os.environ)
    secrets = json.loads(profile.path("secrets.json").read_text())
    port = int(json.loads(profile.path("ports.json").read_text())["console_port"])
    length = LEAD_SECONDS + 2 * plan.rounds * (plan.seconds + SETTLE_SECONDS) + LEAD_SECONDS
    transactions = int(plan.rate * length)
    world = make_world(
        profile.path("worlds"), name=f"console_cost_{transactions}", transactions=transactions, seed=1,
        currency=profile.get("decision.currency"),
    )  # fmt: skip
    run = new_run(profile, note="cost of console pages", clock=SystemClock()).platform_run_id
    request_stream(
        profile, world=world.name, platform_run_id=run, max_events_per_output=transactions, rate=float(plan.rate)
    )
    time.sleep(LEAD_SECONDS)
    without, with_pages, pictures = [], [], 0
    for _ in range(plan.rounds):
        time.sleep(SETTLE_SECONDS)
        without.append(cpu_ms_per_second(profile.run_dir, plan.seconds))
        with open_pages(plan.pages, port, secrets["console"]["token"]) as pages:
            time.sleep(SETTLE_SECONDS)
            with_pages.append(cpu_ms_per_second(profile.run_dir, plan.seconds))
            pictures += sum(page.pictures for page in pages)
    own, all_of_it = [statistics.median(w[i] - o[i] for w, o in zip(with_pages, without, strict=True)) for i in (0, 1)]
    whole = 1000.0 * (os.cpu_count() or 1)
    return {
        "pages": plan.pages,
        "rate": plan.rate,
        "rounds": plan.rounds,
        "pictures_read": pictures,
        "console_ms_per_second": {
            "without": round(statistics.median(o[0] for o in without), 1),
            "with": round(statistics.median(w[0] for w in with_pages), 1),
        },
        "cost_percent_of_the_machine": round(100 * own / whole, 2),
        "cost_percent_by_all_processes": round(100 * all_of_it / whole, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="What open console pages cost the platform.")
    parser.add_argument("--pages", type=int, default=2)
    parser.add_argument("--rate", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--profile", default="local_parity")
    print(json.dumps(measured(parser.parse_args()), indent=1))


if __name__ == "__main__":
    main()
