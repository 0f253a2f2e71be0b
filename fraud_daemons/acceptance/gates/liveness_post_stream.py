"""After the stream: every worker of every pack still works. The incident's gate had said PASS while three packs were dead."""

from __future__ import annotations

from collections.abc import Mapping

from fraud_daemons.acceptance.gates.scene import Scene
from fraud_daemons.acceptance.gates.verdicts import Finding, judged
from fraud_daemons.status.picture import READY, PlatformPicture


def measure(scene: Scene) -> Finding:
    """One look right after the stream, and what happened to each process since the run began."""
    return judge(scene.look(), restarts_before=scene.restarts)


def judge(picture: PlatformPicture, *, restarts_before: Mapping[str, int]) -> Finding:
    """Every pack `running ready`, every worker with a fresh beat, none restarted since the run began."""
    wrong = [
        f"{worker.worker}: {worker.status}{f' ({worker.reason})' if worker.reason else ''}"
        for worker in picture.workers
        if worker.status != READY
    ]
    wrong += [
        f"{worker.worker}: restarted {worker.restarts - before} times since the run began"
        for worker in picture.workers
        if worker.restarts != (before := restarts_before.get(worker.worker, 0))
    ]
    wrong += [f"{service.service}: {service.status}" for service in picture.substrate if service.status != READY]
    oldest = max((worker.beat_age_seconds or 0.0 for worker in picture.workers), default=0.0)
    return judged(
        expected=f"{len(picture.packs)} packs running ready, {len(picture.workers)} workers, none restarted",
        good=f"{len(picture.packs)} packs running ready, {len(picture.workers)} workers, oldest beat {oldest:.1f} s",
        wrong=wrong,
        covered={
            "packs": {pack.pack: pack.status for pack in picture.packs},
            "workers": len(picture.workers),
            "oldest_beat_seconds": round(oldest, 3),
        },
    )
