"""What a gate answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

PASS, FAIL = "PASS", "FAIL"
WRONG_SHOWN_MAX: Final = 8
"""How many deviations stand in `observed`; all of them are in `covered`."""


@dataclass(frozen=True)
class Finding:
    """What was expected, what was observed, and what the observation covered. `measured` = False: it could not be
    looked at, which is a FAIL too."""

    expected: str
    observed: str
    verdict: str
    covered: Mapping[str, Any] = field(default_factory=dict)
    measured: bool = True


def judged(
    *, expected: str, good: str, wrong: Sequence[str], covered: Mapping[str, Any], measured: bool = True
) -> Finding:
    """PASS with what was seen, or FAIL with what was wrong."""
    shown = "; ".join(wrong[:WRONG_SHOWN_MAX])
    more = f"; and {len(wrong) - WRONG_SHOWN_MAX} more" if len(wrong) > WRONG_SHOWN_MAX else ""
    return Finding(
        expected, shown + more if wrong else good, FAIL if wrong else PASS, {**covered, "wrong": list(wrong)}, measured
    )


def unmeasured(expected: str, why: str) -> Finding:
    """It could not be looked at: no PASS."""
    return Finding(expected, f"could not be measured: {why}", FAIL, {}, measured=False)
