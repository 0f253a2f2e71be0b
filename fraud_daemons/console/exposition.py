"""The picture in Prometheus' words: `fraud_daemons_…`, base units, `_total` for what only grows.

Counters of a worker begin again with its process, as Prometheus expects. A family without a value now is left out, never
shown as 0: away and zero are different facts. The library does the format; this module knows the names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from fraud_daemons.clock import parse_iso
from fraud_daemons.domain.posture import LADDER
from fraud_daemons.status.picture import READY, WORST_LAST

if TYPE_CHECKING:
    from prometheus_client import Metric

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

Parts = Mapping[str, Any]
_Rows = list[tuple[list[str], float]]


def exposition(parts: Parts) -> bytes:
    """Every family that has a value, as text."""
    from prometheus_client import CollectorRegistry, generate_latest  # 3 MB that only a scraped console needs

    class OnePicture:
        def collect(self) -> Iterator[Metric]:
            return families(parts)

    registry = CollectorRegistry(auto_describe=False)
    registry.register(OnePicture())
    return bytes(generate_latest(registry))


def families(parts: Parts) -> Iterator[Metric]:
    """The families of one picture (`Board.parts`)."""
    yield from _supervision(parts)
    yield from _loop(parts)
    yield from _connector(parts)
    yield from _gate(parts)
    yield from _flow(parts)
    yield from _ledgers(parts)
    yield from _storage(parts)


def _supervision(parts: Parts) -> Iterator[Metric]:
    status = parts.get("status")
    yield _gauge(
        "console_status_known", "1 while the supervisor answers the console", [([], not parts.get("status_problem"))]
    )
    yield _gauge("console_tables_known", "1 while the database answers the console", [([], not _away(parts))])
    if not status:
        return
    workers = [(pack["pack"], worker) for pack in status["packs"] for worker in pack["workers"]]

    def rows(field: str) -> _Rows:
        return [([pack, w["worker"]], float(w[field])) for pack, w in workers if w[field] is not None]

    yield _gauge("platform_ready", "1 when every pack and service is running ready", [([], status["verdict"] == READY)])
    where = ["pack", "worker"]
    yield _gauge("worker_ready", "1 when the worker is running ready", rows("ready"), where)
    states = [([p, w["worker"], state], float(w["status"] == state)) for p, w in workers for state in WORST_LAST]
    yield _gauge("worker_status", "1 for the status the worker has", states, [*where, "status"])
    trouble = [([p, w["worker"]], float(w["reason_seconds"] or 0.0)) for p, w in workers]
    yield _gauge("worker_trouble_seconds", "How long the reason for not being ready has held", trouble, where)
    yield _counter("worker_restarts", "Starts after a death, since the supervisor began", rows("restarts"), where)
    yield _gauge("worker_beat_age_seconds", "Seconds since the work loop last beat", rows("beat_age_seconds"), where)
    yield _gauge("worker_uptime_seconds", "Seconds since the process began", rows("uptime_seconds"), where)
    yield _gauge("worker_resident_memory_bytes", "Resident memory of the process", rows("rss_bytes"), where)
    services = [([each["service"]], float(each["status"] == READY)) for each in status["substrate"]]
    yield _gauge("service_ready", "1 when the embedded service serves", services, ["service"])


def _loop(parts: Parts) -> Iterator[Metric]:
    beats = parts.get("beats") or {}

    def rows(field: str) -> _Rows:
        return [([worker], float(beat[field])) for worker, beat in beats.items()]

    yield _counter("loop_steps", "Steps of the work loop that succeeded", rows("steps"), ["worker"])
    yield _counter(
        "batch_records", "Records handled; over loop_steps it is the mean batch", rows("records"), ["worker"]
    )
    faults = [([worker, kind], float(n)) for worker, beat in beats.items() for kind, n in beat["faults"].items()]
    yield _counter("loop_faults", "Faults contained by the loop, by kind", faults, ["worker", "kind"])
    yield _counter("dead_letters", "Records set aside as poison", rows("dead_letters"), ["worker"])


def _connector(parts: Parts) -> Iterator[Metric]:
    beats = parts.get("beats") or {}
    words = {
        "opened": "Database sessions opened; constant in a steady state",
        "reused": "Scopes that borrowed an open session",
        "waited": "Scopes that got no session; the loop's patience goes on",
        "retried": "Connects tried again at once",
        "evicted": "Sessions given up: dead, old, or after a fault",
        "diagnosed": "Failed connects whose SQLSTATE a second, watched one found",
        "siblings_evicted": "Sessions given up because another one found the server restarted, demoted or silent",
        "throttled": "Connects held back by database.connects_per_second_max",
        "ambiguous": "Answers to COMMIT that were lost",
        "scopes_long": "Scopes held longer than database.scope_seconds_max; the log has the stack",
    }
    for name, meaning in words.items():
        rows = [([w], float(beat["connector"][name])) for w, beat in beats.items() if name in beat["connector"]]
        yield _counter(f"connector_{name}", meaning, rows, ["worker"])


def _gate(parts: Parts) -> Iterator[Metric]:
    beat = (parts.get("beats") or {}).get("ingestion_gate", {})
    answered = [([answer], float(n)) for answer, n in sorted(beat.get("events_answered", {}).items())]
    yield _counter("gate_events", "Events by the gate's answer: admitted, duplicate, quarantined", answered, ["answer"])
    http = [([status], float(n)) for status, n in sorted(beat.get("http_answers", {}).items())]
    yield _counter("gate_http_answers", "HTTP answers by status; 429 and 503 are refusals", http, ["status"])


def _flow(parts: Parts) -> Iterator[Metric]:
    flow = parts.get("flow")
    if not flow or _away(parts):
        return
    heads = [([topic], float(n)) for topic, n in sorted(flow["heads"].items())]
    yield _counter("topic_records", "Records ever appended to the topic, marks included", heads, ["topic"])
    lags = [([stage, topic], float(n)) for stage, topic, n in flow["lags"]]
    yield _gauge("stage_lag_records", "Records that the stage has not taken yet", lags, ["stage", "topic"])


def _ledgers(parts: Parts) -> Iterator[Metric]:
    ledgers = parts.get("ledgers")
    if not ledgers or _away(parts):
        return
    latency = ledgers["decisions"]["latency_seconds"]
    rows = [([quantile], float(seconds)) for quantile, seconds in latency.items() if seconds is not None]
    yield _gauge(
        "decision_latency_seconds", "Last part admitted to decision durable, newest decisions", rows, ["quantile"]
    )
    mode = ledgers["posture"]["mode"]
    yield _gauge("posture", "1 for the posture in force", [([m], float(m == mode)) for m in LADDER], ["mode"])
    cases = [([status], float(n)) for status, n in ledgers["cases"].items()]
    yield _gauge("cases", "Cases of the current run by status", cases, ["status"])
    labels = [([source], float(n)) for source, n in ledgers["labels"].items()]
    yield _gauge("labels", "Label assertions of the current run by source", labels, ["source"])
    if ledgers["reports"]:
        newest = ledgers["reports"][0]
        yield _gauge("report_passed", "1 when the newest run report says PASS", [([], newest["verdict"] == "PASS")])
        at = (parse_iso(newest["reported_at"]) - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
        yield _gauge("report_timestamp_seconds", "When the newest run report was made", [([], at)])


def _storage(parts: Parts) -> Iterator[Metric]:
    disk = (parts.get("status") or {}).get("disk")
    if disk:
        yield _gauge(
            "disk_free_bytes", "Room on the tightest file system of the run directory", [([], disk["free_bytes"])]
        )
        yield _gauge("disk_total_bytes", "Size of that file system", [([], disk["total_bytes"])])
        yield _gauge("disk_guard_shut", "1 while the gate takes nothing in for want of room", [([], disk["guarded"])])
        stored = [([what], float(size)) for what, size in disk["stored_bytes"].items()]
        yield _gauge("stored_bytes", "What the log, the database with it and the objects take", stored, ["what"])
    log = (parts.get("beats") or {}).get("archive_writer", {}).get("log")
    if log and log["kept"] is not None:
        yield _gauge("log_records", "Records on the bus, trimmed ones apart", [([], log["kept"])])
        yield _counter("log_trimmed_records", "Records trimmed from the bus", [([], log["trimmed"])], [])
        held = [([topic, holder], 1.0) for topic, holder in sorted(log["held_back"].items())]
        yield _gauge("log_held_back", "1 for who holds back what is due", held, ["topic", "holder"])


def _away(parts: Parts) -> bool:
    return bool(parts.get("tables_problem"))


def _gauge(name: str, meaning: str, rows: _Rows, labels: list[str] | None = None) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(f"fraud_daemons_{name}", meaning, labels=labels or [])
    for values, value in rows:
        family.add_metric(values, float(value))
    return family


def _counter(name: str, meaning: str, rows: _Rows, labels: list[str]) -> Metric:
    from prometheus_client.core import CounterMetricFamily

    family = CounterMetricFamily(f"fraud_daemons_{name}", meaning, labels=labels)
    for values, value in rows:
        family.add_metric(values, value)
    return family
