"""While a server is away one thread tries for all; and nobody connects more often than the limit allows."""

from __future__ import annotations

import time

import pytest

from fraud_daemons.acceptance.wire_proxy import WireProxy
from fraud_daemons.errors import ConfigurationError, FatalFault, TransientFault
from fraud_daemons.postgres_runtime.connector import ConnectOptions, DsnSource
from tests.integration.connector_faults.asking import STALLED, ask, caught, grown, in_threads, source_of

pytestmark = pytest.mark.datastore


def test_while_the_server_is_away_one_thread_tries_and_the_others_wait_for_it(
    proxy: WireProxy, far: DsnSource, before: dict[str, int]
) -> None:
    """Six threads want a session from a server that is silent: one connect goes out, six learn the same."""
    proxy.stall()
    with pytest.raises(TransientFault):
        ask(far, STALLED)
    accepted = proxy.figures["accepted"]
    faults = in_threads(6, lambda: caught(lambda: ask(far, STALLED)))
    assert [type(fault) for fault in faults] == [TransientFault] * 6
    assert {fault.reason for fault in faults} == {"postgres: connect timeout"}
    assert proxy.figures["accepted"] - accepted == 1
    assert grown(before)["waited"] == 7


def test_what_the_prober_finds_wrong_with_the_settings_is_a_fault_of_configuration_for_all() -> None:
    """A DSN that cannot even be read: whoever waited for the prober gets the same reason, and not an error of its own."""

    def unreadable() -> str:
        time.sleep(0.2)  # the others come meanwhile
        raise ConfigurationError(["secrets.json: not JSON"], source="secrets")

    source = source_of(unreadable)
    assert caught(lambda: ask(source)).reason == "config: secrets.json: not JSON"
    faults = in_threads(4, lambda: caught(lambda: ask(source)))
    assert {fault.reason for fault in faults} == {"config: secrets.json: not JSON"}
    assert all(isinstance(fault, FatalFault) for fault in faults)


def test_when_the_server_is_back_those_who_waited_get_sessions_of_their_own(proxy: WireProxy, far: DsnSource) -> None:
    """The prober's success lets the others connect at once; none of them sees an error."""
    proxy.refuse()
    with pytest.raises(TransientFault, match="refused"):
        ask(far)
    proxy.pass_on()
    proxy.slow(delay_seconds=0.1)  # the prober is still at it when the others come
    accepted = proxy.figures["accepted"]
    pids = in_threads(6, lambda: ask(far))
    assert len(set(pids)) == 6
    assert proxy.figures["accepted"] - accepted == 6


def test_connects_have_a_limit_per_second(database: str, before: dict[str, int]) -> None:
    """A caller that wants a new session each time gets its burst and then the rate, whatever the cause of its haste."""
    options = ConnectOptions(application_name="hasty", age_max=0.0, connects_per_second_max=4.0)
    source = source_of(lambda: database)
    begun = time.monotonic()
    for _ in range(22):
        ask(source, options)
    assert time.monotonic() - begun > 0.9
    assert grown(before)["opened"] == 22
    assert grown(before)["throttled"] >= 3


def test_who_would_wait_too_long_for_a_connect_is_told_so(database: str, before: dict[str, int]) -> None:
    """Beyond its patience a scope fails as transient, by name, and no connect was tried."""
    options = ConnectOptions(application_name="hasty", age_max=0.0, connects_per_second_max=0.25, connect_timeout=1.0)
    source = source_of(lambda: database)
    ask(source, options)
    with pytest.raises(TransientFault) as told:
        ask(source, options)
    assert told.value.reason == "postgres: connects throttled"
    assert grown(before) == {"opened": 1, "evicted": 1, "throttled": 1, "waited": 1}
