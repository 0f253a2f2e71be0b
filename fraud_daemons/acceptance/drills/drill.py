"""What a drill is: a name, one sentence, the act, and the counters that prove that its fault really happened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fraud_daemons.acceptance.drills.stage import Stage


def nothing_more(_: Stage) -> str | None:
    """A drill that any marked platform can run."""
    return None


def own_postgres(stage: Stage) -> str | None:
    """Who breaks the server must own it: an external one is somebody else's."""
    if stage.profile.embedded_postgres:
        return None
    return "an embedded PostgreSQL (this profile names an external one, which a drill leaves alone)"


def own_store(stage: Stage) -> str | None:
    """As `own_postgres`, for the object store."""
    if stage.profile.embedded_objectstore:
        return None
    return "an embedded object store (this profile names an external one, which a drill leaves alone)"


@dataclass(frozen=True)
class Drill:
    """One fault. `act` breaks and mends; every counter in `proofs` must have moved, or the verdict is FAIL."""

    name: str
    does: str
    act: Callable[[Stage], None]
    proofs: tuple[str, ...]
    seconds: float = 5.0
    """How long the fault lasts unless the caller says otherwise."""
    needs: Callable[[Stage], str | None] = nothing_more
    """What the machine or the profile lacks for it, None when it can run."""
    behind_proxy: bool = False
    """Whether it runs a platform of its own, with a proxy between workers and server."""
