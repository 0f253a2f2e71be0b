"""Chance that falls the same way on every machine and every Python.

Rests only on `random.Random(seed).random()`, the one method whose sequence Python promises to keep; the other methods
of that class may change between versions. The mathematics below uses additions and multiplications alone, which IEEE
754 rounds the same everywhere, where `math.exp` and `math.log` may differ in the last digit from one C library to another.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import TypeVar

T = TypeVar("T")


class Dice:
    """A seeded source of chance."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed).random  # noqa: S311 - made-up customers, no secrets

    def chance(self, probability: float) -> bool:
        """True with `probability`."""
        return self._random() < probability

    def below(self, limit: int) -> int:
        """A whole number in [0, limit)."""
        return int(self._random() * limit)

    def between(self, low: int, high: int) -> int:
        """A whole number in [low, high], both included."""
        return low + int(self._random() * (high - low + 1))

    def choice(self, values: Sequence[T]) -> T:
        return values[int(self._random() * len(values))]

    def normal(self) -> float:
        """About a standard normal: the sum of twelve uniforms less six, never beyond six sigmas."""
        return sum([self._random() for _ in range(12)]) - 6.0

    def lognormal(self, sigma: float) -> float:
        """A factor around 1 with the long right tail that amounts of money have."""
        return growth(sigma * self.normal())


class Urn:
    """Draws indices in proportion to whole-number weights."""

    def __init__(self, weights: Sequence[int]) -> None:
        self._steps = list(accumulate(weights))

    def draw(self, dice: Dice) -> int:
        return bisect_right(self._steps, dice.below(self._steps[-1]))


def growth(x: float) -> float:
    """About e to the x for |x| < 10: (1 + x/1024) to the 1024, by ten squarings."""
    value = 1.0 + x / 1024.0
    for _ in range(10):
        value *= value
    return value
