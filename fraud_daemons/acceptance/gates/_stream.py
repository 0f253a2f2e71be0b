"""A stream gate: so many events of each of the four outputs, each admitted once and in time, and every stage caught up
behind them. The time is the producer's own, from its first POST to its last answer: a busy machine fails by it too, and is
told so in words that no lost event can cause."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from fraud_daemons import bootstrap
from fraud_daemons.acceptance.gates.scene import Scene
from fraud_daemons.acceptance.gates.verdicts import Finding, judged
from fraud_daemons.acceptance.progress import wait_until_caught_up
from fraud_daemons.acceptance.streaming import request_stream, wait_for_stream
from fraud_daemons.domain.envelope import OUTPUTS

STREAM_SECONDS_MAX: Final = 120.0
CAUGHT_UP_SECONDS_MAX: Final = 120.0

STAGES: Final[Mapping[str, tuple[str, str]]] = {
    "bound": ("CSFB_PROJECTION_DSN", "select count(*)::int from csfb.bindings where platform_run_id = %s"),
    "featured": ("OFP_SNAPSHOT_INDEX_DSN", "select count(*)::int from ofp.snapshots where platform_run_id = %s"),
    "decided": ("DF_REPLAY_DSN", "select count(*)::int from df.decisions where platform_run_id = %s"),
    "audited": (
        "DLA_INDEX_DSN",
        "select count(*)::int from dla.chains where platform_run_id = %s and state = 'CLOSED'",
    ),
}
"""Stages that every transaction passes: DSN name and what is counted."""


@dataclass(frozen=True)
class Streamed:
    """What one stream gate saw. `stages` count the whole run; `streaming_seconds` None = nobody noted it."""

    outputs: Mapping[str, Mapping[str, Any]]
    stages: Mapping[str, int]
    streaming_seconds: float | None
    caught_up_seconds: float


def measure(scene: Scene, *, gate: str, events: int, run_total: int) -> Finding:
    """Stream `events` of each output behind what the run has; with them the run has `run_total`."""
    seen = _stream(scene, events)
    scene.note_servers(gate)
    return judge(seen, events=events, run_total=run_total, seconds_max=scene.streaming_seconds_max)


def judge(seen: Streamed, *, events: int, run_total: int, seconds_max: float) -> Finding:
    """Each output sent and admitted exactly so many within `seconds_max`, nothing else answered; each stage holds the
    run's transactions."""
    wrong = [
        f"{output}: {tally['admitted']} of {events} admitted, sent {tally['sent']}, duplicate {tally['duplicate']},"
        f" quarantined {tally['quarantined']}"
        for output, tally in seen.outputs.items()
        if (tally["sent"], tally["admitted"], tally["duplicate"], tally["quarantined"]) != (events, events, 0, 0)
    ]
    wrong += [f"{stage}: {count} of {run_total}" for stage, count in seen.stages.items() if count != run_total]
    admitted, asked = sum(tally["admitted"] for tally in seen.outputs.values()), len(OUTPUTS) * events
    wrong += _late(seen.streaming_seconds, seconds_max, only=not wrong, said=f"{admitted} of {asked}")
    return judged(
        expected=f"{asked} of {asked} admitted within {seconds_max:g} s of streaming, none twice, none refused;"
        f" {', '.join(seen.stages)} {run_total} each",
        good=f"{admitted} of {asked} in {seen.streaming_seconds or 0.0:.2f} s of streaming, all stages caught up"
        f" {seen.caught_up_seconds:.2f} s later; {', '.join(f'{s} {n}' for s, n in seen.stages.items())}",
        wrong=wrong,
        covered={
            "outputs": {output: dict(tally) for output, tally in seen.outputs.items()},
            "stages": dict(seen.stages),
            "streaming_seconds": seen.streaming_seconds and round(seen.streaming_seconds, 3),
            "streaming_seconds_max": seconds_max,
            "caught_up_seconds": round(seen.caught_up_seconds, 3),
        },
    )


def _late(seconds: float | None, seconds_max: float, *, only: bool, said: str) -> list[str]:
    """What is wrong with the time; `only` = it is all that is wrong."""
    if seconds is None:
        return ["how long it streamed is not known: the producer noted no end"]
    if seconds <= seconds_max:
        return []
    late = f"{seconds:.2f} s of streaming, more than {seconds_max:g} s"
    if not only:
        return [late]
    return [f"the time alone: {said} admitted as they should be, in {late}; is the machine busy, or a drill at work?"]


def _stream(scene: Scene, events: int) -> Streamed:
    scene.tell(f"streaming {events} events of each output")
    stream_id = request_stream(
        scene.profile, world=scene.world, platform_run_id=scene.run, max_events_per_output=events
    )
    ended = wait_for_stream(scene.profile, stream_id, timeout_seconds=STREAM_SECONDS_MAX)
    streamed = scene.clock.monotonic()
    wait_until_caught_up(
        partial(bootstrap.operator_database, scene.profile, "accept"),
        beats=scene.profile.path("beats"),
        clock=scene.clock,
        timeout_seconds=CAUGHT_UP_SECONDS_MAX,
    )
    caught_up = scene.clock.monotonic()
    with scene.database("WSP_CHECKPOINT_DSN").scope() as connection:
        row = connection.execute(
            "select extract(epoch from ended_at - started_at)::float8 from wsp.streams where stream_id = %s",
            (stream_id,),
        ).fetchone()
    counts = {}
    for stage, (name, statement) in STAGES.items():
        with scene.database(name).scope() as connection:
            found = connection.execute(statement.encode(), (scene.run,)).fetchone()
            counts[stage] = int(found[0]) if found else 0
    return Streamed(ended["outputs"], counts, row[0] if row else None, caught_up - streamed)
