"""The dashboard and the alert rules agree with what /metrics says and with the pages they link to."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import orjson

from fraud_daemons.console.exposition import exposition, families
from fraud_daemons.postgres_runtime import counters

ROOT = Path(__file__).parents[2]
DASHBOARD = ROOT / "config" / "grafana" / "fraud_daemons.json"
RULES = ROOT / "config" / "prometheus" / "alerts.yml"
PREFIX = "fraud_daemons_"

WORKER: dict[str, Any] = {
    "worker": 'a"b\nc', "status": "running waiting", "ready": False, "reason_seconds": 2.0, "restarts": 1,
    "beat_age_seconds": 0.5, "uptime_seconds": 9.0, "rss_bytes": 4096,
}  # fmt: skip
PICTURE: dict[str, Any] = {
    "status": {
        "verdict": "running ready",
        "packs": [{"pack": "p", "workers": [WORKER]}],
        "substrate": [{"service": "postgres", "status": "running ready"}],
        "disk": {"free_bytes": 5, "total_bytes": 9, "guarded": False, "stored_bytes": {"log": 3}},
    },
    "beats": {
        "ingestion_gate": {
            "steps": 4, "records": 9, "faults": {"transient": 1}, "dead_letters": 0,
            "connector": counters(),
            "http_answers": {"429": 1}, "events_answered": {"admitted": 7},
        },
        "archive_writer": {
            "steps": 4, "records": 9, "faults": {}, "dead_letters": 0, "connector": {},
            "log": {"kept": 4, "trimmed": 2, "held_back": {"decisions": "case_trigger"}},
        },
    },
    "flow": {"heads": {"traffic": 3}, "lags": [["w", "traffic", 1]], "rates": {}},
    "ledgers": {
        "decisions": {"latency_seconds": {"0.99": 0.1}},
        "posture": {"mode": "NORMAL"},
        "cases": {"OPEN": 1},
        "labels": {"HUMAN": 1},
        "reports": [{"verdict": "PASS", "reported_at": "2026-01-01T00:00:00.000000Z"}],
    },
}  # fmt: skip


def _exposed() -> set[str]:
    return set(re.findall(r"^# TYPE (\w+) ", exposition(PICTURE).decode(), flags=re.M))


def _named(text: str) -> set[str]:
    return set(re.findall(rf"\b{PREFIX}\w+", text)) - {"fraud_daemons_token"}


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_each_metric_of_the_dashboard_and_the_rules_is_exposed() -> None:
    """No panel stays empty and no rule stays silent because a name is wrong."""
    dashboard = orjson.loads(DASHBOARD.read_bytes())
    queries = " ".join(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])
    rules = " ".join(re.findall(r"expr: (.*)", RULES.read_text()))
    for named in (_named(queries), _named(rules)):
        assert named
        assert not named - _exposed()


def test_each_counter_of_the_connector_is_exposed() -> None:
    """A new counter has its words in the exposition, or a scrape would not show it."""
    assert {f"{PREFIX}connector_{name}" for name in counters()} <= {n.removesuffix("_total") for n in _exposed()}


def test_each_counter_of_the_connector_is_on_the_page() -> None:
    """The console's table has a column for each, and says of it what the metric's help says."""
    page = (ROOT / "fraud_daemons" / "console" / "static" / "index.html").read_text()
    columns = dict(re.findall(r'data-counter="(\w+)"[^>]* title="([^"]+)"', page))
    help_of = {family.name: family.documentation for family in families(PICTURE)}
    assert columns == {name: help_of[f"{PREFIX}connector_{name}"] for name in counters()}


def test_each_rule_leads_to_a_heading_of_the_runbook() -> None:
    """Whoever is woken finds the paragraph: every rule has a runbook_url, and its anchor exists."""
    text = RULES.read_text()
    links = re.findall(r"runbook_url: (\S+)", text)
    assert len(links) == len(re.findall(r"- alert:", text)) > 10
    linked = [*links, *(link["url"] for link in orjson.loads(DASHBOARD.read_bytes())["links"])]
    for page, anchor in (link.split("#") for link in linked):
        assert anchor in _anchors(ROOT / page), f"{page}#{anchor}"


def test_names_follow_the_conventions() -> None:
    """Prefix, base units, `_total` for counters only; a counter's help and a gauge's are there."""
    for family in families(PICTURE):
        assert family.name.startswith(PREFIX), family.name
        assert family.documentation
        assert not re.search(r"_(ms|milliseconds|minutes|kb|mib|megabytes|percent)$", family.name), family.name
        assert all(s.name.endswith("_total") == (family.type == "counter") for s in family.samples), family.name


def test_what_is_not_known_is_absent_and_text_is_escaped() -> None:
    """Nobody looked yet: no family pretends to a 0. A worker's name with a quote and a line break stays one label."""
    empty = exposition({"status_problem": "supervisor: no answer", "tables_problem": "postgres: refused"}).decode()
    assert "fraud_daemons_console_status_known 0.0" in empty
    assert not re.findall(r"^fraud_daemons_(?!console_)\w+.* 0", empty, flags=re.M)
    assert r'worker="a\"b\nc"' in exposition(PICTURE).decode()
    away = exposition({**PICTURE, "tables_problem": "postgres: refused"}).decode()
    assert "fraud_daemons_posture" not in away
