"""StopRequest: a rest ends when its time is over, when somebody wakes it, or when a file has something to read."""

from __future__ import annotations

import gc
import os
import resource
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fraud_daemons.runtime.signals import StopRequest

REST_SECONDS = 0.2
SELECT_MAX = 1024


@pytest.fixture
def high_descriptor() -> Iterator[int]:
    """The reading end of an empty pipe whose number select() would refuse."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard <= SELECT_MAX + 64:
        pytest.skip(f"descriptors are limited to {hard}")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[0] != resource.RLIM_INFINITY and before[0] <= SELECT_MAX + 64:
        resource.setrlimit(resource.RLIMIT_NOFILE, (SELECT_MAX + 64, hard))
    reading, writing = os.pipe()
    high = SELECT_MAX + 32
    os.dup2(reading, high)
    os.close(reading)
    try:
        yield high
    finally:
        os.close(high)
        os.close(writing)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_rest_beside_a_high_descriptor_is_a_rest(high_descriptor: int) -> None:
    """A process with more than a thousand descriptors does not spin."""
    began = time.monotonic()
    assert StopRequest().rest(REST_SECONDS, [high_descriptor]) is False
    assert time.monotonic() - began >= REST_SECONDS * 0.9


def test_a_closed_file_does_not_end_the_rest_with_an_error() -> None:
    """A connection that was closed meanwhile reads as -1; the rest goes on without it."""
    assert StopRequest().rest(0.01, [-1]) is False


def test_wake_ends_a_rest_and_is_used_up() -> None:
    """Any thread may wake the sleeper; the next rest is whole again."""
    stop = StopRequest()
    threading.Timer(0.05, stop.wake).start()
    assert stop.rest(5.0) is True
    assert stop.rest(0.01) is False


def test_a_request_ends_all_rests() -> None:
    """Once a stop is asked for nobody rests."""
    stop = StopRequest()
    stop.request()
    began = time.monotonic()
    stop.rest(5.0)
    assert time.monotonic() - began < 1.0


def test_what_it_opens_it_gives_back() -> None:
    """A thousand of them leave no descriptor behind."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(1000):
        StopRequest()
    gc.collect()
    assert len(list(Path("/proc/self/fd").iterdir())) <= before
