"""Whether all that a stream feeds takes records on: by the heartbeat files, as `platform status` sees them.

Only that: not the report, which reads afterwards, and not evidence. The gate and the audit seal it behind their work, so
while the object store is away both say `waiting`, and take records on all the same; when too much of it is waiting, the
gate itself says 429.
"""

from __future__ import annotations

from collections.abc import Iterator

from fraud_daemons.clock import Clock
from fraud_daemons.config.packs import load_packs
from fraud_daemons.config.profiles import Profile
from fraud_daemons.evidence.port import STORE
from fraud_daemons.observability.heartbeat import Heartbeat, read_heartbeat

GATE = "ingestion_gate"
FED_PACKS = ("rtdl_core", "decision_lane", "case_labels")


def waiting_for(profile: Profile, clock: Clock) -> str | None:
    """`waiting for <worker>: <reason>` for the first worker that takes nothing on, None when all do."""
    age_max = profile.get("loop.beat_age_seconds_max")
    for worker in _fed(profile):
        trouble = _trouble(read_heartbeat(profile.path("beats", f"{worker}.json")), clock, age_max=age_max)
        if trouble is not None:
            return f"waiting for {worker}: {trouble}"
    return None


def _fed(profile: Profile) -> Iterator[str]:
    """The gate, and every worker of the packs behind it that the profile has."""
    yield GATE
    for pack in load_packs(profile.root, enabled=profile.get("profile.packs")):
        if pack.name in FED_PACKS:
            yield from pack.workers


def _trouble(beat: Heartbeat | None, clock: Clock, *, age_max: float) -> str | None:
    """Why a worker with this last beat takes nothing on."""
    if beat is None:
        return "not started"
    if not beat.process.alive():
        return "not running"
    age = clock.monotonic() - beat.beat_monotonic
    if age > age_max:
        return f"no beat for {age:.0f} s"
    if beat.state == "ready" or (beat.state == "waiting" and (beat.reason or "").startswith(STORE)):
        return None
    return beat.reason or beat.state
