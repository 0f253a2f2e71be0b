"""What counts as flat over a soak, and what does not."""

from __future__ import annotations

from fraud_daemons.acceptance.drills.samples import SAMPLE_EVERY_SECONDS, flatness


def made(
    *, memory_per_sample: float = 0.0, files_per_sample: float = 0.0, disk_per_sample: float = 1000.0, count: int = 60
) -> list[dict[str, float]]:
    """Samples of a soak that grow by so much each."""
    return [
        {
            "at": n * SAMPLE_EVERY_SECONDS,
            "memory_bytes": 1e9 + n * memory_per_sample,
            "files_open": 400 + n * files_per_sample,
            "sockets": 60,
            "processes": 20,
            "disk_bytes": 1e8 + n * disk_per_sample,
        }
        for n in range(count)
    ]


def red(samples: list[dict[str, float]], latencies: list[float] | None = None) -> set[str]:
    return {check.check for check in flatness(samples, latencies or []) if not check.good}


def test_a_steady_platform_is_flat() -> None:
    """Nothing grows but the disk, and that at one rate."""
    assert not red(made(), [50.0, 60.0, 55.0, 52.0, 58.0, 61.0])


def test_each_kind_of_growth_is_seen() -> None:
    """Memory, open files and latency that grow are red, each by its name."""
    assert red(made(memory_per_sample=2e7)) == {"memory_bytes_flat"}
    assert red(made(files_per_sample=5)) == {"files_open_flat"}
    assert red(made(), [50.0, 60.0, 400.0, 500.0, 900.0, 1000.0]) == {"latency_flat"}


def test_a_disk_that_fills_faster_and_faster_is_seen() -> None:
    """Growth by a fixed amount is what evidence does; growth that speeds up is a defect."""
    samples = made(disk_per_sample=0)
    for n, sample in enumerate(samples):
        sample["disk_bytes"] = 1e8 + n**3 * 1000
    assert red(samples) == {"disk_growth_steady"}


def test_too_few_samples_prove_nothing() -> None:
    """A soak of seconds is not flat, it is unknown, and that is red."""
    assert red(made(count=6)) == {"flat"}
