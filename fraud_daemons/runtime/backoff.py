"""Capped, fully jittered backoff: the delay does not grow with the length of an outage, and siblings do not stampede."""

from __future__ import annotations

import random

BASE_SECONDS = 0.1


class Backoff:
    """Delays before the n-th try in a row."""

    def __init__(self, *, cap_seconds: float, base_seconds: float = BASE_SECONDS, seed: int | None = None) -> None:
        self._cap = cap_seconds
        self._base = base_seconds
        self._random = random.Random(seed)  # noqa: S311 - jitter, not a secret
        self._tries = 0

    def next_delay(self) -> float:
        """Between half and all of base x 2^n, capped; seconds."""
        ceiling: float = min(self._cap, self._base * 2.0 ** min(self._tries, 20))
        self._tries += 1
        return ceiling * self._random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """The next failure is the first again."""
        self._tries = 0
