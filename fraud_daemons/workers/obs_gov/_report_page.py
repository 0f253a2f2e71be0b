"""The run report as one page for people: no script, no font and no picture from anywhere, light or dark, readable on a phone.

It says what the JSON says and nothing else; the JSON's hash stands at its foot. The same report gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

STYLE: Final = (Path(__file__).parent / "report_page.css").read_text()
STAGE_WORDS: Final = {
    "bound": "joined with its context", "featured": "given its features", "decided": "decided", "intents": "actions asked for",
    "outcomes": "actions done or denied", "audited": "audit chains closed", "triggers": "triggers",
    "cases_opened": "cases opened", "cases_merged": "triggers merged into a case", "labels": "labels",
}  # fmt: skip


def report_page(document: Mapping[str, Any], *, sha256: str) -> bytes:
    """The page, UTF-8. `sha256` = of the JSON whose content this is."""
    verdict = document["verdict"]
    run = escape(document["platform_run_id"])
    good = sum(1 for line in document["equations"] if _balanced(line))
    head = (
        f'<header><p class="verdict {verdict.lower()}">{verdict}</p><div><h1>Run report</h1><p class="id">{run}</p>'
        f"<p>{good} of {len(document['equations'])} equations hold, by ids. {escape(_flowing(document))}</p></div></header>"
    )
    parts = [
        head,
        _section("What was sent", _outputs(document)),
        _section("Who sent it", _producers(document)),
        _section("How far it came", _stages(document)),
        _section("Equations", _equations(document)),
        _section("Terms", _pairs(document["terms"], empty="none")),
        _section("What happened around it", _circumstances(document)),
        _section("Where the evidence ends", _anchors(document)),
    ]
    foot = f"<footer><p>request {escape(document['request_id'])}</p><p>JSON sha256 {escape(sha256)}</p></footer>"
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,'
        f'initial-scale=1"><meta name="color-scheme" content="light dark"><title>{verdict} {run}</title>'
        f"<style>{STYLE}</style></head><body><main>{''.join(parts)}{foot}</main></body></html>\n"
    )
    return page.encode()


def _outputs(document: Mapping[str, Any]) -> str:
    rows = [
        (
            name,
            tally["sent"],
            tally["admitted"],
            tally["duplicate"],
            tally["quarantined"],
            tally.get("stop_reason") or "",
        )
        for name, tally in {**document["outputs"], "truth": document["truth"]}.items()
    ]
    return _table(("output", "sent", "admitted", "duplicate", "quarantined", "stopped by"), rows)


def _producers(document: Mapping[str, Any]) -> str:
    names = ("producer", "event_type", "admitted", "duplicate", "quarantined")
    rows = [tuple(row[name] for name in names) for row in document["producers"]]
    return _table(("producer", "event type", *names[2:]), rows)


def _stages(document: Mapping[str, Any]) -> str:
    latency = document["stage_latency_ms"]
    rows = []
    for stage, count in document["stages"].items():
        found = latency.get({"outcomes": "acted"}.get(stage, stage), {})
        rows.append((STAGE_WORDS.get(stage, stage), count, *(_ms(found.get(p)) for p in ("p50", "p95", "p99"))))
    said = (
        "Milliseconds. Up to the decision: since the transaction's last part was admitted. Actions: since they were asked"
        " for. Audit: since the decision was read."
    )
    return _table(("stage", "records", "p50", "p95", "p99"), rows) + f"<p class=note>{said}</p>"


def _equations(document: Mapping[str, Any]) -> str:
    blocks = []
    for line in document["equations"]:
        word, mark = ("ok", "good") if _balanced(line) else ("FAIL", "bad")
        examples = "".join(f"<li>{escape(example)}</li>" for example in line["examples"])
        blocks.append(
            f'<details class="{mark}"{"" if mark == "good" else " open"}><summary><b>{word}</b>'
            f"<span>{escape(line['name'].replace('_', ' '))}</span><i>{line['count']:,}</i></summary>"
            f"<p>{escape(line['left'])} = {escape(line['right'])}</p>"
            f"<p>missing {line['missing']}, surplus {line['surplus']}, dead-lettered {line['dead_lettered']}</p>"
            f"<ul>{examples}</ul></details>"
        )
    return "".join(blocks)


def _circumstances(document: Mapping[str, Any]) -> str:
    restarts = {
        worker: ", ".join(f"{count} by {cause}" for cause, count in causes.items())
        for worker, causes in document["restarts"].items()
    }
    faults = {
        worker: ", ".join(f"{count} {what}" for what, count in told.items())
        for worker, told in document["faults_contained"].items()
    }
    opened = document["sessions_opened"]
    cut = document["faults_not_read_from_the_beginning"]
    more = f"<p class=note>Not read back to the beginning: {escape(', '.join(cut))}.</p>" if cut else ""
    figures = {
        "from": document["begun_at"],
        "until": document["ended_at"] or "it goes on",
        "seconds from first to last record": document["elapsed_seconds"],
        "database sessions opened on the servers": "not known" if opened is None else opened,
    }
    by_server = document["sessions_opened_by_server"]
    if len(by_server) > 1:
        figures |= {f"of them where {name} leads": "not known" if n is None else n for name, n in by_server.items()}
    return (
        _pairs(figures)
        + "<h3>Processes that ended</h3>" + _pairs(restarts, empty="none")
        + "<h3>Faults contained</h3>" + _pairs(faults, empty="none") + more
    )  # fmt: skip


def _anchors(document: Mapping[str, Any]) -> str:
    rows = [
        (anchor["family"], f"{anchor['topic']}/{anchor['partition']}", anchor["segments"], anchor["sha256"][:16])
        for anchor in document["anchors"]
    ]
    return _table(("family", "chain", "segments", "last sha256"), rows)


def _flowing(document: Mapping[str, Any]) -> str:
    return "" if document["caught_up"] else "Records of this run were still flowing when it was made."


def _balanced(line: Mapping[str, Any]) -> bool:
    return not line["missing"] and not line["surplus"]


def _section(title: str, content: str) -> str:
    return f"<section><h2>{title}</h2>{content}</section>"


def _pairs(pairs: Mapping[str, Any], *, empty: str = "") -> str:
    if not pairs:
        return f"<p>{empty}</p>"
    rows = "".join(
        f"<dt>{escape(str(name).replace('_', ' '))}</dt><dd>{escape(_text(value))}</dd>"
        for name, value in pairs.items()
    )
    return f"<dl>{rows}</dl>"


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join("<tr>" + "".join(_cell(value) for value in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(value: Any) -> str:
    number = ' class="n"' if isinstance(value, int | float) or str(value).replace(".", "").isdigit() else ""
    return f"<td{number}>{escape(_text(value))}</td>"


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _text(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
