"""The main test: the same world gives the same decisions, whatever is killed on the way."""

from __future__ import annotations

import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from tests.system.platform_under_test import COMMAND, ROOT, PlatformUnderTest, wait_until
from tests.system.test_the_line import assert_every_equation_holds

WORLD, TRANSACTIONS, SEED = "five_thousand", 5000, 11


def digests(platform: PlatformUnderTest, run: str) -> set[tuple[str, str]]:
    """(flow id, core digest) of every decision of a run."""
    with psycopg.connect(platform.dsn()) as connection:
        return set(
            connection.execute(
                "select flow_id, core_digest from df.decisions where platform_run_id = %s", (run,)
            ).fetchall()
        )


def undisturbed(platform: PlatformUnderTest) -> set[tuple[str, str]]:
    """The decisions of the world when nothing happens; made once per platform."""
    made = getattr(platform, "undisturbed_digests", None)
    if made is None:
        platform.make_world(WORLD, TRANSACTIONS, seed=SEED)
        run = platform.new_run()
        platform.stream(WORLD)
        assert_every_equation_holds(platform.report())
        made = digests(platform, run)
        assert len(made) == TRANSACTIONS
        platform.undisturbed_digests = made  # type: ignore[attr-defined]
    return made


@contextmanager
def streaming(platform: PlatformUnderTest, *words: str, world: str = WORLD) -> Iterator[subprocess.Popen[str]]:
    """`platform stream` in the background; on exit waits until it has ended well."""
    process = subprocess.Popen(
        [str(COMMAND), "stream", "--world", world, *words, "--timeout", "280", "--json"],
        cwd=ROOT, env=platform.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
        out, err = process.communicate(timeout=290)
        assert process.returncode == 0, f"{out[-2000:]}\n{err[-2000:]}"
    finally:
        process.kill()
        process.wait()


class CopyWitness:
    """Looks at /proc four times a second: was there ever a second copy of a worker?"""

    def __init__(self, platform: PlatformUnderTest) -> None:
        self._platform = platform
        self._stop = threading.Event()
        self.doubles: Counter[str] = Counter()
        self.looks = 0
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> CopyWitness:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.25):
            self.looks += 1
            holders: Counter[str] = Counter()
            for entry in Path("/proc").iterdir():
                try:
                    words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
                    mine = (
                        str(self._platform.run_dir).encode() in (entry / "environ").read_bytes()
                        if b"worker" in words
                        else False
                    )
                except OSError:
                    continue
                if mine and b"run" in words:
                    holders[words[words.index(b"run") + 1].decode()] += 1
            self.doubles.update(name for name, copies in holders.items() if copies > 1)


def test_digests_are_equal_whatever_is_killed(platform: PlatformUnderTest) -> None:
    """Each of the workers, PostgreSQL, the object store and supervisord (then `up`) is SIGKILLed while the world
    streams: equal digests, every equation holds, never a second copy of a worker."""
    expected = undisturbed(platform)
    dice = random.Random(20260210)
    run = platform.new_run()
    victims = [*platform.workers(), "postgres", "objectstore"]
    dice.shuffle(victims)
    with CopyWitness(platform) as witness, streaming(platform, "--rate", "220"):
        time.sleep(1.0)
        for victim in victims:
            status = platform.status()
            pids = {w["worker"]: w["pid"] for p in status["packs"] for w in p["workers"]}
            pids |= {s["service"]: s["pid"] for s in status["substrate"]}
            if pids[victim]:
                platform.kill(pids[victim])
            time.sleep(dice.uniform(0.3, 1.5))
        platform.kill(platform.supervisord_pid())
        time.sleep(1.0)
        platform.up()
    wait_until(lambda: platform.status()["verdict"] == "running ready", seconds=30, what="all packs ready again")
    report = platform.report()
    assert_every_equation_holds(report)
    assert digests(platform, run) == expected
    assert witness.looks > 20
    assert not witness.doubles, f"second copies seen: {witness.doubles}"


def test_postgres_away_for_thirty_seconds(platform: PlatformUnderTest) -> None:
    """Stopped mid-stream and kept away for 30 s: no worker exits, status says waiting, why and since when; afterwards all
    are ready again by themselves and the digests are equal."""
    expected = undisturbed(platform)
    run = platform.new_run()
    before = {name: worker["pid"] for name, worker in platform.workers().items()}
    with streaming(platform, "--rate", "400"):
        time.sleep(3.0)
        platform.say("stop", "postgres")
        away = time.monotonic()
        status = wait_until(
            lambda: s if (s := platform.status())["verdict"] != "running ready" else None,
            seconds=15,
            what="status tells of it",
        )
        time.sleep(max(0.0, 30.0 - (time.monotonic() - away)))
        status = platform.status()
        waiting = [w for p in status["packs"] for w in p["workers"] if w["status"] == "running waiting"]
        assert len(waiting) >= 9, status
        assert all(
            "postgres" in (w["reason"] or "") or "http" in (w["reason"] or "") or "gate" in (w["reason"] or "")
            for w in waiting
        )
        platform.say("start", "postgres")
    wait_until(
        lambda: platform.status()["verdict"] == "running ready", seconds=20, what="all ready again by themselves"
    )
    assert {name: worker["pid"] for name, worker in platform.workers().items()} == before, (
        "a worker died of its database"
    )
    assert_every_equation_holds(platform.report())
    assert digests(platform, run) == expected


def all_waiting(platform: PlatformUnderTest) -> dict[str, dict[str, Any]] | None:
    """The workers by name when every one that needs the database is running waiting, else None. The console does not:
    it shows what it can."""
    workers = {name: worker for name, worker in platform.workers().items() if name != "console"}
    return workers if all(worker["status"] == "running waiting" for worker in workers.values()) else None


def test_workers_that_start_while_postgres_is_away_wait_for_it(platform: PlatformUnderTest) -> None:
    """PostgreSQL slow to come up at boot: every worker is born while it is away, none exits, each says what it waits for;
    all become ready by themselves once it serves."""
    platform.say("stop", "postgres")
    try:
        for worker in platform.workers().values():
            platform.kill(worker["pid"])
        born = wait_until(lambda: all_waiting(platform), seconds=30, what="every worker born anew and waiting")
        time.sleep(5.0)
        still = {name: worker for name, worker in platform.workers().items() if name in born}
        assert {name: w["pid"] for name, w in still.items()} == {name: w["pid"] for name, w in born.items()}, (
            "a worker exited"
        )
        assert sum("postgres" in (w["reason"] or "") for w in still.values()) >= 9, still
    finally:
        platform.say("start", "postgres")
    wait_until(lambda: platform.status()["verdict"] == "running ready", seconds=20, what="all ready by themselves")
    after = platform.workers()
    assert {name: after[name]["pid"] for name in born} == {name: w["pid"] for name, w in born.items()}
