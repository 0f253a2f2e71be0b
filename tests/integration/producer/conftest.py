"""A sealed world to stream, and a gate that takes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fraud_daemons.worlds.generator import make_world
from fraud_daemons.worlds.sealed import World
from tests.gate import open_gate, prepare
from tests.line import Line
from tests.producing import OTHER_WORKERS, TRANSACTIONS, write_beat


@pytest.fixture
def world(line: Line, short_dir: Path) -> World:
    """A sealed world where the producer looks for it, and every worker of the platform ready."""
    prepare(line)
    for worker in OTHER_WORKERS:
        write_beat(short_dir, worker)
    return make_world(short_dir / "worlds", name="tiny", transactions=TRANSACTIONS, seed=7, currency="USD")


@pytest.fixture
def _gate(line: Line, world: World) -> Iterator[None]:
    with open_gate(line):
        yield
