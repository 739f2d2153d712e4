"""The bounce intake: over real SMTP and LMTP into real ledgers, and nothing but return paths of ours."""

import asyncio
import json
import os
import signal
import smtplib
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from postroom.adapters.ledger.administration import LedgerAdministration
from postroom.adapters.ledger.leases import LedgerMember
from postroom.adapters.ledger.postgres import PostgresLedger
from postroom.adapters.ledger.reports import SqlReportStore
from postroom.adapters.ledger.sqlite import SqliteLedger
from postroom.bounces import ledgers as looking
from postroom.bounces import server
from postroom.bounces.ledgers import BounceLedgers
from postroom.bounces.main import main, open_bounce_ledgers
from postroom.bounces.server import BounceHandler, BounceSession, BounceStats
from postroom.clock import SystemClock
from postroom.http.endpoint import Endpoint
from postroom.letter.problems import Rejected
from postroom.letter.profile_format import FORMAT_ANNOTATION, PROFILE_FORMAT
from postroom.letter.verp import ReturnPathKeys
from postroom.local.broker import LocalBroker
from postroom.policy.notifications import notification_rule
from postroom.ports.bounces import ReceivedReport, ReportResult
from postroom.ports.ledger import Claimed, State
from postroom.ports.notifications import TOPIC
from postroom.smtpd import SmtpServer
from postroom.startup import listen
from postroom.worker.settings import BounceSettings
from tests.delivery.async_test import async_test
from tests.delivery.letters import DAY, NOON, WINDOW, ended, letter
from tests.delivery.test_status_events import own_broker, published_events, telling
from tests.fixtures.pipeline import WorkerUnderTest, events, publish, wait_until
from tests.fixtures.recording_sink import RecordingSink
from tests.ledger.file_ledgers import prepared
from tests.ledger.ledger_contract import LATER, find_row, letter_in
from tests.ledger.postgres_ledgers import SCHEMA
from tests.letter.test_dsn import RETURN_PATH, sample

__all__ = ["own_broker"]

DOMAIN = "bounces.larkfield.example"
KEY = "k" * 44
RING = ReturnPathKeys(DOMAIN, [KEY.encode()])
PATH = RING.return_path(letter("a").identity)


def profile(name: str = "orders", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "postroom.dev/v1alpha1",
        "kind": "SmtpProfile",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "from": {"address": "post@larkfield.example"},
            "bounces": {"domain": DOMAIN, "secretRef": {"name": "return-paths"}},
            "kafka": {"statusEvents": ["Bounced"]},
            **spec,
        },
    }


class Site:
    """Profiles, Secrets and a SQLite ledger in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("profiles", "ledgers", "secrets"):
            (folder / name).mkdir()
        self.tell(profile())
        self.mount("return-paths", {"bounces.key": KEY})

    def tell(self, one: dict[str, Any]) -> None:
        (self.folder / "profiles" / f"{one['metadata']['name']}.yaml").write_text(json.dumps(one))

    def mount(self, name: str, keys: dict[str, str]) -> None:
        (self.folder / "secrets" / name).mkdir(exist_ok=True)
        for key, text in keys.items():
            (self.folder / "secrets" / name / key).write_text(text)

    @property
    def ledger(self) -> Path:
        return self.folder / "ledgers" / "orders.sqlite"

    def settings(self, **changes: Any) -> BounceSettings:
        given = {"bounces_profiles": self.folder / "profiles", "secrets": self.folder / "secrets"}
        return BounceSettings(**{**given, "bounces_ledgers": self.folder / "ledgers", **changes})


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


class Door:
    """A sender's side of a running intake."""

    def __init__(
        self, endpoint: tuple[str, int], stats: BounceStats, ledgers: BounceLedgers | None = None
    ) -> None:
        self.endpoint, self.stats, self._offices = endpoint, stats, ledgers

    def problems(self) -> list[str]:
        """What the intake waits for."""
        return self._offices.problems if self._offices else []

    async def send(self, content: bytes, to: str = PATH, protocol: type[smtplib.SMTP] = smtplib.SMTP) -> int:
        """The code of the answer that decided it."""
        return await asyncio.to_thread(self._send, content, to, protocol)

    def _send(self, content: bytes, to: str, protocol: type[smtplib.SMTP]) -> int:
        with protocol(*self.endpoint) as client:
            client.ehlo_or_helo_if_needed()
            client.mail("")
            code, _ = client.rcpt(to)
            return code if code != 250 else client.data(content)[0]


async def true(condition: Callable[[], bool]) -> None:
    """Wait until it is."""
    async with asyncio.timeout(8):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)


@asynccontextmanager
async def opened(settings: BounceSettings, ready: bool = True) -> AsyncIterator[Door]:
    """The intake on this event loop."""
    ledgers, stats = open_bounce_ledgers(settings), BounceStats()
    server = SmtpServer(BounceHandler(ledgers.find, stats), BounceSession)
    endpoint = await server.start(listen(Endpoint("127.0.0.1", 0), "the test"))
    parts = [asyncio.create_task(part) for part in ledgers.parts(SystemClock(), stats)]
    if ready:
        await true(lambda: not ledgers.problems)
    yield Door(endpoint, stats, ledgers)
    await server.stop()
    for part in parts:
        part.cancel()
    await asyncio.gather(*parts, return_exceptions=True)


@asynccontextmanager
async def worker(path: Path) -> AsyncIterator[SqliteLedger]:
    ledger = await SqliteLedger.open(prepared(path), WINDOW, NOON)
    ledger.announce(notification_rule({TOPIC: ["bounced"]}))
    yield ledger
    await ledger.close()


@async_test
async def test_a_report_becomes_a_bounce_a_notice_and_an_entry(site: Site) -> None:
    async with worker(site.ledger) as ledger:
        await letter_in(ledger, State.ACCEPTED)
        async with opened(site.settings()) as door:
            report = sample("postfix").replace(b"mira@example.net", b"a@example.net")
            report = report.replace(b"Mira@example.net", b"a@example.net")
            assert await door.send(report) == 250
            assert await door.send(report) == 250
        [notice] = await ledger.pending(TOPIC, LATER + DAY * 99, 10)
        data = json.loads(notice.data)
        assert (data["state"], data["problem"]) == ("bounced", "bounced")
        assert data["smtp"] == {"code": 550, "enhanced": "5.1.1"}
        assert data["report"] == {"kind": "failed", "status": "5.1.1"}
        assert "@" not in notice.data.replace("@example.com", "")
        assert (await find_row(ledger)).state is State.BOUNCED
        assert (door.stats.reports, door.stats.letters) == ({"failed": 1}, {"bounced": 1})
        assert (door.stats.unkept, door.stats.suppressed) == ({"known": 1}, {"hard_bounce": 1})


@pytest.mark.parametrize("protocol", [smtplib.SMTP, smtplib.LMTP])
@async_test
async def test_a_relay_may_speak_smtp_or_lmtp(site: Site, protocol: type[smtplib.SMTP]) -> None:
    async with worker(site.ledger) as ledger, opened_after(ledger, site) as door:
        assert await door.send(sample("postfix-delivered"), protocol=protocol) == 250
        assert (await find_row(ledger)).state is State.DELIVERED


@asynccontextmanager
async def opened_after(ledger: SqliteLedger, site: Site) -> AsyncIterator[Door]:
    """The intake, with a letter that the relay has taken."""
    await letter_in(ledger, State.ACCEPTED)
    async with opened(site.settings()) as door:
        yield door


@pytest.mark.parametrize(
    "address",
    [
        "post@larkfield.example",
        f"postmaster@{DOMAIN}",
        RETURN_PATH,
        PATH.replace("b+", "c+"),
        PATH.replace(DOMAIN, "other.example"),
        ReturnPathKeys(DOMAIN, [b"x" * 44]).return_path(letter().identity),
        f"{PATH[:-30]}%{PATH}",
        f"@relay.example:{PATH}",
    ],
)
@async_test
async def test_nothing_but_return_paths_of_ours_is_taken(site: Site, address: str) -> None:
    async with worker(site.ledger) as ledger, opened_after(ledger, site) as door:
        assert await door.send(sample("postfix"), to=address) in (550, 553)
        assert not door.stats.reports


@async_test
async def test_a_transaction_has_one_recipient_and_the_others_come_again(site: Site) -> None:
    async with worker(site.ledger) as ledger, opened_after(ledger, site) as door:

        def two() -> list[int]:
            with smtplib.SMTP(*door.endpoint) as client:
                client.ehlo()
                client.mail("")
                codes = [client.rcpt(RING.return_path(letter(name).identity))[0] for name in "ab"]
                return [*codes, client.data(sample("postfix"))[0]]

        assert await asyncio.to_thread(two) == [250, 452, 250]


@pytest.mark.parametrize("name", ["qmail", "person"])
@async_test
async def test_what_no_program_can_read_is_kept_as_it_is(site: Site, name: str) -> None:
    async with worker(site.ledger) as ledger, opened_after(ledger, site) as door:
        assert await door.send(sample(name)) == 250
        assert door.stats.reports == {"unparsed": 1}
        assert (await find_row(ledger)).state is State.ACCEPTED
    upkeep = LedgerAdministration.open_file(site.ledger)
    [content] = upkeep.transaction(lambda c: c.exec_driver_sql("SELECT content FROM report").scalars().all())
    upkeep.close()
    assert content == sample(name)


@async_test
async def test_a_provider_s_complaint_is_tied_to_its_letter_by_the_return_path_that_it_quotes(
    site: Site,
) -> None:
    at = RING.complaint_address("shop/orders")
    quoting = sample("complaint").replace(RETURN_PATH.encode(), PATH.encode())
    async with worker(site.ledger) as ledger, opened_after(ledger, site) as door:
        assert await door.send(quoting, to=at.upper()) == 250
        assert (door.stats.reports, door.stats.suppressed) == ({"complaint": 1}, {"complaint": 1})
        assert (await find_row(ledger)).state is State.ACCEPTED
        for unusable in (sample("complaint"), sample("postfix").replace(RETURN_PATH.encode(), PATH.encode())):
            assert await door.send(unusable, to=at) == 250
        assert door.stats.unkept == {"untied": 2}
        assert await door.send(quoting, to=RING.complaint_address("shop/other")) == 550
        assert (await find_row(ledger)).state is State.ACCEPTED


@async_test
async def test_an_answering_machine_is_noted_and_changes_nothing(site: Site) -> None:
    async with worker(site.ledger) as ledger, opened_after(ledger, site) as door:
        assert await door.send(sample("vacation")) == 250
        assert (door.stats.reports, door.stats.letters) == ({"ignored": 1}, {})


@async_test
async def test_a_report_before_the_relay_s_answer_is_applied_after_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "SWEEP_SECONDS", 0.05)
    async with worker(site.ledger) as ledger:
        claimed = await letter_in(ledger, State.SENDING)
        async with opened(site.settings()) as door:
            assert await door.send(sample("postfix")) == 250
            await asyncio.sleep(0.2)
            assert (await find_row(ledger)).state is State.SENDING
            await ledger.settle([ended(claimed)], NOON)
            await true(lambda: door.stats.letters == {"bounced": 1})
            assert (await find_row(ledger)).state is State.BOUNCED


@async_test
async def test_a_report_of_a_forgotten_letter_is_taken_and_counted(site: Site) -> None:
    async with worker(site.ledger) as ledger, opened_after(ledger, site) as door:
        assert await door.send(sample("postfix"), to=RING.return_path(letter("z").identity)) == 250
        assert door.stats.unkept == {"unknown_letter": 1}


@async_test
async def test_of_a_huge_report_the_beginning_is_read_and_a_huger_one_is_refused(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    huge = sample("postfix") + (b"x" * 2000 + b"\r\n") * 1000
    async with worker(site.ledger) as ledger:
        await letter_in(ledger, State.ACCEPTED)
        monkeypatch.setattr(server, "LIMITS", replace(server.LIMITS, max_bytes=1_000_000))
        async with opened(site.settings()) as door:
            assert await door.send(huge) == 552
        monkeypatch.undo()
        async with opened(site.settings()) as door:
            assert await door.send(huge) == 250
            assert door.stats.letters == {"bounced": 1}


@async_test
async def test_without_its_key_a_return_path_is_asked_to_come_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "POLL_SECONDS", 0.05)
    (site.folder / "secrets" / "return-paths" / "bounces.key").unlink()
    async with worker(site.ledger) as ledger:
        await letter_in(ledger, State.ACCEPTED)
        async with opened(site.settings(), ready=False) as door:
            assert await door.send(sample("postfix")) == 451
            assert await door.send(sample("postfix"), to="post@larkfield.example") == 550
            site.mount("return-paths", {"bounces.key": KEY})
            await true(lambda: not door.problems())
            assert await door.send(sample("postfix")) == 250


@async_test
async def test_a_letter_of_a_replaced_key_is_known_as_long_as_the_key_is_there(site: Site) -> None:
    site.mount("return-paths", {"bounces.key": f"{'n' * 44}\n{KEY}"})
    async with worker(site.ledger) as ledger, opened_after(ledger, site) as door:
        assert await door.send(sample("postfix")) == 250


@async_test
async def test_a_ledger_that_takes_nothing_makes_the_sender_keep_its_report(site: Site) -> None:
    async with worker(site.ledger) as ledger, opened_after(ledger, site) as door:
        upkeep = LedgerAdministration.open_file(site.ledger)
        upkeep.transaction(lambda c: c.exec_driver_sql("ALTER TABLE report RENAME TO gone"))
        assert await door.send(sample("postfix")) == 451
        upkeep.transaction(lambda c: c.exec_driver_sql("ALTER TABLE gone RENAME TO report"))
        upkeep.close()
        assert await door.send(sample("postfix")) == 250
        assert (await find_row(ledger)).state is State.BOUNCED


@pytest.mark.searches
@async_test
async def test_a_storm_of_reports_is_taken_in_few_transactions(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, together = 300, []

    def take(desk: SqlReportStore, batch: Sequence[ReceivedReport], *rest: Any) -> Sequence[ReportResult]:
        together.append(len(batch))
        return really(desk, batch, *rest)

    really = SqlReportStore.add
    monkeypatch.setattr(SqlReportStore, "add", take)
    async with worker(site.ledger) as ledger:
        claimed = await ledger.claim([letter(f"n{number}") for number in range(count)], NOON)
        sent = [one for one in claimed if isinstance(one, Claimed)]
        await ledger.fence(sent, NOON)
        await ledger.settle([ended(one) for one in sent], NOON)
        async with opened(site.settings()) as door:

            def many(numbers: range) -> None:
                with smtplib.SMTP(*door.endpoint) as client:
                    for number in numbers:
                        to = RING.return_path(letter(f"n{number}").identity)
                        report = sample("postfix").replace(b"Message-Id: <", b"Message-Id: <%d" % number)
                        client.sendmail("", [to], report)

            shares = [range(start, count, 10) for start in range(10)]
            loop = asyncio.get_running_loop()
            with ThreadPoolExecutor(len(shares)) as senders:  # the intake needs the loop's own
                await asyncio.gather(*(loop.run_in_executor(senders, many, share) for share in shares))
            assert door.stats.letters == {"bounced": count}
            assert sum(together) == count
            assert len(together) < count / 2


def test_an_intake_without_a_profile_that_asks_for_one_does_not_start(site: Site) -> None:
    one = profile()
    del one["spec"]["bounces"]
    site.tell(one)
    with pytest.raises(Rejected, match=r"has spec\.bounces"):
        open_bounce_ledgers(site.settings())


def test_an_intake_reads_profiles_of_a_later_release_and_says_what_it_leaves_out(site: Site) -> None:
    one = profile()
    one["metadata"]["annotations"] = {FORMAT_ANNOTATION: PROFILE_FORMAT}
    one["spec"]["bounces"]["later"] = True
    site.tell(one)
    site.ledger.touch()
    with capture_logs() as lines:
        ledgers = open_bounce_ledgers(site.settings())
    assert ledgers.unknown_fields == ["shop/orders: spec.bounces.later"]
    assert [line["fields"] for line in lines] == [ledgers.unknown_fields]


def test_an_intake_without_a_ledger_says_who_makes_one(site: Site) -> None:
    with pytest.raises(Rejected, match="Start the worker first"):
        open_bounce_ledgers(site.settings())


def test_the_settings_that_are_missing_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in os.environ if name.startswith("POSTROOM_")]:
        monkeypatch.delenv(name)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "POSTROOM_BOUNCES_PROFILES: is not set" in capsys.readouterr().err


class Program:
    """`postroom bounces` as a process."""

    def __init__(self, site: Site, **changes: str) -> None:
        self.log = site.folder / "bounces.log"
        given = {
            "POSTROOM_BOUNCES_PROFILES": str(site.folder / "profiles"),
            "POSTROOM_SECRETS": str(site.folder / "secrets"),
            "POSTROOM_BOUNCES_SMTP": "127.0.0.1:0",
            "POSTROOM_BOUNCES_HTTP": "127.0.0.1:0",
        }
        command = [sys.executable, "-m", "postroom", "bounces"]
        with self.log.open("wb") as log:
            environment = {**os.environ, **given, **changes}
            self.process = subprocess.Popen(command, env=environment, stderr=log, stdout=log)

    def logged(self, event: str) -> dict[str, Any]:
        """The first line of the log that says this."""
        for line in self.log.read_text().splitlines():
            if line.startswith("{") and (entry := json.loads(line))["event"] == event:
                return dict(entry)
        return {}

    def place(self, name: str) -> tuple[str, int]:
        wait_until(lambda: bool(self.logged("bounces ready")), "the intake listens", 30)
        host, _, port = self.logged("bounces ready")[name].rpartition(":")
        return host, int(port)

    def page(self, path: str) -> httpx.Response:
        host, port = self.place("http")
        return httpx.get(f"http://{host}:{port}{path}")

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


@pytest.fixture
def programs() -> Iterator[Callable[..., Program]]:
    begun: list[Program] = []

    def begin(site: Site, **changes: str) -> Program:
        begun.append(Program(site, **changes))
        return begun[-1]

    yield begin
    for one in begun:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()


@pytest.mark.postgres
def test_the_program_waits_for_its_secret_takes_reports_and_ends_in_order(
    site: Site, postgres_ledger: str, programs: Callable[..., Program]
) -> None:
    async def letters() -> None:
        member = LedgerMember("shop/orders", "w")
        ledger = await PostgresLedger.open(postgres_ledger, SCHEMA, member, WINDOW, NOON)
        await letter_in(ledger, State.ACCEPTED)
        await ledger.close()

    asyncio.run(letters())
    program = programs(site)
    assert program.page("/healthz").status_code == 200
    ready = program.page("/readyz")
    assert (ready.status_code, "Secret shop/postroom-connections" in ready.text) == (503, True)
    door = Door(program.place("smtp"), BounceStats())
    assert door._send(sample("exim"), PATH, smtplib.SMTP) == 451
    site.mount("postroom-connections", {"ledger-url": postgres_ledger})
    wait_until(lambda: program.page("/readyz").status_code == 200, "the intake is ready", 20)
    assert door._send(sample("exim"), PATH, smtplib.SMTP) == 250
    metrics = program.page("/metrics").text
    assert 'postroom_bounces_letters_total{state="bounced"} 1.0' in metrics
    assert 'postroom_bounces_refused_total{reason="not_yet"} 1.0' in metrics
    assert "postroom_bounces_ready 1.0" in metrics
    assert program.page("/statusz").json()["complaints_at"] == {
        "shop/orders": RING.complaint_address("shop/orders")
    }
    assert program.end() == 0
    log = program.log.read_text()
    assert "Traceback" not in log
    assert "@" not in log.replace("postroom@", "")
    upkeep = LedgerAdministration.open_server(postgres_ledger, SCHEMA)
    assert upkeep.transaction(lambda c: c.exec_driver_sql("SELECT state FROM letter").scalars().all()) == [
        "bounced"
    ]
    upkeep.close()


@pytest.mark.kafka
def test_a_letter_goes_out_comes_back_and_its_bounce_is_told_on_the_status_topic(
    own_broker: LocalBroker, recording_sink: RecordingSink, site: Site, programs: Callable[..., Program]
) -> None:
    """Everything that runs in a cluster: worker, intake, broker, and a relay that reports later."""
    asked = {"bounces": {"domain": DOMAIN, "secretRef": {"name": "return-paths"}}}
    plant = WorkerUnderTest(site.folder / "plant", own_broker.bootstrap, recording_sink.address)
    telling(plant, "Captured", "Bounced", **asked)
    plant.start(POSTROOM_SECRETS=str(site.folder / "secrets"))
    try:
        publish(own_broker.bootstrap, events(5, seed=1))
        wait_until(lambda: plant.through(5), "every letter settled")
        assert len(recording_sink.senders) == 5
        program = programs(
            site,
            POSTROOM_BOUNCES_PROFILES=str(plant.folder),
            POSTROOM_BOUNCES_LEDGERS=str(plant.folder),
        )
        wait_until(lambda: program.page("/readyz").status_code == 200, "the intake is ready")
        door = Door(program.place("smtp"), BounceStats())
        paths = sorted(recording_sink.senders)[:2]
        assert [door._send(sample("exchange"), path, smtplib.SMTP) for path in paths] == [250, 250]
        wait_until(
            lambda: plant.query("SELECT count(*) FROM notification_outbox") == [(0,)], "every notice arrived"
        )
        assert program.end() == 0
        assert "Traceback" not in program.log.read_text()
    finally:
        assert plant.end() == 0
    states = [data["state"] for _, _, data in published_events(own_broker.bootstrap)]
    assert sorted(states) == ["bounced"] * 2 + ["captured"] * 5
    assert plant.query("SELECT state, count(*) FROM letter GROUP BY state") == [
        ("bounced", 2),
        ("captured", 3),
    ]
    assert plant.query("SELECT * FROM suppression") == []
