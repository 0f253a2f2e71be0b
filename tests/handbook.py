"""The Handbook's transactions, frauds and published features, beside the project; what differs from them is named."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

from fraud_daemons.clock import iso
from tests.bound_flows import bound
from tests.line import ROOT, RUN

DATA = ROOT.parent / "shared" / "data"
ORACLE = DATA / "handbook_features_2018-07-18_to_07-31.parquet"


def read_handbook(first: date, last: date) -> list[tuple[str, str, str, int, int, int]]:
    """Handbook transactions of these days as `state.features.warm` takes them, in the world's order."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    rows = []
    for month in sorted({first.replace(day=1), last.replace(day=1)}):
        table = pq.read_table(DATA / f"handbook_{month:%Y-%m}.parquet")
        day = pc.cast(table["TX_DATETIME"], "date32")
        table = table.filter(pc.and_(pc.greater_equal(day, first), pc.less_equal(day, last)))
        times = pc.cast(pc.cast(table["TX_DATETIME"], "timestamp[us]"), "int64").to_pylist()
        cents = [round(float(amount) * 100) for amount in table["TX_AMOUNT"].to_pylist()]
        names = (table[name].to_pylist() for name in ("TRANSACTION_ID", "CUSTOMER_ID", "TERMINAL_ID"))
        rows += [
            (f"h{tx}", f"c{customer}", f"t:{terminal}", time, int(tx), amount)
            for tx, customer, terminal, time, amount in zip(*names, times, cents, strict=True)
        ]
    return sorted(rows, key=lambda row: (row[3], row[4]))


def handbook_labels(first: date, last: date, *, run: str = RUN) -> list[dict[str, Any]]:
    """The frauds of these days as labels observed seven days after they happened, in the order of the feed."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    found = []
    for month in sorted({first.replace(day=1), last.replace(day=1)}):
        table = pq.read_table(
            DATA / f"handbook_{month:%Y-%m}.parquet", columns=["TRANSACTION_ID", "TX_DATETIME", "TX_FRAUD"]
        )
        day = pc.cast(table["TX_DATETIME"], "date32")
        inside = pc.and_(pc.greater_equal(day, first), pc.less_equal(day, last))
        table = table.filter(pc.and_(inside, pc.equal(table["TX_FRAUD"], 1)))
        rows = zip(table["TRANSACTION_ID"].to_pylist(), table["TX_DATETIME"].to_pylist(), strict=True)
        found += [(at.replace(tzinfo=UTC) + timedelta(days=7), f"h{tx}") for tx, at in rows]
    return [
        {
            "label_id": f"label-{flow_id}", "platform_run_id": run, "flow_id": flow_id, "type": "fraud_disposition",
            "value": "FRAUD", "fraud_type": None, "source": "EXTERNAL", "effective_time": iso(observed - timedelta(days=7)),
            "observed_time": iso(observed), "recorded_at": iso(observed), "supersedes": None,
        }
        for observed, flow_id in sorted(found)
    ]  # fmt: skip


def handbook_bound(row: tuple[str, str, str, int, int, int]) -> dict[str, Any]:
    flow_id, card, terminal, time, seq, amount = row
    at = datetime.fromisoformat("1970-01-01T00:00:00+00:00") + timedelta(microseconds=time)
    traffic = {"flow_id": flow_id, "amount_minor": amount, "currency": "USD", "message_type": "0100"}
    return bound(
        0, flow_id=flow_id, occurred_at=iso(at), source_seq=seq, traffic=traffic, card_token=card,
        terminal_id=terminal.removeprefix("t:"), merchant_id=None,
    )  # fmt: skip


def differences_from_oracle(
    found: Mapping[str, Mapping[str, Any]], *, last: date = date(2018, 7, 18), shares: bool = False
) -> list[str]:
    """What differs between vectors by flow and the Handbook's own features from 18 July on: counts exactly, means and
    (with `shares`, where the labels were streamed too) fraud shares to 1e-9."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.read_table(ORACLE)
    table = table.filter(pc.less_equal(pc.cast(table["TX_DATETIME"], "date32"), last))
    wrong = []
    for row in table.to_pylist():
        mine = found.get(f"h{row['TRANSACTION_ID']}")
        if mine is None:
            wrong.append(f"h{row['TRANSACTION_ID']}: no vector")
            continue
        for days in (1, 7, 30):
            checks = {
                f"card_count_{days}d": row[f"CUSTOMER_ID_NB_TX_{days}DAY_WINDOW"],
                f"terminal_delayed_count_{days}d": row[f"TERMINAL_ID_NB_TX_{days}DAY_WINDOW"],
            }
            wrong += [
                f"h{row['TRANSACTION_ID']}: {name} {mine[name]} is not {n}"
                for name, n in checks.items()
                if mine[name] != n
            ]
            mean = float(row[f"CUSTOMER_ID_AVG_AMOUNT_{days}DAY_WINDOW"])
            got = (mine[f"card_mean_{days}d"] or 0) / 100
            if abs(got - mean) > 1e-9 * max(1.0, abs(mean)):  # the Handbook's zero is once 8.9e-15
                wrong.append(f"h{row['TRANSACTION_ID']}: card_mean_{days}d {got} is not {mean}")
            share = float(row[f"TERMINAL_ID_RISK_{days}DAY_WINDOW"])
            if shares and abs(mine[f"terminal_fraud_share_{days}d"] - share) > 1e-9:
                wrong.append(
                    f"h{row['TRANSACTION_ID']}: share {days}d {mine[f'terminal_fraud_share_{days}d']} not {share}"
                )
    return wrong
