"""platform bench in its shortest form: warm-up, sizing by its rate, one flat-out part, and the figures as documented."""

from __future__ import annotations

import pytest

from tests.system.platform_under_test import PlatformUnderTest

FIGURES = {
    "decided_per_second", "admitted_per_second", "latency_ms", "sessions_opened", "transactions_per_decision", "pss_bytes_total",
    "pss_growth_percent", "pss_by_process", "cpu_ms_per_transaction", "line_probe_per_second", "floor_probe_per_second", "decided_over_line",
    "durability", "transactions", "seconds",
}  # fmt: skip


def test_a_few_seconds_flat_out_by_the_warm_up_s_rate(platform: PlatformUnderTest) -> None:
    """No number given: the warm-up's rate says how many; every one is decided durably, and each figure is there and fits."""
    words = ("bench", "--warm-up", "300", "--seconds", "2", "--no-probes", "--paced-seconds", "0")
    figures = platform.say(*words)
    assert figures.keys() == FIGURES
    assert figures["transactions"] >= 100
    assert figures["decided_per_second"] == pytest.approx(figures["transactions"] / figures["seconds"], rel=0.1)
    assert figures["admitted_per_second"] >= 4 * figures["decided_per_second"]
    assert set(figures["durability"].values()) == {"on"}
    assert figures["cpu_ms_per_transaction"]["total"] > figures["cpu_ms_per_transaction"]["ingestion_gate"] > 0
    assert figures["pss_bytes_total"] > 100_000_000
    assert [figures[name] for name in ("latency_ms", "line_probe_per_second", "decided_over_line")] == [None] * 3
