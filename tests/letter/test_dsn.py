"""Reports of real mail systems are parsed into facts; other messages never raise an exception."""

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.letter.dsn import (
    MAX_BOUNDARIES,
    MAX_REPORT_BYTES,
    ReportEntry,
    ReportKind,
    enhanced_status_in,
    most_specific_status,
    parse_report,
)

FOLDER = Path(__file__).parent / "reports"
MIRA = ("mira@example.net",)
UNKNOWN = "550 5.1.1 <mira@example.net>: Recipient address rejected: User unknown in virtual mailbox table"
NOT_FOUND = "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient mira@example.net not found by SMTP address"
RETURN_PATH = "b+jepwokhobkdzihogb37ow.7bu2fnci4wt5kdbu@bounces.larkfield.example"

SAMPLES = {
    "postfix": [ReportEntry(ReportKind.FAILED, "5.1.1", UNKNOWN, "mx.example.net", MIRA)],
    "exim": [ReportEntry(ReportKind.FAILED, "5.1.1", "550 5.1.1 No such user here", "mx.example.net", MIRA)],
    "exchange": [
        ReportEntry(
            ReportKind.FAILED,
            "5.1.10",
            f"{NOT_FOUND} lookup",
            "AM0PR01MB1234.eurprd01.prod.exchangelabs.com",
            MIRA,
        )
    ],
    "gmail": [
        ReportEntry(
            ReportKind.FAILED,
            "5.7.26",
            "550-5.7.26 This mail has been blocked because the sender is unauthenticated. 550-5.7.26 DKIM = "
            "did not pass 550 5.7.26 SPF [larkfield.example] with ip: [192.0.2.77] = did not pass - gsmtp",
            "gmail-smtp-in.l.google.com. (192.0.2.26, the server for the domain.)",
            MIRA,
        )
    ],
    "sendmail-delayed": [ReportEntry(ReportKind.DELAYED, "4.4.1", "", "mx.example.net", MIRA)],
    "postfix-delivered": [
        ReportEntry(ReportKind.DELIVERED, "2.0.0", "delivered to mailbox", "mail.example.net", MIRA)
    ],
    "alias-expanded": [
        ReportEntry(ReportKind.EXPANDED, "2.0.0", "", "mail.example.net", ("team@example.net",)),
        ReportEntry(
            ReportKind.RELAYED, "2.1.9", "", "in.example.net", ("ada@example.net", "team@example.net")
        ),
        ReportEntry(ReportKind.FAILED, "5.1.1", "", "mail.example.net", ("gone@example.net",)),
    ],
    "encoded": [ReportEntry(ReportKind.FAILED, "5.2.2", "", "odd.example", MIRA)],
    "complaint": [ReportEntry(ReportKind.COMPLAINT, "", "feedback-report: abuse", "SomeGenerator/1.0")],
    "not-spam": [ReportEntry(ReportKind.IGNORED, "", "feedback-report: not-spam")],
    "vacation": [ReportEntry(ReportKind.IGNORED, "", "Auto-Submitted: auto-replied (vacation)")],
    "outlook-away": [ReportEntry(ReportKind.IGNORED, "", "X-Auto-Response-Suppress")],
    "read-receipt": [ReportEntry(ReportKind.IGNORED, "", "multipart/report; disposition-notification")],
    "qmail": [ReportEntry(ReportKind.UNPARSED, "", "text/plain without a report that can be read")],
    "person": [ReportEntry(ReportKind.UNPARSED, "", "text/plain without a report that can be read")],
}


def sample(name: str) -> bytes:
    """The sample as it arrives over SMTP."""
    return (FOLDER / f"{name}.eml").read_bytes().replace(b"\n", b"\r\n")


def test_every_sample_is_in_the_table() -> None:
    assert {path.stem for path in FOLDER.glob("*.eml")} == {*SAMPLES, "international"}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_report_has_the_facts_that_its_mail_system_wrote(name: str) -> None:
    assert list(parse_report(sample(name)).entries) == SAMPLES[name]


def test_a_report_of_an_international_address_is_read() -> None:
    [entry] = parse_report(sample("international")).entries
    assert (entry.kind, entry.status, entry.text) == (ReportKind.FAILED, "5.1.1", "550 5.1.1 unknown")


@pytest.mark.parametrize("name", ["postfix", "exim", "qmail", "complaint"])
def test_the_return_path_that_a_report_quotes_is_found(name: str) -> None:
    assert parse_report(sample(name)).paths == (RETURN_PATH,)


@pytest.mark.parametrize("name", SAMPLES)
def test_trace_headers_do_not_change_the_fingerprint_of_a_report(name: str) -> None:
    again = b"Received: from somewhere; Sun, 29 Nov 2026 08:14:09 +0000\r\n" + sample(name)
    assert parse_report(again).fingerprint == parse_report(sample(name)).fingerprint


def test_different_reports_have_different_fingerprints() -> None:
    names = [path.stem for path in FOLDER.glob("*.eml")]
    assert len({parse_report(sample(name)).fingerprint for name in names}) == len(names)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_truncated_report_still_has_an_entry(name: str) -> None:
    whole = sample(name)
    for length in range(0, len(whole), 97):
        assert parse_report(whole[:length]).entries


@given(st.binary(max_size=2000))
def test_no_bytes_raise_an_exception(content: bytes) -> None:
    assert parse_report(content).entries


@settings(max_examples=200)
@given(
    name=st.sampled_from(sorted(SAMPLES)),
    at=st.integers(0, 3000),
    length=st.integers(0, 40),
    other=st.binary(max_size=40)
    | st.sampled_from([b"\0", b"\xff\xfe", b"=?utf-8?b?w6k=?=", b"*0*=''x", b";", b"--"]),
)
def test_no_damage_to_a_report_raises_an_exception(name: str, at: int, length: int, other: bytes) -> None:
    whole = sample(name)
    assert parse_report(whole[:at] + other + whole[at + length :]).entries


@given(st.text(), st.text())
def test_only_an_enhanced_status_code_is_found_as_status(status: str, diagnostic: str) -> None:
    expected = most_specific_status(status, diagnostic)
    assert expected == enhanced_status_in(expected)


@pytest.mark.parametrize(
    ("status", "diagnostic", "expected"),
    [
        ("5.1.1", "smtp; 550 5.7.1 no", "5.1.1"),
        ("5.0.0", "smtp; 550 5.1.1 unknown", "5.1.1"),
        ("5.0.0", "smtp; 451 4.7.1 later", "5.0.0"),
        ("5.0.0", "smtp; 550 host 5.1.1.1 says no", "5.0.0"),
        ("", "smtp; 550 5.1.1 unknown", "5.1.1"),
        ("5.1.1 (bad destination mailbox address)", "", "5.1.1"),
        ("15.1.1", "", ""),
        ("permanent", "", ""),
    ],
)
def test_the_more_specific_status_counts(status: str, diagnostic: str, expected: str) -> None:
    assert most_specific_status(status, diagnostic) == expected


def test_a_status_replaces_a_missing_action() -> None:
    for status, kind in (("5.1.1", ReportKind.FAILED), ("4.2.2", ReportKind.DELAYED)):
        changed = (
            sample("postfix")
            .replace(b"Action: failed\r\n", b"")
            .replace(b"Status: 5.1.1", f"Status: {status}".encode())
        )
        assert parse_report(changed).entries[0].kind is kind


def test_an_unknown_action_gives_no_entry() -> None:
    [entry] = parse_report(sample("postfix").replace(b"Action: failed", b"Action: pondered")).entries
    assert entry.kind is ReportKind.UNPARSED


HOSTILE = {
    "deep": b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(9000)
    ),
    "deep, few parts": b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n)
        for n in range(MAX_BOUNDARIES)
    )
    + b"\r\n" * MAX_REPORT_BYTES,
    "messages in messages": b"Content-Type: message/rfc822\r\n\r\n" * 9000,
    "many headers": b"A: b\r\n" * 50_000,
    "one long header": b"Content-Type: multipart/report; " + b'a="b;' * 60_000,
    "encoded parameters": b"Content-Type: multipart/report; " + b"a*1*=x; " * 30_000,
    "long words": b"Message-ID: " + b"=?utf-8?q?" * 20_000,
    "one boundary": b"Content-Type: multipart/report; boundary=x\r\n\r\n" + b"--x\r\n\r\n" * 40_000,
    "status groups": b"Content-Type: message/delivery-status\r\n\r\n" + b"Action: failed\r\n\r\n" * 15_000,
    "blank lines": b"Content-Type: message/global-delivery-status\r\n\r\n" + b"\n \t" * 80_000,
}


@pytest.mark.searches
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_message_takes_little_time(name: str) -> None:
    begun = time.process_time()
    assert parse_report(HOSTILE[name] * 2).entries
    assert time.process_time() - begun < 3
