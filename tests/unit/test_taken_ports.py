"""A chosen port that somebody takes before it is bound: another one is chosen and kept; a port the profile fixes is an error."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from fraud_daemons.config.ports import FILE_NAME, another_port, choose_ports, chosen_port, read_ports
from fraud_daemons.config.profiles import Profile, load_profile
from fraud_daemons.errors import FatalFault
from fraud_daemons.runtime.service import HttpService

ROOT = Path(__file__).parents[2]
HOST = "127.0.0.1"
CHOSEN = {"PLATFORM_GATE_PORT": "0", "PLATFORM_CONSOLE_PORT": "0"}


def profile_in(run_dir: Path, **environment: str) -> Profile:
    return load_profile(
        "local_parity", root=ROOT, environment={**CHOSEN, "PLATFORM_PROFILE_RUN_DIR": str(run_dir), **environment}
    )


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that this very process listens on."""
    with socket.create_server((HOST, 0)) as holder:
        yield holder.getsockname()[1]


def service_on(port: int, another: Callable[[int], int | None]) -> HttpService:
    def app(_: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Length", "0")])
        return [b""]

    return HttpService(
        app, host=HOST, port=port, threads=2, body_bytes_max=1024, health_path="/healthz", another_port=another
    )


def test_a_chosen_port_that_is_taken_gives_way_to_another_that_clients_read(tmp_path: Path, taken: int) -> None:
    """The service opens another port, answers itself there, and the file that clients read says which."""
    profile = profile_in(tmp_path)
    (tmp_path / FILE_NAME).write_text(json.dumps({"gate_port": taken, "objectstore_port": 12345}))
    service = service_on(taken, lambda port: another_port(profile, "gate_port", taken=port))
    threads = threading.active_count()
    try:
        service.step()  # raises unless its own probe is answered
        port = chosen_port(profile, "gate_port")
        assert port != taken
        assert read_ports(tmp_path) == {"gate_port": port, "objectstore_port": 12345}
        connection = HTTPConnection(HOST, port, timeout=5)
        connection.request("GET", "/")
        assert connection.getresponse().status == 200
        connection.close()
        assert threading.active_count() == threads + 3, (
            "the server and its two threads; none of the attempt that failed"
        )
    finally:
        service.close()


def test_a_port_of_the_profile_stays_an_error_that_names_who_holds_it(tmp_path: Path, taken: int) -> None:
    """Nobody moves away from what the operator fixed: it is fatal, with the port and the process."""
    profile = profile_in(tmp_path, PLATFORM_GATE_PORT=str(taken))
    service = service_on(taken, lambda port: another_port(profile, "gate_port", taken=port))
    with pytest.raises(FatalFault, match=f"{taken}: Address already in use by pid {os.getpid()} ") as caught:
        service.step()
    assert caught.value.reason.startswith(f"config: port {taken}: Address already in use by pid {os.getpid()} ")
    assert not (tmp_path / FILE_NAME).exists()


def test_the_port_after_a_fixed_gate_is_fixed_too(tmp_path: Path) -> None:
    """The console follows the gate: where the gate's port is the operator's, so is the console's."""
    profile = profile_in(tmp_path, PLATFORM_GATE_PORT="9000", PLATFORM_CONSOLE_PORT="-1")
    assert another_port(profile, "console_port", taken=9001) is None


def test_two_services_that_move_at_once_lose_neither_choice(tmp_path: Path) -> None:
    """Gate and console find their ports taken together, again and again: both choices stand, and they differ."""
    profile, names = profile_in(tmp_path), ("gate_port", "console_port")
    before = choose_ports(tmp_path, names)
    for _ in range(10):
        movers = [threading.Thread(target=partial(another_port, profile, name, taken=before[name])) for name in names]
        for mover in movers:
            mover.start()
        for mover in movers:
            mover.join()
        now = read_ports(tmp_path)
        assert all(now[name] != before[name] for name in names)
        assert len(set(now.values())) == len(names)
        before = now


def test_who_asks_late_gets_the_choice_that_was_made(tmp_path: Path, taken: int) -> None:
    """The port somebody complains of is no longer the one in the file: what stands there is the answer."""
    profile = profile_in(tmp_path)
    (tmp_path / FILE_NAME).write_text(json.dumps({"gate_port": 12345}))
    assert another_port(profile, "gate_port", taken=taken) == 12345
