"""The picture as a screen for a person at three in the morning: aligned, honest, one line per cause."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from fraud_daemons.observability.disk import size_text
from fraud_daemons.status.picture import (
    FAILING,
    HELD,
    READY,
    STARTING,
    STOPPED,
    WAITING,
    DiskPicture,
    PackPicture,
    PlatformPicture,
    SupervisorPicture,
    WorkerPicture,
    age_text,
    reason_text,
)

Paint = Callable[[str, str], str]
COLOUR_OF: Final = {READY: "32", STARTING: "36", WAITING: "33", FAILING: "31", STOPPED: "90", HELD: "35"}
NAMES_SHOWN_MAX: Final = 4


def plain(text: str, _: str) -> str:
    """No colour: for files, pipes and tests."""
    return text


def coloured(text: str, status: str) -> str:
    """The status's colour, in ANSI."""
    return f"\x1b[{COLOUR_OF.get(status, '0')}m{text}\x1b[0m"


def render(picture: PlatformPicture, *, workers: bool = False, paint: Paint = plain) -> str:
    """The screen: a headline, the substrate, one line per pack (and per worker when asked), one line per shared cause."""
    lines = [_headline(picture, paint), ""]
    rows = [_supervisor_row(picture.supervisor, paint)] if picture.supervisor and picture.supervisor.pid else []
    rows += [_service_row(picture, paint)] if picture.substrate else []
    for pack in picture.packs:
        rows.append(_pack_row(pack, paint))
        if workers:
            rows += [_worker_row(worker, paint) for worker in pack.workers]
    lines += _aligned(rows)
    if picture.disk:
        lines.append(f"  {_disk_text(picture.disk, paint)}")
        held = ", ".join(f"{topic} by {holder}" for topic, holder in picture.disk.held_back.items())
        lines += [f"  trimming is held back: {held}"] if held else []
    causes = list(_causes(picture.workers))
    if picture.supervisor and picture.supervisor.reason:
        causes.insert(0, (FAILING, f"supervisor {picture.supervisor.status}:", picture.supervisor.reason))
    if causes:
        lines += ["", *(f"  {paint(mark, status)} {text}" for status, mark, text in causes)]
    return "\n".join(lines)


def _headline(picture: PlatformPicture, paint: Paint) -> str:
    run = picture.platform_run_id or "no run yet"
    return f"{picture.profile}  {paint(picture.verdict, picture.verdict)}  {run}"


def _disk_text(disk: DiskPicture, paint: Paint) -> str:
    room = f"{size_text(disk.free_bytes)} free of {size_text(disk.total_bytes)}"
    if disk.guarded:
        return f"disk  {paint(room, WAITING)}: the gate is shut below {size_text(disk.guard_free_bytes)} ({disk.path})"
    stored = [f"{WHAT_IS_STORED.get(what, what)} {size_text(size)}" for what, size in disk.stored_bytes.items()]
    return f"disk  {room}" + (f"; {', '.join(stored)}" if stored else "")


WHAT_IS_STORED: Final = {"log": "bus log", "database": "database with it", "objects": "objects"}

Cell = tuple[str, str]  # text as it is counted, text as it is shown


def _cell(text: str) -> Cell:
    return text, text


def _status_cell(status: str, paint: Paint) -> Cell:
    return status, paint(status, status)


def _pack_row(pack: PackPicture, paint: Paint) -> list[Cell]:
    ready = sum(worker.ready for worker in pack.workers)
    return [
        _cell(pack.pack),
        _status_cell(pack.status, paint),
        _cell(f"{ready}/{len(pack.workers)}"),
        _cell(_up(min((w.uptime_seconds for w in pack.workers if w.uptime_seconds is not None), default=None))),
        _cell(_lag([worker.lag_records for worker in pack.workers])),
        _cell(_restarts(sum(worker.restarts for worker in pack.workers))),
        _cell(_dead(sum(worker.dead_letters for worker in pack.workers))),
    ]


def _worker_row(worker: WorkerPicture, paint: Paint) -> list[Cell]:
    memory = f"{worker.rss_bytes / 1_048_576:.0f} MiB" if worker.rss_bytes else ""
    return [
        _cell(f"  {worker.worker}"),
        _status_cell(worker.status, paint),
        _cell(f"pid {worker.pid}" if worker.pid else ""),
        _cell(_up(worker.uptime_seconds)),
        _cell(_lag([worker.lag_records])),
        _cell(_restarts(worker.restarts)),
        _cell(_dead(worker.dead_letters)),
        _cell(memory),
        _cell(reason_text(worker) or ""),
    ]


def _supervisor_row(supervisor: SupervisorPicture, paint: Paint) -> list[Cell]:
    age = supervisor.beat_age_seconds
    return [
        _cell("supervisor"),
        (supervisor.status, paint(supervisor.status, FAILING if supervisor.reason else READY)),
        _cell(""),
        _cell("no beat yet" if age is None else f"beat {age_text(age)} ago"),
    ]


def _service_row(picture: PlatformPicture, paint: Paint) -> list[Cell]:
    ready = sum(service.status == READY for service in picture.substrate)
    worst_service = next((s for s in picture.substrate if s.status != READY), picture.substrate[0])
    trouble = (
        ""
        if worst_service.status == READY
        else f"{worst_service.service}: {worst_service.reason or worst_service.status}"
    )
    return [
        _cell("substrate"),
        _status_cell(worst_service.status, paint),
        _cell(f"{ready}/{len(picture.substrate)}"),
        _cell(trouble),
    ]


def _up(seconds: float | None) -> str:
    return "" if seconds is None else f"up {age_text(seconds)}"


def _lag(lags: Sequence[int | None]) -> str:
    known = [lag for lag in lags if lag is not None]
    return f"lag {sum(known):,}" if known else ""


def _restarts(count: int) -> str:
    return f"{count} restart{'s' if count != 1 else ''}" if count else ""


def _dead(count: int) -> str:
    return f"{count} dead letter{'s' if count != 1 else ''}" if count else ""


def _causes(workers: Iterable[WorkerPicture]) -> Iterable[tuple[str, str, str]]:
    """One entry per cause: what is wrong, for how long, and whom it touches."""
    groups: dict[tuple[str, str], list[WorkerPicture]] = {}
    for worker in workers:
        if worker.reason and worker.status != STARTING:
            groups.setdefault((worker.status, worker.reason), []).append(worker)
    for (status, reason), touched in sorted(groups.items(), key=lambda item: -len(item[1])):
        longest = max((w.reason_seconds for w in touched if w.reason_seconds is not None), default=None)
        age = f", {age_text(longest)}" if longest is not None else ""
        names = ", ".join(w.worker for w in touched[:NAMES_SHOWN_MAX])
        more = f" and {len(touched) - NAMES_SHOWN_MAX} more" if len(touched) > NAMES_SHOWN_MAX else ""
        how_many = f": {len(touched)} workers {status.removeprefix('running ')}" if len(touched) > 1 else ""
        text = f"{reason}{how_many}{age} - {names}{more}{_advice(status, touched)}"
        yield status, status.removeprefix("running ") + ":", text


def _advice(status: str, touched: Sequence[WorkerPicture]) -> str:
    return f" (put it right, then: platform resume {touched[0].worker})" if status == HELD else ""


def _aligned(rows: Sequence[Sequence[Cell]]) -> list[str]:
    widths: list[int] = []
    for row in rows:
        for column, (counted, _) in enumerate(row):
            if column == len(widths):
                widths.append(0)
            widths[column] = max(widths[column], len(counted))
    # a column that is empty everywhere takes no room; a row's last cell is not padded
    return ["  " + _line(row, widths) for row in rows]


def _line(row: Sequence[Cell], widths: Sequence[int]) -> str:
    cells = [
        (shown + " " * (width - len(counted))) for (counted, shown), width in zip(row, widths, strict=False) if width
    ]
    return "  ".join(cells).rstrip()
