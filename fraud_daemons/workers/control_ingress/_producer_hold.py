"""Whether the packs that a stream feeds are ready: by their heartbeat files, as `platform status` sees them."""

from __future__ import annotations

from fraud_daemons.clock import Clock
from fraud_daemons.config.packs import load_packs
from fraud_daemons.config.profiles import Profile
from fraud_daemons.observability.heartbeat import Heartbeat, read_heartbeat


def waiting_for(profile: Profile, clock: Clock, *, own_name: str) -> str | None:
    """`waiting for <worker>: <reason>` for the first worker that is not ready, None when all are.

    Every worker of every pack counts but the producer itself: what is streamed goes the whole way.
    """
    age_max = profile.get("loop.beat_age_seconds_max")
    for pack in load_packs(profile.root, enabled=profile.get("profile.packs")):
        for worker in pack.workers:
            if worker == own_name:
                continue
            trouble = _trouble(read_heartbeat(profile.path("beats", f"{worker}.json")), clock, age_max=age_max)
            if trouble is not None:
                return f"waiting for {worker}: {trouble}"
    return None


def _trouble(beat: Heartbeat | None, clock: Clock, *, age_max: float) -> str | None:
    """Why a worker with this last beat is not ready."""
    if beat is None:
        return "not started"
    if not beat.process.alive():
        return "not running"
    age = clock.monotonic() - beat.beat_monotonic
    if age > age_max:
        return f"no beat for {age:.0f} s"
    return None if beat.state == "ready" else (beat.reason or beat.state)
