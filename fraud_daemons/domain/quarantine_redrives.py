"""A person's request that a refused event goes through the gate again, after what it was refused for was mended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from fraud_daemons.domain.identity import derived_id

REQUESTED: Final = "QUARANTINE_REDRIVE_REQUESTED"
_FIELDS: Final = ("request_id", "quarantine_id", "asked_by", "reason")


@dataclass(frozen=True, slots=True)
class AskedRedrive:
    """One request; `platform_run_id` = the run under which the event is quarantined, "" for none."""

    platform_run_id: str
    request_id: str
    quarantine_id: str
    asked_by: str
    reason: str


def request(
    *, platform_run_id: str, quarantine_id: str, asked_by: str, reason: str, requested_at: str
) -> dict[str, Any]:
    """The body of a request on the `control` topic."""
    return {
        "kind": REQUESTED,
        "request_id": derived_id("quarantine_redrive", quarantine_id, asked_by, reason, requested_at),
        "platform_run_id": platform_run_id,
        "quarantine_id": quarantine_id,
        "asked_by": asked_by,
        "reason": reason,
        "requested_at": requested_at,
    }


def asked_of(body: Mapping[str, Any]) -> AskedRedrive | None:
    """What a record on `control` asks for; None for other requests. Raises KeyError or ValueError for a broken one."""
    if body["kind"] != REQUESTED:
        return None
    for name in _FIELDS:
        if not (isinstance(body[name], str) and body[name]):
            raise ValueError(f"{name} must be a text")
    return AskedRedrive(str(body["platform_run_id"]), **{name: body[name] for name in _FIELDS})
