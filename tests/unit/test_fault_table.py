"""The fault table over every SQLSTATE that the driver knows: each has its kind and its connection's fate, by intent."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors

from fraud_daemons.errors import FatalFault, OverloadFault, PlatformError, PoisonFault, TransientFault
from fraud_daemons.postgres_runtime import faults
from fraud_daemons.postgres_runtime.faults import Fate, Kind, NoAnswer, fault_from, judge, judge_connect

KEEP, DROP, DROP_ALL = Fate.KEEP, Fate.DROP, Fate.DROP_ALL

# every code the driver knows, written out by what becomes of it: not derived from the table, so that a slip there shows
EXPECTED: dict[tuple[Kind, Fate], str] = {
    (Kind.TRANSIENT, DROP): """
        08000 08001 08003 08004 08006 08007 08P01 0A000 25P03 25P04 26000 40003 42P05
        57000 57P03 57P05 58000 58030 58P01 58P02 58P03 XX000""",
    (Kind.TRANSIENT, DROP_ALL): "25006 57P01 57P02",
    (Kind.TRANSIENT, KEEP): "40000 40001 40P01 53000 53100 53300 53400 55000 55006 55P03 55P04 72000",
    (Kind.OVERLOAD, KEEP): "53200 54000 54001 54011 54023 57014",
    (Kind.POISON, KEEP): """
        21000 40002 44000 23000 23001 23502 23503 23505 23514 23P01
        22000 22001 22002 22003 22004 22005 22007 22008 22009 2200B 2200C 2200D 2200F 2200G 2200H 2200L 2200M 2200N
        2200S 2200T 22010 22011 22012 22013 22014 22015 22016 22018 22019 2201B 2201E 2201F 2201G 2201W 2201X 22021
        22022 22023 22024 22025 22026 22027 2202E 2202G 2202H 22030 22031 22032 22033 22034 22035 22036 22037 22038
        22039 2203A 2203B 2203C 2203D 2203E 2203F 2203G 22P01 22P02 22P03 22P04 22P05 22P06""",
    (Kind.CREDENTIAL, DROP): "28000 28P01",
    (Kind.FATAL, DROP): "3D000 57P04 F0000 F0001 XX001 XX002",
    (Kind.FATAL, KEEP): """
        0L000 0LP01 0P000 2B000 2BP01 3F000 55P02
        42000 42501 42601 42602 42611 42622 42701 42702 42703 42704 42710 42712 42723 42725 42803 42804 42809 42830
        42846 42883 428C9 42939 42P01 42P02 42P03 42P04 42P06 42P07 42P08 42P09 42P10 42P11 42P12 42P13 42P14 42P15
        42P16 42P17 42P18 42P19 42P20 42P21 42P22""",
    (Kind.BUG, DROP): """
        03000 0B000 24000 2D000 34000 3B000 3B001
        25000 25001 25002 25003 25004 25005 25007 25008 25P01 25P02""",
    (Kind.BUG, KEEP): """
        02000 02001 09000 0F000 0F001 0Z000 0Z002 10608 20000 27000 2F000 2F002 2F003 2F004 2F005
        38000 38001 38002 38003 38004 39000 39001 39004 39P01 39P02 39P03 P0000 P0001 P0002 P0003 P0004
        HV000 HV001 HV002 HV004 HV005 HV006 HV007 HV008 HV009 HV00A HV00B HV00C HV00D HV00J HV00K HV00L HV00M HV00N
        HV00P HV00Q HV00R HV010 HV014 HV021 HV024 HV090 HV091""",
}  # fmt: skip
BY_CODE = {code: row for row, codes in EXPECTED.items() for code in codes.split()}
KNOWN = sorted(state for error in vars(errors).values() if isinstance(state := getattr(error, "sqlstate", None), str))
FAULT_OF = {
    Kind.TRANSIENT: TransientFault,
    Kind.CREDENTIAL: TransientFault,
    Kind.OVERLOAD: OverloadFault,
    Kind.POISON: PoisonFault,
    Kind.FATAL: FatalFault,
}


def test_the_driver_knows_what_is_written_here_and_nothing_else() -> None:
    """A newer driver with a newer code turns this red, so that somebody decides what the code means."""
    assert len(KNOWN) > 250
    assert set(KNOWN) == set(BY_CODE)
    assert {errors.lookup(code).sqlstate for code in KNOWN} == set(KNOWN)


@pytest.mark.parametrize("code", KNOWN)
def test_each_code_has_its_kind_and_its_fate(code: str) -> None:
    """What the loop does and what becomes of the connection, by code; a broken connection is never kept."""
    kind, fate = BY_CODE[code]
    error = errors.lookup(code)("said")
    verdict = judge(error, broken=False)
    assert (verdict.kind, verdict.fate, verdict.reason) == (kind, fate, f"postgres: {code}")
    assert verdict.outcome_unknown is (code in ("08007", "40003"))
    broken = judge(error, broken=True)
    assert broken.kind is kind
    assert broken.fate is (DROP_ALL if fate is DROP_ALL else DROP)
    fault = fault_from(error, verdict)
    assert type(fault) is FAULT_OF.get(kind, type(None))
    if isinstance(fault, PlatformError):
        assert fault.reason == f"postgres: {code}"


@pytest.mark.parametrize("code", KNOWN)
def test_each_code_of_a_refused_connect_is_patience_or_a_fault_of_configuration(code: str) -> None:
    """At connect there is no work to halve and no code of ours to blame: nothing is overload, poison or a bug."""
    verdict = judge_connect(psycopg.OperationalError("Verbindung gescheitert"), code)
    assert verdict.kind in (Kind.TRANSIENT, Kind.FATAL, Kind.CREDENTIAL)
    assert verdict.reason == f"postgres: {code}"
    by_table = BY_CODE[code][0]
    if by_table in (Kind.FATAL, Kind.CREDENTIAL) and code != "57P04":
        assert verdict.kind is by_table


@pytest.mark.parametrize("code", ["ABC12", "99999", "5A001"])
def test_a_code_of_an_unknown_class_falls_to_the_stated_default(code: str) -> None:
    """Nobody foresaw it: told as a bug with its traceback, and the connection is not used again."""
    verdict = judge(_error(code), broken=False)
    assert (verdict.kind, verdict.fate) == faults.UNKNOWN == (Kind.BUG, DROP)
    assert verdict.reason == f"postgres: {code}"
    assert judge_connect(psycopg.OperationalError("?"), code).kind is Kind.TRANSIENT


@pytest.mark.parametrize(("code", "kind"), [("57P99", Kind.TRANSIENT), ("22ZZZ", Kind.POISON), ("42ZZZ", Kind.FATAL)])
def test_a_new_code_of_a_known_class_is_judged_by_its_class(code: str, kind: Kind) -> None:
    """A newer server's code falls to the row of its first two characters."""
    assert judge(_error(code), broken=False).kind is kind


def test_without_a_code_the_connection_decides() -> None:
    """Lost connection, lost answer, a value that does not fit, and what else the driver raises of its own accord."""
    lost = psycopg.OperationalError("the connection is lost")
    assert judge(lost, broken=True).reason == "postgres: connection lost"
    silent = judge(NoAnswer("no answer"), broken=True)
    assert (silent.kind, silent.fate) == (Kind.TRANSIENT, DROP_ALL)
    assert judge(psycopg.DataError("NUL"), broken=False).kind is Kind.POISON
    assert judge(psycopg.InterfaceError("misuse"), broken=False).kind is Kind.BUG
    assert judge(psycopg.InterfaceError("misuse"), broken=True).kind is Kind.TRANSIENT


@pytest.mark.parametrize(
    ("text", "reason", "kind"),
    [
        ("connection to server at \"x\" failed: Connection refused", "refused", Kind.TRANSIENT),
        ("connection to server on socket \"/x\" failed: No such file or directory", "refused", Kind.TRANSIENT),
        ("connection failed: Cannot assign requested address", "ports exhausted", Kind.TRANSIENT),
        ("connection failed: Address already in use", "ports exhausted", Kind.TRANSIENT),
        ("could not create socket: Too many open files", "files exhausted", Kind.TRANSIENT),
        ("failed to resolve host 'db': Name or service not known", "host unknown", Kind.TRANSIENT),
        ("connection failed: No route to host", "unreachable", Kind.TRANSIENT),
        ("SSL error: certificate verify failed", "certificate refused", Kind.FATAL),
        ("fe_sendauth: no password supplied", "28P01", Kind.CREDENTIAL),
        ("connection failed: session is read-only", "25006", Kind.TRANSIENT),
        ("server closed the connection unexpectedly", "cannot connect", Kind.TRANSIENT),
    ],
)  # fmt: skip
def test_what_our_own_side_says_of_a_failed_connect(text: str, reason: str, kind: Kind) -> None:
    """The client library's own words name the causes that no server can."""
    verdict = judge_connect(psycopg.OperationalError(text), None)
    assert (verdict.reason, verdict.kind) == (f"postgres: {reason}", kind)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('FATAL:  password authentication failed for user "x"', "28P01"),
        ('FATAL:  role "x" does not exist', "28000"),
        ('FATAL:  database "x" does not exist', "3D000"),
        ("FATAL:  sorry, too many clients already", "53300"),
        ("FATAL:  the database system is starting up", "57P03"),
    ],
)
def test_without_a_diagnosis_a_servers_english_decides(text: str, code: str) -> None:
    """When the second connect found nothing, the text that the first one brought still names the code."""
    assert judge_connect(psycopg.OperationalError(text), None).reason == f"postgres: {code}"


def _error(code: str) -> psycopg.Error:
    """As the driver makes it of a code that it does not know."""
    error = psycopg.DatabaseError("said")
    error.sqlstate = code
    return error
