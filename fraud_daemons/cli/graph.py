"""platform graph: who was seen with whom."""

from __future__ import annotations

from typing import Any

import click

from fraud_daemons.cli._listing import aligned, chosen_run, reading, run_option
from fraud_daemons.cli.options import Invocation, invocation
from fraud_daemons.clock import iso
from fraud_daemons.config.dsns import PLATFORM_DSN
from fraud_daemons.domain.graph import DEPTH_MAX, FAN_OUT_MAX, KINDS, SCAN_MAX
from fraud_daemons.errors import CommandError, ExitCode

_HEADER = ("STEP", "FROM", "SEEN WITH", "FLOWS", "FIRST SEEN", "LAST SEEN")


@click.group()
def command() -> None:
    """The entity graph: cards, terminals, merchants and what was seen with them."""


@command.command("show")
@click.argument("entity")
@click.option("--depth", type=click.IntRange(1, DEPTH_MAX), default=1, show_default=True, help="Steps out.")
@click.option("--fan-out", type=click.IntRange(1, FAN_OUT_MAX), default=20, show_default=True,
              help="Neighbours of each entity, most recently seen first.")  # fmt: skip
@run_option
@invocation
def show_command(call: Invocation, *, entity: str, depth: int, fan_out: int, run: str | None) -> int:
    """ENTITY and its neighbours: card:ID, terminal:ID, … or a bare ID. 1 when the run has not seen it."""
    from fraud_daemons.state import graph

    with reading(call.load_profile(), "graph") as tables_of:
        chosen, connection = chosen_run(tables_of(PLATFORM_DSN), run), tables_of("IEG_PROJECTION_DSN")
        named = [entity] if entity.partition(":")[0] in KINDS else [f"{kind}:{entity}" for kind in KINDS]
        found = graph.find(connection, chosen, named)
        if len(found) != 1:
            raise _not_one(entity, [each.entity for each in found], chosen)
        version = graph.versions(connection, [chosen]).get(chosen, 0)
        steps = graph.around(connection, chosen, found[0].entity, depth=depth, fan_out=fan_out)
    document = {
        "platform_run_id": chosen,
        "graph_version": version,
        "entity": found[0].entity,
        "first_seen": iso(found[0].first_seen),
        "last_seen": iso(found[0].last_seen),
        "flows": found[0].flows,
        "edges": [_edge(number, neighbour) for number, step in enumerate(steps, start=1) for neighbour in step],
    }
    call.answer(document, text=_text(document))
    return int(ExitCode.GOOD)


def _not_one(entity: str, found: list[str], run: str) -> CommandError:
    if found:
        return CommandError(f"{entity!r} is {' and '.join(found)}; say which", exit_code=ExitCode.NO)
    kinds = ", ".join(f"{kind}:" for kind in KINDS)
    return CommandError(
        f"run {run} has not seen {entity!r}; an entity is an id behind one of {kinds} - see: platform decisions list",
        exit_code=ExitCode.NO,
    )


def _edge(step: int, neighbour: Any) -> dict[str, Any]:
    return {
        "step": step,
        "entity": neighbour.entity,
        "neighbour": neighbour.neighbour,
        "flows": neighbour.flows,
        "first_seen": iso(neighbour.first_seen),
        "last_seen": iso(neighbour.last_seen),
        "neighbours_known": neighbour.scanned,
        "supernode": neighbour.scanned >= SCAN_MAX,
    }


def _text(document: dict[str, Any]) -> str:
    edges = document["edges"]
    head = (
        f"{document['entity']}  {document['flows']} flows, {document['first_seen']} .. {document['last_seen']}"
        f"  graph version {document['graph_version']}\n\n"
    )
    rows = [(e["step"], e["entity"], e["neighbour"], e["flows"], e["first_seen"], e["last_seen"]) for e in edges]
    shown: dict[str, int] = {}
    known = {e["entity"]: e["neighbours_known"] for e in edges}
    for edge in edges:
        shown[edge["entity"]] = shown.get(edge["entity"], 0) + 1
    more = [
        f"{name} has {'at least ' if known[name] >= SCAN_MAX else ''}{known[name]} neighbours; {count} shown"
        for name, count in shown.items()
        if known[name] > count
    ]
    return head + aligned(_HEADER, rows) + ("\n\n" + "\n".join(more) if more else "")
