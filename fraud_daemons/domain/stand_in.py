"""The policy that decides when no other can be read: stand-in processing, as card networks do it for a silent issuer.

It is part of the code, so that it cannot be missing. It is used under FAIL_CLOSED only: nothing is allowed unreviewed,
and these rules merely say what is stopped at once.
"""

from __future__ import annotations

from typing import Any, Final

from fraud_daemons.domain.policy import Policy, parse_policy

DOCUMENT: Final[dict[str, Any]] = {
    "policy_id": "stand_in",
    "revision": 1,
    "description": "Built in; decides while the policy cannot be read, and only under FAIL_CLOSED.",
    "thresholds": {"step_up": 30, "review": 60, "block": 100},
    "actions": {
        "STEP_UP": ["request_step_up"],
        "REVIEW": ["hold_for_review"],
        "BLOCK": ["decline_authorisation", "notify_cardholder"],
    },
    "rules": [
        {
            "id": "stand_in_amount",
            "reason": "amount of 5,000.00 or more while the policy cannot be read",
            "weight": 100,
            "stand_in": True,
            "when": {"field": "amount_minor", "op": ">=", "value": 500_000},
        },
    ],
}

STAND_IN: Final[Policy] = parse_policy(DOCUMENT, source="stand-in policy")
