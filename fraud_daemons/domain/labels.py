"""Label assertions: how they are made, and which one holds as of a time.

A label has three times: `effective_time` (when the fraud happened), `observed_time` (when the source knew) and
`recorded_at` (when we stored it; never used to choose). Assertions are never changed: a correction is another
assertion that names the one it supersedes, and both stay readable.

**As of T**, for one flow and one type: of the assertions with observed_time <= T, those of the highest source present
(HUMAN > EXTERNAL > AUTO); of these, leave out any that another of them supersedes; the newest observed_time wins, and
the larger label_id where even that is equal. No assertion is no label: an unlabelled flow is immature, not legitimate.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final

from fraud_daemons.clock import parse_iso
from fraud_daemons.domain.identity import derived_id

FRAUD_DISPOSITION: Final = "fraud_disposition"
LABEL_TYPES: Final = (FRAUD_DISPOSITION, "chargeback_status", "account_takeover")

PRECEDENCE: Final = {"HUMAN": 2, "EXTERNAL": 1, "AUTO": 0}


class Maturity(StrEnum):
    """What the absence or presence of a label means at a time."""

    LABELLED = "LABELLED"
    MATURE_UNLABELLED = "MATURE_UNLABELLED"  # the horizon has passed and nobody reported anything
    IMMATURE = "IMMATURE"  # too early to say


def label_id(platform_run_id: str, flow_id: str, label_type: str, source: str, source_ref: str) -> str:
    """The derived id of an assertion."""
    return derived_id("label", platform_run_id, flow_id, label_type, source, source_ref)


def assertion_from_truth(event: Mapping[str, Any], *, recorded_at: str) -> dict[str, Any]:
    """The `labels` record of a truth event.

    A truth event is identified by its flow and correction, so the id's source reference is "truth:<correction>" and
    correction n supersedes n - 1, whatever the feed's own reference says.
    """
    payload, run = event["payload"], event["pins"]["platform_run_id"]
    flow_id, correction = payload["flow_id"], payload["correction"]

    def identity(number: int) -> str:
        return label_id(run, flow_id, FRAUD_DISPOSITION, "EXTERNAL", f"truth:{number}")

    return {
        "label_id": identity(correction),
        "platform_run_id": run,
        "flow_id": flow_id,
        "type": FRAUD_DISPOSITION,
        "value": "FRAUD" if payload["fraud"] else "LEGIT",
        "fraud_type": payload["fraud_type"] if payload["fraud"] else None,
        "source": "EXTERNAL",
        "effective_time": payload["effective_time"],
        "observed_time": event["occurred_at"],
        "recorded_at": recorded_at,
        "supersedes": identity(correction - 1) if correction > 0 else None,
    }


def assertions_from_resolution(entry: Mapping[str, Any], *, recorded_at: str) -> list[dict[str, Any]]:
    """The HUMAN `labels` of a RESOLVED case entry, one per flow; none when it was inconclusive.

    The observed time is the moment of the resolution; the source reference is the case and its entry.
    """
    if entry["disposition"] not in ("FRAUD", "LEGIT"):
        return []
    source_ref = f"{entry['case_id']}:{entry['entry']}"
    return [
        {
            "label_id": label_id(entry["platform_run_id"], flow["flow_id"], FRAUD_DISPOSITION, "HUMAN", source_ref),
            "platform_run_id": entry["platform_run_id"],
            "flow_id": flow["flow_id"],
            "type": FRAUD_DISPOSITION,
            "value": entry["disposition"],
            "fraud_type": None,
            "source": "HUMAN",
            "effective_time": flow["occurred_at"],
            "observed_time": entry["at"],
            "recorded_at": recorded_at,
            "supersedes": None,
        }
        for flow in entry["flows"]
    ]


def as_of(
    assertions: Iterable[Mapping[str, Any]], time: Any, *, label_type: str = FRAUD_DISPOSITION
) -> Mapping[str, Any] | None:
    """The assertion that holds at `time` (`clock.iso` text, or whatever `observed_time` is told in) among those of one
    flow, or None."""
    known = [a for a in assertions if a["type"] == label_type and a["observed_time"] <= time]
    if not known:
        return None
    highest = max(PRECEDENCE[a["source"]] for a in known)
    ranked = [a for a in known if PRECEDENCE[a["source"]] == highest]
    superseded = {a["supersedes"] for a in ranked}
    standing = [a for a in ranked if a["label_id"] not in superseded]
    return max(standing, key=lambda a: (a["observed_time"], a["label_id"]), default=None)


def maturity(label: Mapping[str, Any] | None, *, occurred_at: str, at: str, horizon_days: int) -> Maturity:
    """What to make of a flow that occurred at `occurred_at`, seen at `at`, with `label` as of then."""
    if label is not None:
        return Maturity.LABELLED
    age = parse_iso(at) - parse_iso(occurred_at)
    return Maturity.MATURE_UNLABELLED if age >= timedelta(days=horizon_days) else Maturity.IMMATURE
