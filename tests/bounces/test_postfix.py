"""A real Postfix finds no mailbox, reports it to the return path, and hands its report to the intake."""

import asyncio
import shutil
import smtplib
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from postroom.http.endpoint import Endpoint
from postroom.local.machine import free_port
from postroom.ports.ledger import Claimed, State
from postroom.smtpd import MailHandler, ReceivedMail, ServerLimits, ServerStats, SmtpServer
from postroom.startup import listen
from tests.bounces.test_bounces import DOMAIN, PATH, Site, opened, true, worker
from tests.delivery.async_test import async_test
from tests.delivery.letters import letter
from tests.fixtures.pipeline import wait_until
from tests.layers import find_postfix, missing_postfix, unavailable
from tests.ledger.ledger_contract import find_row, letter_in
from tests.letter.test_dsn import RETURN_PATH

pytestmark = pytest.mark.postfix

MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
error unix - - n - - error
retry unix - - n - - error
smtp unix - - n - - smtp
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
proxymap unix - - n - - proxymap
verify unix - - n - 1 verify
postlog unix-dgram n - n - 1 postlogd
"""
MAIN = """\
compatibility_level = 3.6
queue_directory = {home}/queue
data_directory = {home}/data
maillog_file = {home}/log
maillog_file_prefixes = {home}
mail_owner = postfix
inet_interfaces = loopback-only
inet_protocols = ipv4
myhostname = mail.larkfield.example
mydestination =
mynetworks = 127.0.0.0/8
alias_maps =
smtpd_relay_restrictions = permit_mynetworks, reject
relay_domains = {domain}
relay_recipient_maps =
smtpd_recipient_restrictions = check_recipient_access inline:{{ {domain}=reject_unverified_recipient }}
unverified_recipient_reject_code = 550
address_verify_poll_count = 18
address_verify_poll_delay = 1s
transport_maps = inline:{{ {{ example.net = smtp:[127.0.0.1]:{remote} }}, {{ {domain} = {way} }} }}
"""


class Postfix:
    """An instance of its own, in a folder."""

    def __init__(self, program: str) -> None:
        self.program, self.port = program, free_port()
        self.home = Path(tempfile.mkdtemp(prefix="postroom-postfix-"))
        self.home.chmod(0o755)

    def start(self, way: str, remote: int) -> None:
        """Listen; mail for the return paths goes this way, and all other to this port."""
        reported = {"home": self.home, "domain": DOMAIN, "way": way, "remote": remote}
        for name in ("etc", "queue", "data"):
            (self.home / name).mkdir()
        (self.home / "etc" / "master.cf").write_text(MASTER.format(port=self.port))
        (self.home / "etc" / "main.cf").write_text(MAIN.format(**reported))
        shutil.chown(self.home / "data", "postfix")
        self._run("start")
        wait_until(lambda: "daemon started" in self.log, "Postfix runs", 20)

    @property
    def log(self) -> str:
        path = self.home / "log"
        return path.read_text() if path.exists() else ""

    def stop(self) -> None:
        self._run("stop")
        shutil.rmtree(self.home, ignore_errors=True)

    def _run(self, verb: str) -> None:
        command = [self.program, "-c", str(self.home / "etc"), verb]
        subprocess.run(command, capture_output=True, text=True, check=False)


class NoSuchMailbox(MailHandler):
    """The mail server of a domain without mailboxes."""

    def refuse(self, address: str) -> str | None:
        return f"550 5.1.1 <{address}>: User unknown"

    async def take(self, incoming: ReceivedMail) -> str:
        raise AssertionError(incoming)


@pytest.fixture
def postfix() -> Iterator[Postfix]:
    if (missing := missing_postfix()) is not None:
        unavailable("a Postfix of the test's own", missing)
    one = Postfix(find_postfix() or "")
    yield one
    one.stop()


@pytest.mark.parametrize("way", ["lmtp:inet:127.0.0.1:{}", "smtp:[127.0.0.1]:{}"], ids=["lmtp", "smtp"])
def test_what_postfix_reports_is_a_bounce(tmp_path: Path, postfix: Postfix, way: str) -> None:
    site = Site(tmp_path)

    @async_test
    async def there_and_back() -> None:
        remote = SmtpServer(NoSuchMailbox(ServerLimits("mx", "mx", 10**6, 10**6), ServerStats()))
        _, port = await remote.start(listen(Endpoint("127.0.0.1", 0), "the test"))
        async with worker(site.ledger) as ledger:
            claimed = await letter_in(ledger, State.ACCEPTED)
            assert isinstance(claimed, Claimed)
            async with opened(site.settings()) as door:
                await asyncio.to_thread(postfix.start, way.format(door.endpoint[1]), port)
                await asyncio.to_thread(send)
                await true(lambda: door.stats.letters == {"bounced": 1})
                assert door.stats.suppressed == {"hard_bounce": 1}
                assert (await find_row(ledger)).state is State.BOUNCED
        await remote.stop()

    def send() -> None:
        with smtplib.SMTP("127.0.0.1", postfix.port) as client:
            client.ehlo()
            client.mail("")
            assert [client.rcpt(path)[0] for path in (PATH, RETURN_PATH)] == [250, 550]
        with smtplib.SMTP("127.0.0.1", postfix.port) as client:
            client.sendmail(PATH, [letter().identity.recipient], letter().content)

    try:
        there_and_back()
    except BaseException:
        print(postfix.log)
        raise
