"""platform explain: one decision, for the person who has to answer for it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import click
import orjson

from fraud_daemons.cli._listing import reading
from fraud_daemons.cli.options import Invocation, invocation
from fraud_daemons.config.dsns import EVENT_BUS_DSN, PLATFORM_DSN
from fraud_daemons.errors import CommandError, ConfigurationError, ExitCode

if TYPE_CHECKING:
    from fraud_daemons.config.profiles import Profile
    from fraud_daemons.domain.explaining import Explanation
    from fraud_daemons.postgres_runtime.connector import ConnectionOf


@click.command()
@click.argument("decision_id")
@invocation
def command(call: Invocation, *, decision_id: str) -> int:
    """Why DECISION_ID came out as it did. 1 when there is no such decision."""
    from fraud_daemons.state import decisions

    profile = call.load_profile()
    with reading(profile, "explain") as at:
        stored = decisions.body_of(at("DF_REPLAY_DSN"), decision_id)
        if stored is None:
            raise CommandError(f"no decision {decision_id!r}; see: platform decisions list")
        decision = orjson.loads(stored)
        record = _record(profile, at, decision)
        text = _policy_text(profile, at, decision["policy"]["digest"])
    explanation, gap = None, _gap(record, text, decision)
    if gap is None:
        explanation = _explained(decision, record or {}, text)
    document = {"decision": decision, "explanation": explanation.as_dict() if explanation else None, "missing": gap}
    call.answer(document, text=_text(decision, explanation, gap))
    return int(ExitCode.GOOD)


def _record(profile: Profile, at: ConnectionOf, decision: Mapping[str, Any]) -> dict[str, Any] | None:
    """The record the decision was made from, as the bus has it or, once it was trimmed, the archive; None when neither has."""
    from fraud_daemons.acceptance.archive import archived_from
    from fraud_daemons.bootstrap import evidence_store
    from fraud_daemons.state.decisions import made_from

    topic, partition, position = decision["sources"]["decided_from"]
    body = made_from(at(EVENT_BUS_DSN), topic, partition, position)
    if body is None:
        archived = archived_from(at, partial(evidence_store, profile))
        body = archived(decision["platform_run_id"], (topic, partition, position))
    return None if body is None else orjson.loads(body)


def _policy_text(profile: Profile, at: ConnectionOf, digest: str) -> Mapping[str, Any] | None:
    """The policy's table by digest: the stand-in, an activated one, or a file that still has it."""
    from fraud_daemons.config.policies import document_of, policies_folder
    from fraud_daemons.domain.policy import parse_policy
    from fraud_daemons.domain.stand_in import DOCUMENT, STAND_IN
    from fraud_daemons.state import policies

    if digest == STAND_IN.digest:
        return DOCUMENT
    stored = policies.document(at(PLATFORM_DSN), digest)
    if stored is not None:
        return document_of(stored, source=f"activated policy {digest[:16]}")
    for path in sorted(policies_folder(profile.root).glob("*.toml")):
        try:
            document = document_of(path.read_text(), source=path.name)
            if parse_policy(document, source=path.name).digest == digest:
                return document
        except (OSError, UnicodeDecodeError, ConfigurationError):
            continue
    return None


def _gap(record: object, text: object, decision: Mapping[str, Any]) -> str | None:
    if record is None:
        return "the record it was made from is no longer on the bus; the reasons are the stored ones"
    if text is None:
        return f"no policy with digest {decision['policy']['digest'][:16]} is at hand; the reasons are the stored ones"
    return None


def _explained(decision: Mapping[str, Any], record: Mapping[str, Any], text: Mapping[str, Any] | None) -> Explanation:
    from fraud_daemons.domain.explaining import explain
    from fraud_daemons.domain.policy import parse_policy

    document = text or {}
    return explain(decision, record, parse_policy(document, source="policy"), document)


_WHO = (("card", "card_token"), ("terminal", "terminal_id"), ("merchant", "merchant_id"))
_FEATURES = {"PRESENT": "known", "ABSENT": "not used: the posture forbade them, or there were none"}
_CONTEXT = {
    "COMPLETE": "known",
    "PARTIAL": "part of it did not arrive",
    "MISSING": "where and by whom the card was used did not arrive",
}
_POSTURE = {
    "NORMAL": "everything could be used",
    "DEGRADED_1": "no model",
    "DEGRADED_2": "no features, no graph",
    "FAIL_CLOSED": "stand-in rules only, nothing passes unreviewed",
}


def _text(decision: Mapping[str, Any], explanation: Explanation | None, gap: str | None) -> str:
    traffic, policy, posture = decision["traffic"], decision["policy"], decision["posture"]
    amount = f"{traffic['amount_minor']:,} minor units {traffic['currency']} on {decision['occurred_at']}"
    who = [f"{part} {decision[key] or 'not known'}" for part, key in _WHO]
    lines = [
        f"{decision['outcome']}, score {decision['score']} - {amount}",
        ", ".join(who),
        "",
        "why",
        *[f"  {r['weight']:+5d}  {r['reason']}  ({r['rule_id']})" for r in decision["reasons"]],
    ]
    if not decision["reasons"]:
        lines.append("  no rule fired")
    if explanation is not None:
        scores = ", ".join(f"{outcome} from {score}" for outcome, score in explanation.thresholds)
        lines += ["", f"score {decision['score']}; {scores}"]
        lines += [f"  {change}" for change in explanation.would_change]
        lines += _rules(explanation)
        if not explanation.same:
            lines += ["", f"asked again the policy says {explanation.outcome}, score {explanation.score}: that differs"]
    lines += [
        "",
        f"features  {decision['feature_status']}: {_FEATURES.get(decision['feature_status'], '')}",
        f"context   {decision['context_status']}: {_CONTEXT.get(decision['context_status'], '')}",
        f"posture   {posture['mode']} ({posture['sequence']}): {_POSTURE.get(posture['mode'], '')}",
        f"policy    {policy['policy_id']} revision {policy['revision']}, digest {policy['digest']}",
        f"decision  {decision['decision_id']} of flow {decision['flow_id']} in {decision['platform_run_id']}",
    ]
    if gap is not None:
        lines += ["", gap]
    return "\n".join(lines)


def _rules(explanation: Explanation) -> list[str]:
    from fraud_daemons.domain.explaining import seen, told_rules

    lines, before = [], ""
    for heading, mark, rule in told_rules(explanation.rules):
        if heading != before:
            lines += ["", heading]
            before = heading
        gives = f"{rule.weight:+d}" + (f", at least {rule.outcome}" if rule.outcome else "")
        lines += [f"  {mark} {rule.rule_id} ({gives}): {rule.condition}", f"      saw {seen(rule.saw)}"]
    return lines
