"""Senders that break the rules of SMTP, at the sandbox."""

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path

from postroom.http.endpoint import Endpoint
from postroom.sandbox import mta
from postroom.sandbox.mta import MailServer
from postroom.sandbox.search import LetterFilter
from postroom.sandbox.store import LetterStore
from postroom.startup import listen
from tests.badinputs.row import Answers, BadInput, only

SANDBOX = "sandbox"
MTA = "sandbox/test_mta.py"
ENVELOPE = b"MAIL FROM:<a@x.org>\r\nRCPT TO:<b@y.org>\r\nDATA\r\n"
GOOD = ENVELOPE + b"\r\nHello\r\n.\r\n"
QUIT = b"QUIT\r\n"
LETTER_ID = "250 2.0.0 Stored as letter"


async def _converse(sent: bytes, store: LetterStore) -> list[str]:
    """All replies to bytes sent at once, without those of greeting and EHLO, and without letter numbers."""
    server = MailServer(store, lambda _: None)
    where = await server.start(listen(Endpoint("127.0.0.1", 0), "the test"))
    reader, writer = await asyncio.open_connection(*where)
    writer.write(b"EHLO test\r\n" + sent)
    replies = (await asyncio.wait_for(reader.read(), 10)).decode().splitlines()
    writer.close()
    await server.stop()
    heard = [line for line in replies[1:] if line[3:4] == " "][1:]
    return [LETTER_ID if line.startswith(LETTER_ID) else line for line in heard]


def _said(
    sent: bytes, *which: int, letters: int = 0, limit: int = mta.MAX_LETTER_BYTES
) -> Callable[[], Answers]:
    """The replies `which`; asserts the number of stored letters."""

    def ask() -> Answers:
        largest, mta.MAX_LETTER_BYTES = mta.MAX_LETTER_BYTES, limit
        try:
            with tempfile.TemporaryDirectory() as folder:
                store = LetterStore(Path(folder, "sandbox.sqlite"))
                heard = asyncio.run(_converse(sent, store))
                kept = len(store.find(LetterFilter(), 10))
                store.close()
        finally:
            mta.MAX_LETTER_BYTES = largest
        assert kept == letters, (kept, heard)
        return only(SANDBOX, *(heard[each] for each in which))

    return ask


SMUGGLED = ENVELOPE + b"x\n.\nMAIL FROM:<evil@x.org>\nRCPT TO:<victim@y.org>\nDATA\ny\n\r\n.\r\n"
LONG_LETTER = ENVELOPE + (b"x" * 900 + b"\r\n") * 30 + b".\r\n"
ROWS = (
    BadInput("smtp-auth", "SMTP", "AUTH in the clear",
        _said(b"AUTH PLAIN AGEAYg==\r\n" + QUIT, 0), (f"{MTA}::test_auth_in_the_clear_is_refused",)),
    BadInput("smtp-smuggled", "SMTP", "a second envelope behind a dot between bare line feeds: content",
        _said(SMUGGLED + QUIT, 3, letters=1), (f"{MTA}::test_a_smuggled_envelope_stays_content",)),
    BadInput("smtp-starttls", "SMTP", "STARTTLS with commands pipelined behind it: read in the clear",
        _said(b"STARTTLS\r\n" + GOOD + QUIT, 0, 1, letters=1),
        (f"{MTA}::test_starttls_is_refused_and_the_session_goes_on_in_plain_text",)),
    BadInput("smtp-size", "SMTP", "`SIZE=` over the limit; then a good letter",
        _said(b"MAIL FROM:<a@x.org> SIZE=26214401\r\n" + GOOD + QUIT, 0, 4, letters=1),
        (f"{MTA}::test_a_declared_size_over_the_limit_is_refused_and_the_session_goes_on",)),
    BadInput("smtp-content", "SMTP", "content over the limit (here 10,000 bytes); then a good letter",
        _said(LONG_LETTER + GOOD + QUIT, 3, 7, letters=1, limit=10_000),
        (f"{MTA}::test_a_letter_over_the_limit_is_refused_and_the_session_goes_on",)),
    BadInput("smtp-command", "SMTP", "a command of 600 bytes",
        _said(b"NOOP " + b"x" * 600 + b"\r\n" + QUIT, 0),
        (f"{MTA}::test_a_command_of_600_bytes_is_refused",)),
    BadInput("smtp-line", "SMTP", "a line of 1,001 bytes; then a good letter",
        _said(ENVELOPE + b"x" * 999 + b"\r\n.\r\n" + GOOD + QUIT, 3, 7, letters=1),
        (f"{MTA}::test_a_line_over_1000_bytes_is_refused_and_the_session_goes_on",)),
    BadInput("smtp-garbage", "SMTP", "garbage, five times: the connection is closed",
        _said(b"\x00\x01\x02\r\n" * 5, -1), (f"{MTA}::test_garbage_ends_the_session_at_the_fifth_line",)),
)  # fmt: skip
