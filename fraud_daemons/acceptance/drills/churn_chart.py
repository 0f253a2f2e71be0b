"""The picture of `connection-churn`: four panels, one per row, as SVG that reads on light and on dark pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 470, 250
LEFT, TOP, PLOT_WIDTH, PLOT_HEIGHT = 52, 46, 400, 120
STRIP_TOP, STRIP_HEIGHT = TOP + PLOT_HEIGHT + 26, 14
PACKS: Final = 5
CEILING: Final = 1.08
"""Of the ports: so that the limit is seen below the panel's edge."""
_STYLE = """
text { font: 11px system-ui, sans-serif; fill: #1f2328 } .title { font-size: 13px; font-weight: 600 } .soft { fill: #59636e }
.line { fill: none; stroke: #0969da; stroke-width: 1.8 } .failures { fill: none; stroke: #bc4c00; stroke-width: 1.8 }
.limit { stroke: #cf222e; stroke-dasharray: 5 3 } .mark { stroke: #59636e; stroke-dasharray: 2 3; opacity: .7 }
.frame { fill: none; stroke: #d1d9e0 } .ready { fill: #2da44e } .part { fill: #cf222e; opacity: .75 } .before { fill: #9198a1; opacity: .5 }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc } .soft { fill: #9198a1 } .line { stroke: #58a6ff } .failures { stroke: #f0883e } .limit { stroke: #ff7b72 }
.frame { stroke: #3d444d } .mark { stroke: #9198a1 } .ready { fill: #3fb950 } .part { fill: #f85149 } }
"""


def draw(document: Mapping[str, Any]) -> str:
    """The whole picture of one `connection-churn` document."""
    rows = list(document["rows"].items())
    panels = [
        f'<g transform="translate({(n % 2) * WIDTH},{(n // 2) * HEIGHT})">{_panel(name, row, document["ports"])}</g>'
        for n, (name, row) in enumerate(rows)
    ]
    height = HEIGHT * ((len(rows) + 1) // 2)
    label = "sockets in TIME_WAIT, failed connects and packs ready, per second, in four rows"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * WIDTH} {height}" role="img" aria-label="{label}">'
        f"<style>{_STYLE}</style>{''.join(panels)}</svg>\n"
    )


def _panel(name: str, row: Mapping[str, Any], ports: int) -> str:
    samples: Sequence[Mapping[str, Any]] = row["samples"]
    seconds = max(row["marks"]["hold"], 1.0)
    samples = [sample for sample in samples if sample["at"] <= seconds]
    last = samples[-1]
    top = ports * CEILING

    def x(at: float) -> float:
        return float(round(LEFT + PLOT_WIDTH * at / seconds, 1))

    def y(value: float) -> float:
        return round(TOP + PLOT_HEIGHT * (1 - min(value, top) / top), 1)

    told = f"connects {last['connects']:,} · failed {last['failures']:,} · processes died {last['deaths']}"
    parts = [
        f'<text class="title" x="{LEFT}" y="18">{escape(name)}</text>',
        f'<text class="soft" x="{LEFT}" y="34">{told}</text>',
        f'<rect class="frame" x="{LEFT}" y="{TOP}" width="{PLOT_WIDTH}" height="{PLOT_HEIGHT}"/>',
        f'<line class="limit" x1="{LEFT}" x2="{LEFT + PLOT_WIDTH}" y1="{y(ports)}" y2="{y(ports)}"/>',
        f'<text x="{LEFT - 4}" y="{y(ports) + 4}" text-anchor="end">{ports}</text>',
        f'<text x="{LEFT - 4}" y="{y(0)}" text-anchor="end">0</text>',
        _mark("Gate-20", x(row["marks"]["gate_20"]), "end"),
        _mark("Gate-200", x(row["marks"]["gate_200"]), "start"),
        _line("line", [(x(s["at"]), y(s["time_wait"])) for s in samples]),
        _line("failures", [(x(s["at"]), y(s["failures"])) for s in samples]),
        *_strip(samples, x),
        f'<text class="soft" x="{LEFT}" y="{STRIP_TOP + 30}">blue: in TIME_WAIT, dashed: all ports there are, orange: failed connects; strip: packs ready</text>',
        f'<text class="soft" x="{LEFT + PLOT_WIDTH}" y="{STRIP_TOP - 6}" text-anchor="end">{seconds:.0f} s</text>',
    ]
    return "".join(parts)


def _mark(word: str, at: float, anchor: str) -> str:
    return (
        f'<line class="mark" x1="{at}" x2="{at}" y1="{TOP}" y2="{TOP + PLOT_HEIGHT}"/>'
        f'<text class="soft" x="{at}" y="{STRIP_TOP - 6}" text-anchor="{anchor}">{word}</text>'
    )


def _line(kind: str, points: Sequence[tuple[float, float]]) -> str:
    return f'<polyline class="{kind}" points="{" ".join(f"{a},{b}" for a, b in points)}"/>'


def _strip(samples: Sequence[Mapping[str, Any]], x: Any) -> list[str]:
    """Green while all packs are ready, red while some are not, grey before they were for the first time."""
    found, ready_once = [], False
    for sample, following in zip(samples, [*samples[1:], samples[-1]], strict=True):
        ready = sample["packs_ready"] >= PACKS
        ready_once = ready_once or ready
        kind = "ready" if ready else "part" if ready_once else "before"
        begin, end = x(sample["at"]), x(following["at"])
        found.append(
            f'<rect class="{kind}" x="{begin}" y="{STRIP_TOP}" width="{max(end - begin, 1):.1f}" height="{STRIP_HEIGHT}"/>'
        )
    return found
