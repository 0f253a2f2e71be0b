"""One drill from beginning to verdict: a run of its own, a stream that goes on during the fault, the report at the end.

The verdict is never the drill's own opinion: the fault must be proved by counters, the run report must hold by ids, nobody
may have died unasked, no worker may ever have had two copies, and all must be ready again by themselves.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from fraud_daemons.acceptance import streaming
from fraud_daemons.acceptance.drills.drill import Drill
from fraud_daemons.acceptance.drills.machine_facts import machine_facts
from fraud_daemons.acceptance.drills.stage import Check, Stage
from fraud_daemons.acceptance.drills.witness import Witness
from fraud_daemons.bootstrap import operator_database
from fraud_daemons.clock import SystemClock, iso
from fraud_daemons.config.profiles import Profile
from fraud_daemons.errors import CommandError, ConfigurationError, ExitCode, TransientFault
from fraud_daemons.state import streams
from fraud_daemons.status.picture import READY
from fraud_daemons.supervision import lifecycle
from fraud_daemons.supervision.client import SupervisorAbsent, SupervisorSilent
from fraud_daemons.supervision.deployment import deployment_of
from fraud_daemons.worlds.generator import make_world

LEAD_SECONDS = 1.0
"""Of streaming before the fault."""
TAIL_SECONDS = 2.0
READY_SECONDS_MAX = 60.0
CATCH_UP_SECONDS_MAX = 240.0
WORLD_SEED = 20260210
WORLD_STEP = 5000
"""Worlds come in sizes of this many transactions, so that drills of the same length share one."""
RATE = 150.0
RUN_TRIES_MAX = 30
BEGIN_SECONDS_MAX = 30.0
NAMED_MAX = 12


def run_drill(
    profile: Profile, drill: Drill, *, seed: int, seconds: float | None, rate: float, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Run a drill on the running platform, or on one of its own where it needs one. Raises as `stage_for` does."""
    refuse_unmarked(profile, drill.name)
    refuse_lacking(profile, drill)
    if drill.ground is None:
        stage = stage_for(profile, drill, seed=seed, seconds=seconds, tell=tell)
        return conduct(stage, drill, seed=seed, rate=rate)
    with drill.ground(profile, tell) as (own, tool):
        stage = stage_for(own, drill, seed=seed, seconds=seconds, tell=tell)
        stage.tool = tool
        return conduct(stage, drill, seed=seed, rate=rate, keep_in=profile)


def refuse_unmarked(profile: Profile, name: str) -> None:
    """Raises ConfigurationError for a profile that is not marked for drills."""
    if not profile.get("profile.drills"):
        problem = (
            f"profile.drills = false: profile {profile.name} is not marked for drills; a drill breaks things for real."
            " Where that is wanted: [profile] drills = true"
        )
        raise ConfigurationError([problem], source=f"drill {name}")


def refuse_lacking(profile: Profile, drill: Drill) -> None:
    """Raises CommandError for what the machine or the profile lacks."""
    if lacking := drill.needs(profile):
        raise CommandError(f"drill {drill.name} cannot run here: it needs {lacking}", exit_code=ExitCode.UNKNOWN)


def stage_for(
    profile: Profile, drill: Drill, *, seed: int, seconds: float | None, tell: Callable[[str], None]
) -> Stage:
    """A stage on a platform that may be drilled now. Raises ConfigurationError or CommandError saying why not."""
    refuse_unmarked(profile, drill.name)
    stage = Stage(
        profile=profile,
        deployment=deployment_of(profile),
        dice=random.Random(f"{seed} {drill.name}"),  # noqa: S311 - seeded on purpose: a drill can be repeated
        seconds=drill.seconds if seconds is None else seconds,
        clock=SystemClock(),
        tell=tell,
    )
    refuse_lacking(profile, drill)
    picture = stage.picture()  # says at once when the platform is down
    if picture.verdict != READY:
        raise CommandError(
            f"drill {drill.name}: the platform is {picture.verdict}; begin when `platform status` is ready"
        )
    return stage


def conduct(
    stage: Stage, drill: Drill, *, seed: int, rate: float = RATE, keep_in: Profile | None = None
) -> dict[str, Any]:
    """Run one drill; the document with its verdict, also written below the run directory (of `keep_in`)."""
    began = iso(stage.clock.now())
    transactions = max(300, int(rate * (LEAD_SECONDS + stage.seconds + TAIL_SECONDS)))
    run = new_run(stage, f"drill {drill.name}, seed {seed}")
    with Witness(stage.profile) as witness:
        stream_id = streaming.request_stream(
            stage.profile,
            world=world_of(stage.profile, transactions),
            platform_run_id=run,
            max_events_per_output=transactions,
            rate=rate,
        )
        stage.wait_for(lambda: _rows_sent(stage, stream_id), seconds=BEGIN_SECONDS_MAX, what="the stream to begin")
        stage.rest(LEAD_SECONDS)
        sent_before = _rows_sent(stage, stream_id)
        stage.tell(f"{drill.name}: {drill.does}")
        report = _break_and_mend(stage, drill, stream_id)
    stage.figures["connections_opened"] = witness.connections_opened
    checks = [
        *_checks(stage, drill, witness, sent_before, transactions),
        *_of_report(report, transactions),
        *stage.checks,
    ]
    document = {
        "drill": drill.name,
        "seed": seed,
        "at": began,
        "platform_run_id": run,
        "seconds": stage.seconds,
        "transactions": transactions,
        "fired": dict(sorted(stage.fired.items())),
        "named_by_workers": dict(witness.named().most_common(NAMED_MAX)),
        "checks": [asdict(check) for check in checks],
        "figures": stage.figures,
        "verdict": "PASS" if all(check.good for check in checks) else "FAIL",
    }
    keep(keep_in or stage.profile, document)
    return document


def _break_and_mend(stage: Stage, drill: Drill, stream_id: str) -> dict[str, Any] | None:
    """The act, everybody ready again, the report; what does not come to its end is a line of the verdict."""
    try:
        drill.act(stage)
        mended = stage.clock.monotonic()
        stage.wait_for(lambda: all_ready(stage), seconds=READY_SECONDS_MAX, what="every worker ready again by itself")
        stage.figures["ready_again_seconds"] = round(stage.clock.monotonic() - mended, 2)
        return streaming.follow(stage.profile, stream_id, timeout_seconds=CATCH_UP_SECONDS_MAX, tell=stage.tell)
    except (CommandError, TransientFault) as error:
        stage.checks.append(Check("went_through", "to the end", str(error), good=False))
        return None


def _checks(stage: Stage, drill: Drill, witness: Witness, sent_before: int, transactions: int) -> list[Check]:
    silent = [proof for proof in drill.proofs if not stage.fired[proof]]
    unasked = sorted({str(death["worker"]) for death in witness.deaths()} - stage.victims)
    fired = f"never: {', '.join(silent)}" if silent else dict(stage.fired)
    during = f"fewer than {transactions} sent when it began"
    return [
        Check("fault_fired", list(drill.proofs), fired, not silent),
        Check("stream_during_the_fault", during, sent_before, 0 < sent_before < transactions),
        Check("died_unasked", [], unasked, not unasked),
        Check("second_copies", {}, dict(witness.doubles), not witness.doubles and witness.looks > 0),
    ]


def _of_report(report: dict[str, Any] | None, transactions: int) -> list[Check]:
    if report is None:
        return []
    broken = [line["name"] for line in report["equations"] if line["missing"] or line["surplus"]]
    traffic = report["outputs"]["traffic"]
    answered = traffic["admitted"] + traffic["duplicate"]  # what was in flight when the gate died is sent again
    good = not broken and report["verdict"] == "PASS"
    return [
        Check("all_answered", transactions, answered, answered == transactions),
        Check("equations", "all hold", broken or f"{len(report['equations'])} hold", good),
    ]


def render(document: dict[str, Any]) -> str:
    """A drill's document for a person."""
    lines = [f"drill {document['drill']}  seed {document['seed']}  {document['platform_run_id']}", ""]
    lines += [
        f"  {'ok  ' if check['good'] else 'FAIL'} {check['check']:<26} {_short(check['observed'])}"
        for check in document["checks"]
    ]
    figures = "  ".join(f"{name} {value}" for name, value in document["figures"].items())
    named = "  ".join(f"{reason} x{count}" for reason, count in document["named_by_workers"].items())
    return "\n".join(
        [*lines, "", f"figures  {figures}", f"named    {named or 'nothing'}", f"verdict  {document['verdict']}"]
    )


def _short(observed: Any) -> str:
    text = json.dumps(observed) if not isinstance(observed, str) else observed
    return text if len(text) <= 120 else text[:117] + "..."


def new_run(stage: Stage, note: str) -> str:
    """A run of its own; run ids have a resolution of a second."""
    for _ in range(RUN_TRIES_MAX):
        try:
            return streaming.new_run(stage.profile, note=note, clock=stage.clock).platform_run_id
        except CommandError:
            stage.rest(0.1)
    return streaming.new_run(stage.profile, note=note, clock=stage.clock).platform_run_id


def world_of(profile: Profile, transactions: int) -> str:
    """The sealed world a slice of so many transactions is taken from; made when it is not there."""
    size = -(-transactions // WORLD_STEP) * WORLD_STEP
    world = make_world(
        profile.path("worlds"), name=f"drills_{size}", transactions=size, seed=WORLD_SEED,
        currency=profile.get("decision.currency"),
    )  # fmt: skip
    return world.name


def _rows_sent(stage: Stage, stream_id: str) -> int:
    try:
        with operator_database(stage.profile, "drill", "WSP_CHECKPOINT_DSN").scope() as connection:
            stream = streams.find(connection, stream_id)
    except TransientFault:
        return 0
    return (stream.next_index or 0) - (stream.first_index or 0) if stream else 0


def all_ready(stage: Stage) -> bool:
    """Whether every pack is running ready; False while nobody answers."""
    try:
        return lifecycle.status(stage.deployment, clock=stage.clock).verdict == READY
    except (SupervisorAbsent, SupervisorSilent):
        return False


def keep(profile: Profile, document: dict[str, Any]) -> None:
    """Write a result below the run directory, with what it was measured on."""
    document["machine"] = machine_facts()
    folder = profile.path("drills")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    began = "".join(c for c in document["at"] if c.isalnum())
    (folder / f"{document['drill']}-{began}.json").write_text(json.dumps(document, indent=1))
