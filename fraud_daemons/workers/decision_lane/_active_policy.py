"""The policy that decides now: the newest activation's, else the profile's file, else the built-in stand-in.

Looked up before each batch, so that an activation counts without a restart. Whoever has only the stand-in decides
under FAIL_CLOSED and looks again every `RETRY_SECONDS`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from fraud_daemons.clock import Clock
from fraud_daemons.config.dsns import PLATFORM_DSN
from fraud_daemons.config.policies import policy_of, policy_text, read_policy
from fraud_daemons.domain.policy import Policy
from fraud_daemons.domain.stand_in import STAND_IN
from fraud_daemons.errors import ConfigurationError
from fraud_daemons.observability import events
from fraud_daemons.observability.logs import Logger
from fraud_daemons.postgres_runtime.connector import ConnectionOf
from fraud_daemons.state import policies

RETRY_SECONDS: Final = 0.5


class ActivePolicy:
    """Holds one policy; `refresh` asks whether another is to be taken."""

    def __init__(self, root: Path, name: str, *, clock: Clock, log: Logger) -> None:
        self._root = root
        self._name = name
        self._clock = clock
        self._log = log
        self._sequence: int | None = None  # of the activation it holds; 0 = the profile's file
        self._again_at = 0.0
        self._problem = ""
        self.policy = STAND_IN

    @property
    def is_stand_in(self) -> bool:
        """Whether nothing better can be read."""
        return self.policy is STAND_IN

    def refresh(self, at: ConnectionOf) -> Policy:
        """The policy for the next batch. A policy once read stays when its file goes away: what is known is known."""
        newest = policies.newest(at(PLATFORM_DSN))
        sequence = 0 if newest is None else newest.sequence
        if sequence == self._sequence and not (self.is_stand_in and self._clock.monotonic() >= self._again_at):
            return self.policy
        if newest is None:
            self._take(sequence, self._name, lambda: read_policy(self._root, self._name))
        else:
            text = policies.document(at(PLATFORM_DSN), newest.digest) or ""
            self._take(sequence, newest.name, lambda: _stored(text, newest.digest))
        return self.policy

    def _take(self, sequence: int, name: str, read: Callable[[], Policy]) -> None:
        self._sequence, self._again_at = sequence, self._clock.monotonic() + RETRY_SECONDS
        try:
            self.policy = read()
        except ConfigurationError as error:
            self.policy = STAND_IN
            if str(error) != self._problem:
                self._log.error(events.POLICY_UNUSABLE, policy=name, reason=error.reason, message=str(error))
            self._problem = str(error)
            return
        self._problem = ""
        self._log.info(events.POLICY_TAKEN_UP, policy=name, digest=self.policy.digest, activation=sequence)


class PolicyProbe:
    """Whether whoever started now would find a policy: the newest activation's, else the profile's file."""

    def __init__(self, root: Path, name: str) -> None:
        self._root = root
        self._name = name
        self._text = ""  # the last that was found good: parsed once, compared at every look
        self._sequence: int | None = None

    def __call__(self, at: ConnectionOf) -> str | None:
        """None when it can be read and is whole, else what is wrong."""
        newest = policies.newest(at(PLATFORM_DSN))
        try:
            if newest is None:
                self._check_file()
            elif newest.sequence != self._sequence:
                _stored(policies.document(at(PLATFORM_DSN), newest.digest) or "", newest.digest)
        except ConfigurationError as error:
            self._text = ""
            return f"policy {self._name if newest is None else newest.name}: {error.problems[0]}"
        self._sequence = None if newest is None else newest.sequence
        return None

    def _check_file(self) -> None:
        text = policy_text(self._root, self._name)
        if not text or text != self._text:
            policy_of(text, source=f"policy {self._name}")
            self._text = text


def _stored(text: str, digest: str) -> Policy:
    """An activated policy from the database. Raises ConfigurationError when it is not what was activated."""
    policy = policy_of(text, source=f"activated policy {digest[:16]}")
    if policy.digest != digest:
        raise ConfigurationError([f"its text has digest {policy.digest}"], source=f"activated policy {digest[:16]}")
    return policy
