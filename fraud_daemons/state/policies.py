"""Policies activated by command: who, when, which digest, and the very text that was checked."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from fraud_daemons.domain.policy import Policy
from fraud_daemons.postgres_runtime.connector import Connection
from fraud_daemons.state import governance
from fraud_daemons.state.governance import Kind


@dataclass(frozen=True)
class Activation:
    """One order to decide by a policy; the newest counts."""

    sequence: int
    name: str
    digest: str
    reason: str
    activated_by: str
    activated_at: datetime


_COLUMNS = "sequence, name, digest, reason, activated_by, activated_at"


def newest(connection: Connection) -> Activation | None:
    """The activation in force; None when the profile's policy decides."""
    row = connection.execute(
        f"select {_COLUMNS} from control.policy_activations order by sequence desc limit 1"
    ).fetchone()
    return None if row is None else Activation(*row)


def listing(connection: Connection, *, limit: int, before: int | None = None) -> list[Activation]:
    """Activations, newest first; `before` = the sequence number that ended the page before."""
    rows = connection.execute(
        f"select {_COLUMNS} from control.policy_activations where %(before)s::bigint is null or sequence < %(before)s"
        " order by sequence desc limit %(limit)s",
        {"before": before, "limit": limit},
    )
    return [Activation(*row) for row in rows]


def document(connection: Connection, digest: str) -> str | None:
    """The text of the policy with that digest; None when it was never activated."""
    row = connection.execute("select document from control.policies where digest = %s", (digest,)).fetchone()
    return None if row is None else row[0]


def activate(
    connection: Connection, policy: Policy, text: str, *, name: str, reason: str, by: str, at: datetime
) -> Activation:
    """Keep the policy's text under its digest and order decisions by it, in the caller's one transaction."""
    connection.execute(
        "insert into control.policies (digest, policy_id, revision, document, stored_by, stored_at)"
        " values (%s, %s, %s, %s, %s, %s) on conflict do nothing",
        (policy.digest, policy.policy_id, policy.revision, text, by, at),
    )
    row = connection.execute(
        "insert into control.policy_activations (name, digest, reason, activated_by, activated_at)"
        f" values (%s, %s, %s, %s, %s) returning {_COLUMNS}",
        (name, policy.digest, reason, by, at),
    ).fetchone()
    assert row is not None  # noqa: S101 - an insert without a condition returns its row
    governance.record(
        connection, Kind.POLICY_ACTIVATED, subject=name, by=by, at=at,
        detail={**policy.identity(), "reason": reason, "sequence": row[0]},
    )  # fmt: skip
    return Activation(*row)
