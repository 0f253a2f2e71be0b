"""What a person may assert of a flow: a label with its times and its source. The request goes to label_store, who alone
writes; this module makes the requests and the assertions, and says what no owner would accept.

A request's id is derived from all that is asserted and by whom, so the same request twice is one label.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from fraud_daemons.clock import iso, parse_iso
from fraud_daemons.domain.identity import derived_id
from fraud_daemons.domain.labels import FRAUD_DISPOSITION, label_id

REQUESTED: Final = "LABEL_ASSERTION_REQUESTED"
VALUES: Final[Mapping[str, tuple[str, ...]]] = {
    FRAUD_DISPOSITION: ("FRAUD", "LEGIT"),
    "chargeback_status": ("OPENED", "UPHELD", "REVERSED"),
    "account_takeover": ("CONFIRMED", "CLEARED"),
}
"""What may be said, by label type."""
SOURCES: Final = ("HUMAN", "EXTERNAL")
"""Who may say it by command; AUTO is for machines."""
CLOCKS_APART: Final = timedelta(seconds=5)
"""What is observed "now" on another clock may be a little ahead of ours."""
NAME_CHARACTERS_MAX: Final = 200
SOURCE_REF: Final = "asserted:"


@dataclass(frozen=True, slots=True)
class Asserted:
    """One assertion as it was asked for. Times are ISO texts; `effective_time` None = when the flow occurred."""

    request_id: str
    platform_run_id: str
    flow_id: str
    type: str
    value: str
    fraud_type: str | None
    source: str
    observed_time: str
    effective_time: str | None
    asked_by: str


def request(
    *, platform_run_id: str, flow_id: str, label_type: str, value: str, fraud_type: str | None, source: str,
    observed_time: str, effective_time: str | None, asked_by: str,
) -> dict[str, Any]:  # fmt: skip
    """The body of a request on the `control` topic."""
    said = {
        "flow_id": flow_id,
        "type": label_type,
        "value": value,
        "fraud_type": fraud_type,
        "source": source,
        "observed_time": observed_time,
        "effective_time": effective_time,
        "asked_by": asked_by,
    }
    identity = derived_id("label_assertion", platform_run_id, *(str(part) for part in said.values()))
    return {"kind": REQUESTED, "request_id": identity, "platform_run_id": platform_run_id, **said}


def asserted_of(body: Mapping[str, Any]) -> Asserted:
    """What a request asks for. Raises KeyError, TypeError or ValueError when it breaks its contract."""
    needed = ("request_id", "platform_run_id", "flow_id", "type", "value", "source", "observed_time", "asked_by")
    optional = ("fraud_type", "effective_time")
    for name in (*needed, *optional):
        if not (isinstance(body[name], str) and body[name]) and not (name in optional and body[name] is None):
            raise ValueError(f"{name} must be a text")
    times = {name: body[name] and iso(parse_iso(body[name])) for name in ("observed_time", "effective_time")}
    return Asserted(**{name: times.get(name, body[name]) for name in (*needed, *optional)})


def why_unknown(label_type: str, value: str, source: str, fraud_type: str | None) -> str | None:
    """What is wrong with what is said, whatever it is said of; None when nothing is."""
    if label_type not in VALUES:
        return f"there is no label type {label_type!r}; known are {', '.join(VALUES)}"
    if value not in VALUES[label_type]:
        return f"{label_type} has no value {value!r}; known are {', '.join(VALUES[label_type])}"
    if source not in SOURCES:
        return f"nobody may assert as {source!r}; known are {', '.join(SOURCES)}"
    if fraud_type is not None and (label_type, value) != (FRAUD_DISPOSITION, "FRAUD"):
        return "a fraud type belongs to fraud_disposition FRAUD only"
    return None


def why_refused(asserted: Asserted, *, occurred_at: datetime | None, now: datetime) -> str | None:
    """Why the owner does not take it; None when it does. `occurred_at` = of the flow, None when the run decided none such."""
    unknown = why_unknown(asserted.type, asserted.value, asserted.source, asserted.fraud_type)
    if unknown is not None:
        return unknown
    if occurred_at is None:
        return f"run {asserted.platform_run_id} has decided no flow {asserted.flow_id!r}"
    observed = parse_iso(asserted.observed_time)
    if observed > now + CLOCKS_APART:
        return f"observed at {asserted.observed_time}, which is in the future"
    if observed < occurred_at:
        return f"observed at {asserted.observed_time}, before the flow occurred at {iso(occurred_at)}"
    if asserted.effective_time is not None and asserted.effective_time > asserted.observed_time:
        return f"effective from {asserted.effective_time}, after it was observed at {asserted.observed_time}"
    return None


def label_of(asserted: Asserted, *, occurred_at: datetime, recorded_at: str) -> dict[str, Any]:
    """The `labels` record of an assertion that was taken."""
    source_ref = f"{SOURCE_REF}{asserted.request_id}"
    return {
        "label_id": label_id(asserted.platform_run_id, asserted.flow_id, asserted.type, asserted.source, source_ref),
        "platform_run_id": asserted.platform_run_id,
        "flow_id": asserted.flow_id,
        "type": asserted.type,
        "value": asserted.value,
        "fraud_type": asserted.fraud_type,
        "source": asserted.source,
        "effective_time": asserted.effective_time or iso(occurred_at),
        "observed_time": asserted.observed_time,
        "recorded_at": recorded_at,
        "supersedes": None,
    }
