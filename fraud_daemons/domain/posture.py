"""The degrade ladder's rungs and what each one lets a decision use. How the rung is chosen is the worker's business.

Borrowed from the card networks' stand-in processing: when something a decision needs is silent, pre-agreed and stricter
rules decide, and the record says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Mode(StrEnum):
    """The rungs from best to worst; `severity` orders them (as text they do not)."""

    NORMAL = "NORMAL"  # everything
    DEGRADED_1 = "DEGRADED_1"  # no model
    DEGRADED_2 = "DEGRADED_2"  # no features, no graph
    FAIL_CLOSED = "FAIL_CLOSED"  # stand-in rules only, nothing is allowed through unreviewed


LADDER: Final = tuple(Mode)
_SEVERITY: Final = {mode: rung for rung, mode in enumerate(LADDER)}


@dataclass(frozen=True, slots=True)
class Posture:
    """The rung in force and its sequence number; both go into every decision, only the mode into its core digest."""

    mode: Mode
    sequence: int


def severity(mode: Mode) -> int:
    """0 for NORMAL up to 3 for FAIL_CLOSED."""
    return _SEVERITY[mode]


def worst(*modes: Mode) -> Mode:
    """The most severe of the given modes; NORMAL when none is given."""
    return max(modes, key=severity, default=Mode.NORMAL)


def allows_model(mode: Mode) -> bool:
    """True where a model's score may be used."""
    return mode is Mode.NORMAL


def allows_features(mode: Mode) -> bool:
    """True where the feature vector may be read."""
    return severity(mode) <= severity(Mode.DEGRADED_1)


def allows_graph(mode: Mode) -> bool:
    """True where the entity graph may be read."""
    return allows_features(mode)


def allows_unreviewed(mode: Mode) -> bool:
    """True where a transaction may go through without a person looking at it."""
    return mode is not Mode.FAIL_CLOSED
