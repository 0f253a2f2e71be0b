"""The console as a person has it: a real Chromium looks at a real platform, beside `platform status` and `platform report`.

Where the project's packs do not name the console, the platform is one of its own that does.
"""

from __future__ import annotations

import functools
import json
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.system.browser import open_browser
from tests.system.platform_under_test import ROOT, PlatformUnderTest, wait_until

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

VICTIM = "decision_fabric"
BEHIND_STATUS_SECONDS = 2.0
LEDGERS_SECONDS = 12.0  # the page reads reports every 5 s; a busy machine takes its time
TRANSACTIONS = 60
WORLD = "watched"


class WatchedPlatform(PlatformUnderTest):
    """A platform on a root of its own: a copy of packs and configuration, the console among the workers."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "run")
        self.root = folder / "root"
        for part in ("packs", "config"):
            shutil.copytree(ROOT / part, self.root / part)
        pack = self.root / "packs" / "obs_gov.toml"
        text = pack.read_text()
        if '"console"' not in text:
            pack.write_text(re.sub(r"workers = \[", 'workers = ["console", ', text))

    def call(self, *words: str, timeout: float = 280) -> subprocess.CompletedProcess[str]:
        return super().call("--root", str(self.root), *words, timeout=timeout)


@pytest.fixture(scope="module")
def watched(request: pytest.FixtureRequest) -> Iterator[PlatformUnderTest]:
    """A running platform with a console."""
    if '"console"' in (ROOT / "packs" / "obs_gov.toml").read_text():
        shared: PlatformUnderTest = request.getfixturevalue("platform")
        shared.make_world(WORLD, TRANSACTIONS * 2)
        yield shared
        return
    folder = Path(tempfile.mkdtemp(prefix="fp", dir="/tmp"))
    under_test = WatchedPlatform(folder)
    try:
        under_test.up()
        under_test.make_world(WORLD, TRANSACTIONS * 2)
        yield under_test
        under_test.down()
        assert under_test.processes() == [], "down left processes behind"
    finally:
        under_test.kill_what_is_left()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def browser() -> Iterator[Chrome]:
    """One Chromium."""
    with open_browser() as opened:
        yield opened


# --- the facts, each a function that the honest page and the static one both meet
def sees_a_death_and_a_recovery(page: Chrome, platform: PlatformUnderTest) -> None:
    """A killed worker's restart and its readiness stand on the page at most 2 s after `platform status` knows them."""
    before = platform.workers()[VICTIM]
    platform.kill(before["pid"])

    def recovered() -> dict[str, Any] | None:
        now = platform.workers()[VICTIM]
        return now if now["ready"] and now["pid"] != before["pid"] else None

    after = wait_until(recovered, seconds=30, what=f"status knows that {VICTIM} is back")
    known = time.monotonic()
    shown = {"pid": str(after["pid"]), "restarts": str(after["restarts"]), "status": "running ready"}
    shows(page, lambda: row(page, VICTIM) == shown, seconds=BEHIND_STATUS_SECONDS, what=f"{VICTIM} as {shown}")
    assert time.monotonic() - known <= BEHIND_STATUS_SECONDS + 0.5
    assert after["restarts"] == before["restarts"] + 1
    assert f"{VICTIM}exit" in "".join(text(page, "#events").split()), "the death is not on the timeline"


def sees_the_stream_move(page: Chrome, platform: PlatformUnderTest) -> dict[str, Any]:
    """Streamed transactions move the page's decisions by as many, without the page being asked."""
    before = decided(page)
    report = platform.stream(WORLD, "--max-events-per-output", str(TRANSACTIONS))
    assert report["stages"]["decided"] >= TRANSACTIONS
    wanted = before + TRANSACTIONS
    shows(page, lambda: decided(page) >= wanted, seconds=5, what=f"{wanted} decisions")
    return dict(report)


def sees_the_verdict(page: Chrome, report: dict[str, Any], *, seconds: float = LEDGERS_SECONDS) -> None:
    """The report's verdict is on the page, beside the run it is of."""

    def verdict() -> bool:
        found = page.execute_script(
            "const row = document.querySelector(`#reports tr[data-run='${arguments[0]}']`); return row && row.dataset.verdict",
            report["platform_run_id"],
        )
        return bool(found == report["verdict"])

    shows(page, verdict, seconds=seconds, what=f"{report['verdict']} of {report['platform_run_id']}")


def sees_every_counter_of_the_connectors(page: Chrome, platform: PlatformUnderTest) -> None:
    """Each worker's row has what its heartbeat counts, in the columns of those names; `reused` alone moves all the time."""
    beats = {path.stem: json.loads(path.read_text()) for path in (platform.run_dir / "beats").glob("*.json")}
    wanted = {worker: beat["connector"] for worker, beat in beats.items() if beat["connector"]}
    assert len(wanted) >= 15
    columns = [set(counted) for counted in wanted.values()]

    def same() -> bool:
        shown = page.execute_script(
            "const names = [...document.querySelectorAll('#connectors th[data-counter]')].map((head) => head.dataset.counter);"
            "return [...document.querySelectorAll('#connectors tbody tr')].map((line) => [line.dataset.key,"
            " Object.fromEntries(names.map((name, i) => [name, line.children[i + 1].textContent]))])"
        )
        table = dict(shown)
        assert all(set(table[worker]) == names for worker, names in zip(wanted, columns, strict=True))
        return all(
            int(table[worker][name].replace(",", "")) == count
            for worker, counted in wanted.items()
            for name, count in counted.items()
            if name != "reused"
        )

    shows(page, same, seconds=10, what="every worker's counters")


def shows(page: Chrome, condition: Callable[[], bool], *, seconds: float, what: str) -> None:
    """Wait for the page, never reloading it."""
    address = page.current_url
    wait_until(condition, seconds=seconds, what=f"the page shows {what}", every=0.05)
    assert page.current_url == address


def row(page: Chrome, worker: str) -> dict[str, str]:
    script = "const d = document.querySelector(`tr[data-worker='${arguments[0]}']`).dataset; return {pid: d.pid, restarts: d.restarts, status: d.status}"
    return dict(page.execute_script(script, worker))


def decided(page: Chrome) -> int:
    return int(
        page.execute_script(
            "const row = document.querySelector(\"#stages tr[data-topic='decisions']\"); return row ? row.dataset.total : -1"
        )
    )


def text(page: Chrome, selector: str) -> str:
    return str(page.execute_script("return document.querySelector(arguments[0]).textContent", selector))


def enter(page: Chrome, platform: PlatformUnderTest) -> None:
    """Open the link that `platform console` prints and wait until everything is drawn."""
    page.get(platform.say("console")["url"])
    wait_until(lambda: "sequence" in page.execute_script("return document.body.dataset"), seconds=10, what="a picture")
    wait_until(lambda: decided(page) >= 0, seconds=10, what="the stages")


def test_a_browser_sees_what_the_platform_does(watched: PlatformUnderTest, browser: Chrome) -> None:
    """A real Chromium sees a worker killed and recovered within 2 s of the status knowing it, the stream move and the
    report's verdict; the token has left the address bar, and the page could load nothing that its policy forbids."""
    watched.new_run()
    enter(browser, watched)
    assert "token" not in browser.current_url
    sees_a_death_and_a_recovery(browser, watched)
    report = sees_the_stream_move(browser, watched)
    assert report["verdict"] == "PASS"
    sees_the_verdict(browser, report)
    sees_every_counter_of_the_connectors(browser, watched)
    refused = [entry["message"] for entry in browser.get_log("browser") if "Security Policy" in entry["message"]]
    assert not refused


def test_a_page_that_was_saved_is_found_out(watched: PlatformUnderTest, browser: Chrome, tmp_path: Path) -> None:
    """The console's pass-through: the same page, saved once and served as it stands, fails every check."""
    watched.new_run()
    enter(browser, watched)
    saved = re.sub(r"<script.*?</script>", "", browser.page_source, flags=re.S)
    (tmp_path / "index.html").write_text(saved)
    handler = functools.partial(_Quiet, directory=str(tmp_path))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        browser.get(f"http://127.0.0.1:{server.server_address[1]}/")
        assert row(browser, VICTIM)["status"] == "running ready"
        with pytest.raises(AssertionError, match="the page shows"):
            sees_a_death_and_a_recovery(browser, watched)
        with pytest.raises(AssertionError, match="the page shows"):
            sees_the_stream_move(browser, watched)
        report = watched.report()
        with pytest.raises(AssertionError, match="the page shows"):
            sees_the_verdict(browser, report, seconds=6.0)
    finally:
        server.shutdown()
        server.server_close()


def test_a_wrong_link_opens_nothing(watched: PlatformUnderTest, browser: Chrome) -> None:
    """With a wrong token the browser is told so and shows no worker; the token is in no log, argv or status."""
    url = watched.say("console")["url"]
    address, _, token = url.partition("#token=")
    browser.get(f"{address}#token=wrong")
    wait_until(lambda: "not the console's token" in text(browser, "#said"), seconds=5, what="the refusal")
    assert not browser.execute_script("return document.querySelectorAll('[data-worker]').length")
    written = b"".join(path.read_bytes() for path in (watched.run_dir / "logs").glob("*") if path.is_file())
    assert token.encode() not in written
    assert token not in watched.call("status", "-v", "--json").stdout
    assert not [command for _, command in watched.processes() if token in command]


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Nothing."""
