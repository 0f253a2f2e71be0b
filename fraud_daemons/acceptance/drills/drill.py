"""What a drill is: a name, one sentence, the act, and the counters that prove that its fault really happened."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fraud_daemons.config.profiles import Profile

if TYPE_CHECKING:
    from fraud_daemons.acceptance.drills.stage import Stage


Tell = Callable[[str], None]
Ground = Callable[[Profile, Tell], AbstractContextManager[tuple[Profile, Any]]]
"""Makes a platform of a drill's own: its profile, and the tool with which the drill breaks things."""


def nothing_more(_: Profile) -> str | None:
    """A drill that any marked platform can run."""
    return None


def own_postgres(profile: Profile) -> str | None:
    """Who breaks the server must own it: an external one is somebody else's."""
    if profile.embedded_postgres:
        return None
    return "an embedded PostgreSQL (this profile names an external one, which a drill leaves alone)"


def own_store(profile: Profile) -> str | None:
    """As `own_postgres`, for the object store."""
    if profile.embedded_objectstore:
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
    needs: Callable[[Profile], str | None] = nothing_more
    """What the machine or the profile lacks for it, None when it can run."""
    ground: Ground | None = None
    """A platform of the drill's own, where it needs one; None = the running platform."""
