"""Replies are parsed the same for any split of the bytes, and invalid bytes are never taken for a reply."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.adapters.smtp.dialer import Capabilities, read_capabilities
from postroom.adapters.smtp.reply import MAX_LINE, MAX_TEXT, ReplyReader, printable
from postroom.adapters.smtp.transaction import envelope_commands, find_incompatibility
from postroom.ports.relay import Envelope, Reply, Stage

texts = st.binary(max_size=60).map(lambda text: text.replace(b"\r", b"").replace(b"\n", b""))
replies = st.tuples(st.integers(200, 599), st.lists(texts, min_size=1, max_size=4))


def written(code: int, lines: list[bytes]) -> bytes:
    return b"".join(b"%d-%b\r\n" % (code, line) for line in lines[:-1]) + b"%d %b\r\n" % (code, lines[-1])


@given(st.lists(replies, max_size=4), st.data())
@settings(max_examples=40)
def test_any_split_of_the_bytes_gives_the_same_replies(
    sent: list[tuple[int, list[bytes]]], data: st.DataObject
) -> None:
    stream = b"".join(written(code, lines) for code, lines in sent)
    reader = ReplyReader()
    parsed = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        parsed += reader.feed(stream[:size])
        stream = stream[size:]
    assert [(code, text.rstrip(b"\r")) for code, text in parsed] == [(c, b"\n".join(ls)) for c, ls in sent]
    assert reader.error is None
    assert not reader.pending


@pytest.mark.parametrize(
    "garbage",
    [
        b"hello\r\n",
        b"25 0\r\n",
        b"150 wait\r\n",
        b"600 what\r\n",
        b"250_ok\r\n",
        b"\r\n",
        b"250-a\r\n251 b\r\n",
        b"\xff\xfe\r\n",
    ],
)
def test_garbage_is_an_error_and_the_replies_before_it_are_valid(garbage: bytes) -> None:
    reader = ReplyReader()
    assert [code for code, _ in reader.feed(b"250 fine\r\n" + garbage + b"250 more\r\n")] == [250]
    assert reader.error is not None
    assert reader.pending


def test_a_line_without_end_is_an_error_before_it_fills_the_memory() -> None:
    reader = ReplyReader()
    assert reader.feed(b"250-" + b"x" * MAX_LINE) == []
    assert reader.error is not None


def test_a_reply_without_end_is_an_error() -> None:
    reader = ReplyReader()
    assert reader.feed(b"250-more\r\n" * 1000) == []
    assert reader.error is not None


@pytest.mark.parametrize("line", [b"250\r\n", b"250 \r\n", b"250 ok\n"])
def test_a_reply_may_have_no_text_and_a_bare_line_end(line: bytes) -> None:
    assert [code for code, _ in ReplyReader().feed(line)] == [250]


@given(st.binary(max_size=700))
@settings(max_examples=40)
def test_the_stored_text_is_one_printable_line(text: bytes) -> None:
    stored = printable(text)
    assert stored.isprintable()
    assert len(stored) <= MAX_TEXT


def test_the_lines_of_a_reply_are_joined_by_a_space() -> None:
    assert printable(b"5.7.1 no\n5.7.1 really \xe2\x9c\x89\r") == "5.7.1 no 5.7.1 really ✉"


def test_the_reply_to_ehlo_is_parsed_without_regard_to_case_or_order() -> None:
    text = b"relay\nsize 1000\nPipelining\nAUTH PLAIN LOGIN\nAUTH=CRAM-MD5\n8bitmime\nSMTPUTF8\nSTARTTLS"
    assert read_capabilities(text) == Capabilities(
        pipelining=True,
        size=True,
        size_limit=1000,
        eightbit=True,
        smtputf8=True,
        starttls=True,
        auth=frozenset({"PLAIN", "LOGIN", "CRAM-MD5"}),
    )


@pytest.mark.parametrize("size", [b"SIZE", b"SIZE 0", b"SIZE much", b"SIZE -1"])
def test_a_size_without_a_number_is_no_limit(size: bytes) -> None:
    assert read_capabilities(b"relay\n" + size) == Capabilities(size=True)


@pytest.mark.parametrize("text", [b"", b"PIPELINING", b"relay\n\n \n"])
def test_the_first_line_of_ehlo_is_the_relays_name_and_blank_lines_are_nothing(text: bytes) -> None:
    assert read_capabilities(text) == Capabilities()


FULL = Capabilities(True, True, 1000, True, True)
PLAIN = Envelope("a@example.com", "b@example.net")
FOREIGN = Envelope("a@example.com", "żółw@example.net", smtputf8=True)


@pytest.mark.parametrize(
    ("envelope", "content", "relay", "mail"),
    [
        (PLAIN, b"x\r\n", Capabilities(), b"MAIL FROM:<a@example.com>\r\n"),
        (PLAIN, b"x\r\n", FULL, b"MAIL FROM:<a@example.com> SIZE=3\r\n"),
        (Envelope("", "b@example.net"), b"x\r\n", FULL, b"MAIL FROM:<> SIZE=3\r\n"),
        (PLAIN, b"\xc3\xa9\r\n", FULL, b"MAIL FROM:<a@example.com> SIZE=4 BODY=8BITMIME\r\n"),
        (FOREIGN, b"x\r\n", FULL, b"MAIL FROM:<a@example.com> SIZE=3 SMTPUTF8\r\n"),
    ],
)
def test_mail_declares_what_the_relay_offers(
    envelope: Envelope, content: bytes, relay: Capabilities, mail: bytes
) -> None:
    assert find_incompatibility(envelope, content, relay) is None
    assert envelope_commands(envelope, content, relay)[0] == mail


@pytest.mark.parametrize(
    ("envelope", "content", "relay", "stage", "code"),
    [
        (PLAIN, b"x" * 1001, FULL, Stage.MAIL, 552),
        (FOREIGN, b"x\r\n", Capabilities(), Stage.MAIL, 553),
        (PLAIN, b"\xc3\xa9\r\n", Capabilities(), Stage.MAIL, 554),
        (Envelope("a@example.com\r\nRCPT TO:<c@evil.org", "b@example.net"), b"", FULL, Stage.MAIL, 501),
        (Envelope("a@example.com", "b@example.net>\r\nDATA"), b"", FULL, Stage.RCPT, 501),
        (Envelope("a@example.com", "b@example.net> NOTIFY=NEVER"), b"", FULL, Stage.RCPT, 501),
        (Envelope("a@example.com", ""), b"", FULL, Stage.RCPT, 501),
        (Envelope("a@example.com", "b\x85@example.net"), b"", FULL, Stage.RCPT, 501),
        (Envelope("a@example.com", "b\ud800@example.net"), b"", FULL, Stage.RCPT, 501),
    ],
)
def test_a_letter_that_needs_a_missing_extension_is_rejected_by_the_client(
    envelope: Envelope, content: bytes, relay: Capabilities, stage: Stage, code: int
) -> None:
    rejection = find_incompatibility(envelope, content, relay)
    assert isinstance(rejection, Reply)
    assert (rejection.stage, rejection.code) == (stage, code)
    assert rejection.text.endswith("not sent")
    assert "evil" not in rejection.text


ADDRESSES = st.text(st.sampled_from("ab@.<> \r\n\0\x85\u2028é"), min_size=1, max_size=12)


@given(ADDRESSES, ADDRESSES)
@settings(max_examples=50)
def test_no_address_can_add_a_command(sender: str, recipient: str) -> None:
    envelope = Envelope(sender, recipient)
    if find_incompatibility(envelope, b"x\r\n", FULL) is None:
        mail, rcpt = envelope_commands(envelope, b"x\r\n", FULL)
        assert mail.count(b"\n") == rcpt.count(b"\n") == 1
        assert mail.count(b">") == rcpt.count(b">") == 1
