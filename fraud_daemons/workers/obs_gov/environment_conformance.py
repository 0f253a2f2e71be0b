"""environment_conformance: holds the running environment against its profile and packs, every few seconds.

It asks servers, store, heartbeats and the environment itself, and never compares one file with another. It mends nothing:
each deviation is named with what was expected, what was observed and the remedy, kept in `conformance.latest`, and logged
when a verdict changes. Its own readiness says that it looks, not that all is well.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fraud_daemons.config.dsns import PLATFORM_DSN
from fraud_daemons.conformance.environment import Check, Environment, Verdict, worst
from fraud_daemons.errors import ConfigurationError
from fraud_daemons.observability import events
from fraud_daemons.observability.code_version import code_version
from fraud_daemons.runtime.activity import Activity, Outcome, PlainActivity
from fraud_daemons.runtime.worker import Worker, WorkerContext
from fraud_daemons.state import conformance


class Conformance(PlainActivity):
    """One subject a step, so that the worker beats between them; a round is kept as a whole."""

    name = "environment_conformance"

    def __init__(self, context: WorkerContext, environment: Environment) -> None:
        self._context = context
        self._environment = environment
        self._rest_seconds = context.profile.get("conformance.interval_seconds")
        self._told: dict[str, Any] = {}
        self.forget()

    def forget(self) -> None:
        """A round that was cut short begins anew."""
        self._next = 0
        self._checks: list[Check] = []

    def step(self) -> Outcome:
        from fraud_daemons.conformance.rounds import SUBJECTS, checks_of

        self._checks += checks_of(SUBJECTS[self._next], self._environment)
        self._next += 1
        if self._next < len(SUBJECTS):
            return Outcome(records=1)
        checks = self._checks
        self.forget()
        self._keep(checks)
        return Outcome(rest_seconds=self._rest_seconds)

    def detail(self) -> dict[str, Any]:
        """For the heartbeat: the last verdict, and what is wrong."""
        return self._told

    def _keep(self, checks: list[Check]) -> None:
        verdict, now = worst(checks), self._context.clock.now()
        with self._context.database.scope() as connection:
            changed = conformance.put(connection, [asdict(check) for check in checks], verdict=str(verdict), at=now)
        bad = [check.check for check in checks if check.verdict is not Verdict.PASS]
        self._told = {"conformance": {"verdict": str(verdict), "not_passed": bad[:10]}}
        for check in (check for check in checks if check.check in changed):
            self._context.log.warning(
                events.CONFORMANCE_CHANGED, check=check.check, verdict=str(check.verdict), expected=check.expected,
                observed=check.observed, remedy=check.remedy,
            )  # fmt: skip


def environment_of(context: WorkerContext) -> Environment:
    """The environment as this worker reaches it."""
    if context.reload_profile is None or context.look_at_platform is None:
        raise ConfigurationError(["start it with: platform worker run environment_conformance"], source="conformance")
    return Environment(
        profile=context.profile,
        servers=context.servers,
        database_of=context.database_of,
        make_store=lambda: context.store,
        read_secrets=context.read_secrets,
        reload_profile=context.reload_profile,
        look_at_platform=context.look_at_platform,
        code_version=code_version(),
        clock=context.clock,
    )


def build(context: WorkerContext) -> list[Activity]:
    """One activity."""
    return [Conformance(context, environment_of(context))]


WORKER = Worker(name="environment_conformance", schema="conformance", dsn=PLATFORM_DSN, build=build, observes=True)
