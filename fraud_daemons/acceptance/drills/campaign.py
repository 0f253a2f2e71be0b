"""Many faults, one after the other, under a steady stream: the soak, and the count of faults.

A campaign goes in rounds. Each round streams the same slice of one world into a run of its own while a seeded schedule of
drills breaks things; it ends with the run report and with the set of (flow_id, core digest), which must equal that of
the first, undisturbed round. Lost, decided twice, executed twice: all of it would show there.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from fraud_daemons.acceptance import streaming
from fraud_daemons.acceptance.drills import conductor
from fraud_daemons.acceptance.drills.catalogue import DRILLS
from fraud_daemons.acceptance.drills.grounds import behind_proxy
from fraud_daemons.acceptance.drills.samples import Sampler, flatness, summary
from fraud_daemons.acceptance.drills.stage import Check, Stage
from fraud_daemons.acceptance.drills.witness import Witness
from fraud_daemons.acceptance.wire_proxy import WireProxy
from fraud_daemons.bootstrap import operator_database
from fraud_daemons.clock import iso
from fraud_daemons.config.profiles import Profile
from fraud_daemons.errors import CommandError, PlatformError, TransientFault
from fraud_daemons.state import streams

ORDINARY: Final[Mapping[str, tuple[int, float]]] = {
    "worker-kill": (6, 4.0),
    "worker-freeze": (1, 1.5),
    "postgres-kill": (3, 2.5),
    "postgres-restart": (1, 1.0),
    "postgres-stop-immediate": (1, 1.0),
    "postgres-freeze": (1, 1.5),
    "postgres-restart-in-drain": (1, 1.0),
    "slots-exhausted": (1, 1.0),
    "password-rotated": (1, 1.5),
    "read-only": (1, 1.0),
    "lock-held": (1, 1.5),
    "store-away": (1, 1.0),
    "store-kill": (1, 1.0),
    "supervisor-freeze": (1, 1.5),
    "supervisor-kill": (1, 0.5),
}
"""Drill -> how often in the deck, and how many seconds. The deck is shuffled and dealt, so that every kind comes."""
SOAK: Final[Mapping[str, tuple[int, float]]] = {
    **ORDINARY, "worker-leak": (1, 1.0), "worker-shout": (1, 2.0), "idle-in-transaction": (1, 1.0),
}  # fmt: skip
CALM_SECONDS: Final = (2.0, 8.0)
"""Between two faults of a soak: what is steady needs a time to be steady in."""
NETWORK: Final[Mapping[str, tuple[int, float]]] = {
    "network-cut": (1, 2.0),
    "network-reset": (1, 2.0),
    "network-refuse": (1, 0.7),
    "network-stall": (1, 1.5),
    "network-slow": (1, 2.0),
    "network-reset-in-answer": (2, 4.0),
    "network-commit-lost": (2, 4.0),
    "network-commit-answer-lost": (3, 4.0),
    "worker-kill": (1, 2.0),
}
"""For a platform behind a proxy."""
CATCH_UP_SECONDS_MAX: Final = 300.0
BEGIN_SECONDS_MAX: Final = 60.0
EXAMPLES_MAX: Final = 5


@dataclass(frozen=True)
class Plan:
    """How long: until so many faults, or so many minutes, whichever is given; rounds of so many transactions."""

    seed: int
    rate: float
    round_transactions: int
    faults: int | None = None
    minutes: float | None = None


@dataclass
class Tally:
    """What a campaign has seen so far."""

    rounds: list[dict[str, Any]] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    fired: dict[str, Counter[str]] = field(default_factory=dict)
    trouble: list[str] = field(default_factory=list)
    """Acts that did not come to their end, and workers that did not become ready again."""


class Campaign:
    """One campaign on one stage; `deck` says which drills, how often and how long."""

    def __init__(self, stage: Stage, plan: Plan, deck: Mapping[str, tuple[int, float]]) -> None:
        self._stage = stage
        self._plan = plan
        self._deck = deck
        self._dealt: list[str] = []
        self._dice = random.Random(plan.seed)  # noqa: S311 - seeded on purpose
        self._tally = Tally()

    def run(self) -> dict[str, Any]:
        """Rounds until the plan is fulfilled; the document with its verdict."""
        stage, plan = self._stage, self._plan
        began, moment = iso(stage.clock.now()), stage.clock.monotonic()
        world = conductor.world_of(stage.profile, plan.round_transactions)
        stage.tell(f"an undisturbed round: {plan.round_transactions} transactions")
        expected = self._round(world, disturbed=False)
        before = stage.clock.monotonic()
        with Witness(stage.profile) as witness, Sampler(stage.profile.run_dir, stage.clock) as sampler:
            while not self._fulfilled(stage.clock.monotonic() - before):
                digests = self._round(world, disturbed=True)
                self._compare(digests, expected)
                last = self._tally.rounds[-1]
                stage.tell(
                    f"round {len(self._tally.rounds) - 1}: {sum(self._tally.faults.values())} faults so far,"
                    f" {last['verdict']}, {len(self._tally.trouble)} troubles"
                )
        latencies = [r["latency_p50_ms"] for r in self._tally.rounds[1:] if r["latency_p50_ms"] is not None]
        checks = self._checks(witness)
        if plan.minutes is not None:
            checks += flatness(sampler.samples, latencies)
        return {
            "drill": "soak" if plan.minutes is not None else "campaign",
            **{k: v for k, v in asdict(plan).items() if v is not None},
            "at": began,
            "elapsed_seconds": round(stage.clock.monotonic() - moment, 1),
            "faults_caused": sum(self._tally.faults.values()),
            "faults_by_drill": dict(sorted(self._tally.faults.items())),
            "fired": {name: dict(counter) for name, counter in sorted(self._tally.fired.items())},
            "rounds": self._tally.rounds,
            "trouble": self._tally.trouble,
            "used": summary(sampler.samples),
            "samples": sampler.samples,
            "connections_opened": witness.connections_opened,
            "checks": [asdict(check) for check in checks],
            "verdict": "PASS" if all(check.good for check in checks) else "FAIL",
        }

    def _fulfilled(self, elapsed_seconds: float) -> bool:
        if self._plan.minutes is not None:
            return elapsed_seconds >= self._plan.minutes * 60
        return sum(self._tally.faults.values()) >= (self._plan.faults or 0)

    def _round(self, world: str, *, disturbed: bool) -> set[tuple[str, str]]:
        """One run of the slice; its (flow_id, core digest) pairs."""
        stage, plan = self._stage, self._plan
        run = conductor.new_run(stage, f"campaign, seed {plan.seed}, round {len(self._tally.rounds)}")
        stream_id = streaming.request_stream(
            stage.profile, world=world, platform_run_id=run, max_events_per_output=plan.round_transactions,
            rate=plan.rate if disturbed else None,
        )  # fmt: skip
        if disturbed:
            stage.wait_for(
                lambda: self._state(stream_id) == "RUNNING", seconds=BEGIN_SECONDS_MAX, what="the stream to begin"
            )
            while self._state(stream_id) not in ("DONE", "FAILED"):
                self._break(self._next())
                if plan.minutes is not None:
                    stage.rest(self._dice.uniform(*CALM_SECONDS))
        report = streaming.follow(stage.profile, stream_id, timeout_seconds=CATCH_UP_SECONDS_MAX, tell=lambda _: None)
        self._tally.rounds.append(_round_of(report))
        with operator_database(stage.profile, "drill", "DF_REPLAY_DSN").scope() as connection:
            rows = connection.execute(
                "select flow_id, core_digest from df.decisions where platform_run_id = %s", (run,)
            ).fetchall()
        return {(str(flow), str(digest)) for flow, digest in rows}

    def _break(self, name: str) -> None:
        """One act, then all ready again; what does not come to its end is told, and the campaign goes on."""
        stage, drill = self._stage, DRILLS[name]
        stage.seconds = self._deck[name][1]
        stage.fired, before = Counter(), stage.faults
        try:
            drill.act(stage)
        except (CommandError, TransientFault) as error:
            self._tally.trouble.append(f"{name}: {error}")
        self._tally.trouble += [f"{name}: {c.check}: {c.observed}" for c in stage.checks if not c.good]
        stage.checks.clear()
        self._tally.faults[name] += stage.faults - before
        self._tally.fired.setdefault(name, Counter()).update(stage.fired)
        try:
            stage.wait_for(
                lambda: conductor.all_ready(stage), seconds=conductor.READY_SECONDS_MAX, what="all ready again"
            )
        except CommandError as error:
            self._tally.trouble.append(f"after {name}: {error}")

    def _next(self) -> str:
        if not self._dealt:
            self._dealt = [name for name, (times, _) in self._deck.items() for _ in range(times)]
            self._dice.shuffle(self._dealt)
        return self._dealt.pop()

    def _state(self, stream_id: str) -> str | None:
        try:
            with operator_database(self._stage.profile, "drill", "WSP_CHECKPOINT_DSN").scope() as connection:
                stream = streams.find(connection, stream_id)
        except PlatformError:
            return None
        return stream.state if stream else None

    def _compare(self, digests: set[tuple[str, str]], expected: set[tuple[str, str]]) -> None:
        differing = sorted(expected ^ digests)
        self._tally.rounds[-1]["digests_differing"] = len(differing)
        if differing:
            self._tally.rounds[-1]["examples"] = [flow for flow, _ in differing[:EXAMPLES_MAX]]

    def _checks(self, witness: Witness) -> list[Check]:
        tally, rounds = self._tally, self._tally.rounds[1:]
        unasked = sorted({str(death["worker"]) for death in witness.deaths()} - self._stage.victims)
        missing, surplus = sum(r["missing"] for r in rounds), sum(r["surplus"] for r in rounds)
        differing = sum(r["digests_differing"] for r in rounds)
        silent = [
            f"{name}: {proof}"
            for name, fired in tally.fired.items()
            for proof in DRILLS[name].proofs
            if not fired[proof]
        ]
        passed = all(r["verdict"] == "PASS" for r in rounds)
        return [
            Check(
                "faults_fired",
                "every kind that was dealt",
                silent or f"{sum(tally.faults.values())} faults",
                not silent,
            ),
            Check("missing", 0, missing, missing == 0 and passed),
            Check("surplus", 0, surplus, surplus == 0),
            Check("digests_differing", 0, differing, differing == 0 and bool(rounds)),
            Check("ready_again_each_time", [], tally.trouble[:EXAMPLES_MAX], not tally.trouble),
            Check("died_unasked", [], unasked, not unasked),
            Check("second_copies", {}, dict(witness.doubles), not witness.doubles and witness.looks > 0),
        ]


def _round_of(report: Mapping[str, Any]) -> dict[str, Any]:
    lines = report["equations"]
    return {
        "platform_run_id": report["platform_run_id"],
        "verdict": report["verdict"],
        "equations": len(lines),
        "missing": sum(line["missing"] for line in lines),
        "surplus": sum(line["surplus"] for line in lines),
        "latency_p50_ms": (report.get("latency_ms") or {}).get("p50"),
        "latency_p95_ms": (report.get("latency_ms") or {}).get("p95"),
        "digests_differing": 0,
    }


@contextmanager
def ground_of(
    profile: Profile, *, network: bool, tell: Callable[[str], None]
) -> Iterator[tuple[Profile, WireProxy | None]]:
    """Where a campaign takes place: the running platform, or one of its own behind a proxy."""
    if not network:
        yield profile, None
        return
    with behind_proxy(profile, tell) as (own, proxy):
        yield own, proxy


def run_campaign(profile: Profile, plan: Plan, *, network: bool, tell: Callable[[str], None]) -> dict[str, Any]:
    """A campaign under a pinned posture: equal digests are promised under one posture only.

    Raises ConfigurationError or CommandError when the platform may not or cannot be drilled now.
    """
    deck = NETWORK if network else ORDINARY if plan.minutes is None else SOAK
    conductor.refuse_unmarked(profile, "campaign")
    with ground_of(profile, network=network, tell=tell) as (own, proxy):
        stage = conductor.stage_for(own, DRILLS[next(iter(deck))], seed=plan.seed, seconds=None, tell=tell)
        stage.tool = proxy
        if own.get("decision.posture_pin") != "NORMAL":
            stage.command("posture", "pin", "NORMAL", "--reason", "a campaign compares runs")
        document = Campaign(stage, plan, deck).run()
    conductor.keep(profile, document)
    return document


def render(document: Mapping[str, Any]) -> str:
    """A campaign's document for a person."""
    lines = [f"  {'ok  ' if c['good'] else 'FAIL'} {c['check']:<24} {c['observed']}" for c in document["checks"]]
    kinds = "  ".join(f"{name} {count}" for name, count in document["faults_by_drill"].items())
    head = f"{document['drill']}  seed {document['seed']}  {document['elapsed_seconds']} s  {document['faults_caused']} faults"
    return "\n".join([head, "", *lines, "", f"faults   {kinds}", f"verdict  {document['verdict']}"])
