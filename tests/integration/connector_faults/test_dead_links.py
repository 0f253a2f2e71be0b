"""A link that is dead while an answer is due: the deadline ends the wait, or the kernel does."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import threading
import time

import pytest

from fraud_daemons.acceptance.wire_proxy import WireProxy
from fraud_daemons.errors import TransientFault
from fraud_daemons.postgres_runtime.connector import DsnSource, postgres_threadlocal_connection
from tests.integration.connector_faults.asking import OPTIONS, STALLED, ask

pytestmark = pytest.mark.datastore
# ruff: noqa: PT012 - a scope's body and its failure belong together: what is tested is the scope around them


def test_a_link_that_dies_while_an_answer_is_due_ends_at_the_deadline(proxy: WireProxy, far: DsnSource) -> None:
    """The peer's kernel lives and acknowledges, so neither keepalive nor tcp_user_timeout can see it: ours does."""
    ask(far, STALLED)
    begun = time.monotonic()
    with pytest.raises(TransientFault) as caught, postgres_threadlocal_connection(far, STALLED) as connection:
        threading.Timer(0.2, proxy.stall).start()
        connection.execute("select pg_sleep(0.6)")
    assert caught.value.reason == "postgres: no answer"
    assert time.monotonic() - begun < 1.5 + 2
    proxy.pass_on()
    ask(far, STALLED)


@pytest.mark.slow
def test_with_the_defaults_a_dead_link_is_noticed_within_ten_seconds(proxy: WireProxy, far: DsnSource) -> None:
    """The published figure: 10 s, with the options every worker has."""
    ask(far)
    begun = time.monotonic()
    with pytest.raises(TransientFault), postgres_threadlocal_connection(far, OPTIONS) as connection:
        threading.Timer(0.5, proxy.stall).start()
        connection.execute("select pg_sleep(2)")
    assert time.monotonic() - begun <= 10


CUT_OFF = """
import subprocess, sys, threading, time
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from fraud_daemons.acceptance.wire_proxy import WireProxy
from fraud_daemons.errors import TransientFault
from fraud_daemons.postgres_runtime.connector import ConnectOptions, DsnSource, postgres_threadlocal_connection
def link(state): subprocess.run(["ip", "link", "set", "lo", state], check=True)
link("up")
parts = conninfo_to_dict(sys.argv[1])
with WireProxy(f"{parts['host']}/.s.PGSQL.{parts['port']}") as proxy:
    far = DsnSource("far", lambda: make_conninfo(sys.argv[1], host="127.0.0.1", port=proxy.port))
    try:
        with postgres_threadlocal_connection(far, ConnectOptions(statement_timeout=60, client_deadline=70)) as connection:
            threading.Timer(0.5, link, ["down"]).start()
            begun = time.monotonic()
            connection.execute("select pg_sleep(30)")
    except TransientFault as fault:
        print(time.monotonic() - begun, fault.reason, sep=";")
"""


@pytest.mark.slow
def test_a_cable_that_is_pulled_is_noticed_within_ten_seconds_whatever_the_deadline(database: str) -> None:
    """No packet passes any more, in a network namespace of its own whose only link goes down: the kernel's keepalives end
    the wait, even of a session whose own deadline is 70 s. It needs root, for the namespace."""
    alone = (
        subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False) if shutil.which("ip") else None
    )
    if alone is None or alone.returncode != 0:
        pytest.skip("a network namespace of its own needs root, and its link is brought up with iproute2")
    command = ["unshare", "--net", sys.executable, "-c", CUT_OFF, database]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    seconds, reason = done.stdout.strip().split(";")
    assert reason == "postgres: connection lost"
    assert float(seconds) - 0.5 <= 10


def test_the_kernel_watches_the_link_too(far: DsnSource) -> None:
    """Keepalives find a dead peer within 9 s, tcp_user_timeout data that nobody acknowledges within 8 s."""
    with postgres_threadlocal_connection(far, OPTIONS) as connection:
        link = socket.socket(fileno=connection.fileno())
        try:
            assert link.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            idle, interval, times = (
                link.getsockopt(socket.IPPROTO_TCP, option)
                for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            )
            assert idle + interval * times <= 9
            assert link.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 8000
        finally:
            link.detach()
