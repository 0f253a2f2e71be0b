"""Executes each intent once: authorises it, records it in the ledger or calls the configured receiver, says how it ended.

Two activities. The consumer stores intents and ends at once what needs no call: denied, or executed by the ledger
(recorded = executed). What needs a call is stored as PENDING with the checkpoint; the dispatch makes the call outside
any transaction: it commits "attempt n begun", calls, then commits outcome and publication together.

What that promises: a crash between a call and its commit repeats the call with the same Idempotency-Key. The receiver
hears an intent at least once and, counting keys, exactly once; the ledger has exactly one outcome. A call cut off by a
crash is an attempt but no failure, so crashes never use up the attempts. On a run that is not marked live nobody is
called: replaying a world pages nobody.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import orjson

from fraud_daemons.bus import outbox
from fraud_daemons.bus.port import Record
from fraud_daemons.config.dsns import PLATFORM_DSN
from fraud_daemons.domain.actions import ACTIONS, ActionStatus, authorise, outcome_body
from fraud_daemons.domain.identity import canonical_json
from fraud_daemons.errors import ConfigurationError, PoisonFault
from fraud_daemons.observability import events
from fraud_daemons.postgres_runtime.connector import Connection
from fraud_daemons.runtime.activity import Activity, Outcome, PlainActivity
from fraud_daemons.runtime.consumer import StatelessHandler
from fraud_daemons.runtime.database import Beside
from fraud_daemons.runtime.unit_of_work import UnitOfWork
from fraud_daemons.runtime.worker import Worker, WorkerContext
from fraud_daemons.state import actions
from fraud_daemons.state.actions import IntentKey, NewIntent, NewOutcome, Pending, Retry
from fraud_daemons.workers.decision_lane._webhook_calls import (
    CALLS_AT_ONCE_MAX,
    Answer,
    Call,
    Callers,
    Receiver,
    Result,
    parse_receiver,
    signed_headers,
)

RETRY_BASE_SECONDS: Final = 0.5
RETRY_SECONDS_MAX: Final = 30.0
IDLE_REST_SECONDS: Final = 0.2
DRAIN_SECONDS_MAX: Final = 5.0  # calls in hand when the worker stops; what takes longer is called again after the start
KILLED: Final = "the kill switch is on (actions.kill_switch)"

_TEXTS: Final = ("intent_id", "decision_id", "flow_id", "platform_run_id", "action", "origin")
_BROKEN = (KeyError, TypeError, ValueError, AttributeError)


@dataclass(frozen=True)
class Rules:
    """What the profile says about actions."""

    kill_switch: bool
    webhook_actions: frozenset[str]
    receiver: Receiver | None
    timeout_seconds: float
    attempts_max: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of an intent: `status` None = it waits for a call."""

    executor: str
    status: ActionStatus | None
    detail: str


class IntentIntake(StatelessHandler):
    """The consumer's handler: the hot path, in which nobody is called."""

    def __init__(self, rules: Rules, beside: Beside) -> None:
        self._rules = rules
        self._beside = beside

    def handle(self, records: Sequence[Record], unit: UnitOfWork) -> None:
        intents = [_parsed(record) for record in records]
        live: set[str] = set()
        if self._rules.receiver is not None:
            with self._beside(unit.connection) as at:
                live = actions.live_runs(at(PLATFORM_DSN), (intent["platform_run_id"] for intent in intents))
        first: dict[IntentKey, tuple[NewIntent, Verdict]] = {}
        met: list[NewIntent] = []
        for record, intent in zip(records, intents, strict=True):
            verdict = judge(intent, self._rules, live=intent["platform_run_id"] in live)
            state = "PENDING" if verdict.status is None else "DONE"
            row = NewIntent(intent, record, _content_hash(intent), verdict.executor, state)
            if first.setdefault(row.key, (row, verdict))[0] is not row:
                met.append(row)
        new = actions.add_intents(unit.connection, [row for row, _ in first.values()], at=unit.now)
        met += [row for key, (row, _) in first.items() if key not in new]
        if met:
            _keep(met, unit)
        ended = [
            _ended(
                row.intent, verdict.status, row.record.key, executor=verdict.executor, detail=verdict.detail, unit=unit
            )
            for key, (row, verdict) in first.items()
            if key in new and verdict.status is not None
        ]
        conclude(ended, unit)


class WebhookDispatch(PlainActivity):
    """Calls the receiver for pending intents, in order of arrival, a few at a time.

    What is in flight is the truth about our own threads and not about the database, so a failed step does not drop it:
    an answer stays here until it is committed.
    """

    def __init__(self, context: WorkerContext, rules: Rules) -> None:
        self.name = f"{context.worker.name}.webhook"
        self._context = context
        self._rules = rules
        self._callers = (
            None if rules.receiver is None else Callers(rules.receiver, timeout_seconds=rules.timeout_seconds)
        )
        self._in_flight: dict[IntentKey, Call] = {}
        self._answers: list[Answer] = []

    def step(self) -> Outcome:
        self._collect()
        settled = self._settle()
        begun = self._begin()
        if settled or begun:
            return Outcome(records=settled)
        return Outcome(rest_seconds=IDLE_REST_SECONDS)

    def wake_files(self) -> list[int]:
        return [self._callers.wake_file()] if self._callers is not None else []

    def close(self) -> None:
        """Wait for the calls in hand, within bounds, and commit how they ended."""
        if self._callers is None:
            return
        self._callers.close()
        until = self._context.clock.monotonic() + min(self._rules.timeout_seconds, DRAIN_SECONDS_MAX)
        while len(self._answers) < len(self._in_flight):
            left = until - self._context.clock.monotonic()
            found = self._callers.answers(wait_seconds=left) if left > 0 else []
            if not found:
                break
            self._answers += found
        self._settle()

    def _collect(self) -> None:
        if self._callers is None:
            return
        self._answers += self._callers.answers()
        now = self._context.clock.monotonic()
        answered = {answer.pending.key for answer in self._answers}
        for key, call in self._in_flight.items():
            if key not in answered and now - call.begun > self._rules.timeout_seconds:
                call.abort()

    def _settle(self) -> int:
        """Commit what has been answered: outcome and publication in one transaction, or when to call again."""
        answers = list(self._answers)
        if not answers:
            return 0
        with self._context.database.scope() as connection:
            unit = self._unit(connection)
            verdicts = [(answer, self._verdict(answer, unit)) for answer in answers]
            actions.call_again(connection, [retry for _, retry in verdicts if isinstance(retry, Retry)])
            conclude([outcome for _, outcome in verdicts if isinstance(outcome, NewOutcome)], unit)
            self._publish(connection, unit)
        for answer, verdict in verdicts:
            self._in_flight.pop(answer.pending.key, None)
            self._answers.remove(answer)
            self._context.log.info(
                events.WEBHOOK_ANSWERED,
                intent_id=answer.pending.key.intent_id,
                result=answer.result.value,
                detail=answer.detail,
                attempts=answer.pending.attempts,
                again=isinstance(verdict, Retry),
            )
        return len(answers)

    def _verdict(self, answer: Answer, unit: UnitOfWork) -> Retry | NewOutcome:
        pending = answer.pending
        failures = pending.failures + 1
        match answer.result:
            case Result.DELIVERED:
                status, detail = ActionStatus.EXECUTED, answer.detail
            case Result.REFUSED:
                status, detail = ActionStatus.FAILED, answer.detail
            case Result.FAILED if failures < self._rules.attempts_max:
                delay = min(RETRY_SECONDS_MAX, RETRY_BASE_SECONDS * 2 ** (failures - 1))
                return Retry(pending.key, answer.detail, unit.now + timedelta(seconds=delay))
            case _:
                status, detail = ActionStatus.FAILED, f"gave up after {failures} failed attempts: {answer.detail}"
        return _pending_ended(pending, status, detail, unit)

    def _begin(self) -> int:
        """Commit that calls begin, then make them. What may no longer be called ends here instead."""
        room = CALLS_AT_ONCE_MAX - len(self._in_flight)
        if room <= 0:
            return 0
        with self._context.database.scope() as connection:
            unit = self._unit(connection)
            pending = actions.due(connection, at=unit.now, besides=self._in_flight, limit=room)
            if not pending:
                return 0
            if self._rules.kill_switch:
                conclude([_pending_ended(row, ActionStatus.DENIED, KILLED, unit) for row in pending], unit)
            elif self._callers is None:
                gone = "actions.webhook_url is no longer set; nobody to call"
                conclude([_pending_ended(row, ActionStatus.FAILED, gone, unit) for row in pending], unit)
            else:
                actions.begin_calls(connection, pending)
            self._publish(connection, unit)
        if self._callers is not None and not self._rules.kill_switch:
            self._call(pending, self._callers)
        return len(pending)

    def _call(self, pending: Iterable[Pending], callers: Callers) -> None:
        signing_key = str(_signing_key(self._context) or "")
        timestamp = int(self._context.clock.now().timestamp())
        for row in pending:
            begun = Pending(row.key, row.record_key, row.body, row.attempts + 1, row.failures)
            headers = signed_headers(
                row.body, idempotency_key=row.key.intent_id, timestamp=timestamp, signing_key=signing_key
            )
            call = Call(begun, row.body, headers, self._context.clock.monotonic())
            self._in_flight[row.key] = call
            callers.hand_over(call)

    def _unit(self, connection: Connection) -> UnitOfWork:
        return UnitOfWork(connection, worker=self._context.worker.name, now=self._context.clock.now())

    def _publish(self, connection: Connection, unit: UnitOfWork) -> None:
        if self._context.same_server:
            self._context.bus.log(connection).append(unit.outgoing)
        else:  # under the consumer's name: it forwards the outbox in order
            outbox.put(connection, self._context.worker.name, unit.outgoing)


def judge(intent: Mapping[str, Any], rules: Rules, *, live: bool) -> Verdict:
    """Authority first, then the kill switch, then which executor."""
    denied = authorise(intent["origin"], intent["action"])
    if denied is not None:
        return Verdict("none", ActionStatus.DENIED, denied.detail)
    if rules.kill_switch:
        return Verdict("none", ActionStatus.DENIED, KILLED)
    if intent["action"] not in rules.webhook_actions or rules.receiver is None:
        return Verdict("ledger", ActionStatus.EXECUTED, "recorded in the ledger")
    if not live:
        return Verdict(
            "ledger", ActionStatus.EXECUTED, "recorded only: the run is not marked live, so the receiver was not called"
        )
    return Verdict("webhook", None, "")


def conclude(ended: Sequence[NewOutcome], unit: UnitOfWork) -> None:
    """Store outcomes and publish those that are new."""
    new = actions.add_outcomes(unit.connection, ended, at=unit.now)
    for outcome in ended:
        if outcome.key in new:
            run, intent_id = outcome.key
            unit.publish(
                "action_outcomes", key=outcome.record_key, event_id=intent_id, platform_run_id=run, body=outcome.body
            )


def _ended(
    intent: Mapping[str, Any],
    status: ActionStatus,
    record_key: str,
    *,
    executor: str,
    detail: str,
    unit: UnitOfWork,
    attempts: int = 0,
) -> NewOutcome:
    outcome = outcome_body(
        intent, status=status, executor=executor, attempts=attempts, detail=detail, completed_at=unit.now_text
    )
    return NewOutcome(outcome, orjson.dumps(outcome), record_key)


def _pending_ended(pending: Pending, status: ActionStatus, detail: str, unit: UnitOfWork) -> NewOutcome:
    intent = orjson.loads(pending.body)
    return _ended(
        intent, status, pending.record_key, executor="webhook", detail=detail, unit=unit, attempts=pending.attempts
    )


def _keep(met: Sequence[NewIntent], unit: UnitOfWork) -> None:
    """Intents whose id is known: repeats are counted, other content is an anomaly and kept. None is executed."""
    known = actions.content_hashes(unit.connection, (row.key for row in met))
    repeats = [row for row in met if known[row.key] == row.content_hash]
    conflicts = [row for row in met if known[row.key] != row.content_hash]
    if repeats:
        actions.count_repeats(unit.connection, repeats)
    if conflicts:
        actions.keep_conflicts(unit.connection, conflicts, at=unit.now)


def _parsed(record: Record) -> dict[str, Any]:
    try:
        if b"\\u0000" in record.body:
            raise ValueError("holds a NUL character")
        intent: dict[str, Any] = orjson.loads(record.body)
        for name in _TEXTS:
            if not (isinstance(intent[name], str) and intent[name]):
                raise ValueError(f"{name} must be a text")
        if not isinstance(intent["parameters"], dict):
            raise ValueError("parameters must be an object")
    except _BROKEN as error:
        what = f"{type(error).__name__}: {str(error)[:200]}"
        raise PoisonFault(
            f"{record.topic} {record.partition}/{record.position}: {what}", reason=f"{record.topic}: {what}"
        ) from error
    return intent


def _content_hash(intent: Mapping[str, Any]) -> str:
    """What the intent asks for, whenever it was asked."""
    content = {name: value for name, value in intent.items() if name != "requested_at"}
    return hashlib.sha256(canonical_json(content)).hexdigest()


def _signing_key(context: WorkerContext) -> Any:
    """Read again for each round of calls, so that rotation needs no restart."""
    return context.read_secrets().get("webhook", {}).get("signing_key")


def _rules(context: WorkerContext) -> Rules:
    """The profile's rules. Raises ConfigurationError with every problem."""
    get: Callable[[str], Any] = context.profile.get
    url = get("actions.webhook_url")
    receiver = parse_receiver(url) if url else None
    problems = [
        f"actions.webhook_actions: unknown action {action!r}; known are {', '.join(ACTIONS)}"
        for action in get("actions.webhook_actions")
        if action not in ACTIONS
    ]
    if isinstance(receiver, str):
        problems.append(f"actions.webhook_url: {receiver}")
    if url and not _signing_key(context):
        problems.append("actions.webhook_url is set but secrets.json has no webhook.signing_key to sign calls with")
    if problems:
        raise ConfigurationError(problems, source="actions")
    return Rules(
        kill_switch=get("actions.kill_switch"),
        webhook_actions=frozenset(get("actions.webhook_actions")),
        receiver=receiver if isinstance(receiver, Receiver) else None,
        timeout_seconds=get("actions.webhook_timeout_seconds"),
        attempts_max=get("actions.webhook_attempts_max"),
    )


def build(context: WorkerContext) -> list[Activity]:
    """The consumer and the dispatch. Raises ConfigurationError when the profile's actions cannot be carried out."""
    rules = _rules(context)
    return [
        context.consumer(IntentIntake(rules, context.beside), topics=WORKER.consumes),
        WebhookDispatch(context, rules),
    ]


WORKER = Worker(
    name="action_layer",
    schema="al",
    dsn="AL_LEDGER_DSN",
    build=build,
    keeps_plans=True,
    gathers=True,
    consumes=("action_intents",),
    publishes=("action_outcomes",),
    equations=("intents_equal_outcomes", "outcomes_equal_published"),
)
