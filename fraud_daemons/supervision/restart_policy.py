"""When a dead worker is started again: at once, then later and later, and not at all after too many deaths in a window.

It refuses to know why somebody died: who calls says whether a death counts. One that happens while the shared database
is away does not, and the substrate has no limit, because everybody waits for it.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field


@dataclass(frozen=True)
class DeathLimit:
    """How many deaths in how many seconds are borne; one more and the worker is held."""

    deaths_max: int
    window_seconds: float


@dataclass
class RestartPolicy:
    """How long to wait before a respawn: not at all after the first quick death, then growing, capped, with jitter."""

    limit: DeathLimit | None
    stable_seconds: float = 10.0  # who lived this long begins anew
    base_seconds: float = 0.25
    cap_seconds: float = 15.0
    quick_deaths: int = 0
    _deaths: deque[float] = field(default_factory=deque)
    """When it died, by the monotonic clock, within the window; never longer than the limit and one."""

    def delay_after(self, uptime_seconds: float) -> float:
        """Seconds to wait after a death at this age."""
        self.quick_deaths = self.quick_deaths + 1 if uptime_seconds < self.stable_seconds else 0
        if self.quick_deaths <= 1:
            return 0.0
        ceiling = min(self.cap_seconds, self.base_seconds * 2.0 ** min(self.quick_deaths - 2, 10))
        return ceiling * random.uniform(0.5, 1.0)  # noqa: S311 - not a secret; spreads a herd

    def count(self, now_monotonic: float) -> str | None:
        """Count a death; why the worker must be held now, or None while the limit is kept."""
        if self.limit is None:
            return None
        self._deaths.append(now_monotonic)
        while self._deaths[0] <= now_monotonic - self.limit.window_seconds:
            self._deaths.popleft()
        if len(self._deaths) <= self.limit.deaths_max:
            return None
        return f"{len(self._deaths)} deaths in {now_monotonic - self._deaths[0]:.0f} s"
