"""Bad records and bad events: the answers of the worker; the gateway gives the same to a request."""

import asyncio
from collections.abc import Callable
from typing import Any

from postroom.adapters.metrics import WorkerMetrics
from postroom.letter.catalog import RenderedLetter
from postroom.letter.event import Event, Record, parse_event
from postroom.letter.problems import Rejected
from postroom.worker.telemetry import Reporter
from tests.badinputs.row import Answers, BadInput, only
from tests.delivery import letters
from tests.delivery.pipeline_harness import Bench
from tests.letter.events import ENVELOPE, FILE, plain, record
from tests.letter.factories import live
from tests.letter.test_compose import finish

WORKER = "worker, dead letter"
TAKEN = "worker, letter"
STRICT = "letter/test_strict_json.py"
RULES = "letter/test_event_problems.py"
RENDER = "letter/test_renderer.py"
PIPELINE = "delivery/test_pipeline.py"
UNREAD = f"{RULES}::test_an_unreadable_value_has_its_code"
ONE = f"{RULES}::test_a_recipient_is_exactly_one_valid_address"
FILES = f"{RULES}::test_an_attachment_is_a_bare_name_a_type_and_base64"
DEAD = f"{PIPELINE}::test_bad_records_become_dead_letters_and_their_neighbours_pass"
ENCODED = "=?utf-8?q?a=0ABcc:_evil@x.org?="


def _answers(read: Callable[[], object]) -> Answers:
    try:
        found = read()
    except Rejected as rejected:
        return only(WORKER, *rejected.problems)
    return only(TAKEN, found)


def _value(name: str, given: str, value: bytes, *tests: str) -> BadInput:
    return BadInput(name, "Record", given, lambda: _answers(lambda: parse_event(record(value))), tests)


def _member(name: str, given: str, *tests: str, **changes: Any) -> BadInput:
    return BadInput(
        name, "Event", given, lambda: _answers(lambda: parse_event(record({**ENVELOPE, **changes}))), tests
    )


def _stored(name: str, given: str, value: Callable[[Event], object], *tests: str, **changes: Any) -> BadInput:
    """An event that is accepted, with the value that counts."""
    return BadInput(name, "Event", given, lambda: _answers(lambda: value(plain(**changes))), tests)


def _rendered(
    name: str, given: str, data: dict[str, str], value: Callable[[RenderedLetter], object], test: str
) -> BadInput:
    """An event whose letter is rendered, by a template about `name`."""
    return BadInput(
        name, "Event", given, lambda: _answers(lambda: value(live().render(plain(data=data)))), (test,)
    )


def _file(name: str, given: str, **changes: Any) -> BadInput:
    return _member(name, given, FILES, attachments=[{**FILE, **changes}])


def _subject(letter: RenderedLetter) -> str:
    """The subject in the composed letter."""
    head = finish(letter).decode().partition("\r\n\r\n")[0]
    return next(line for line in head.split("\r\n") if line.startswith("Subject:"))


def _parts(letter: RenderedLetter) -> str:
    html = letter.html.partition("<p>")[2].partition("</p>")[0]
    return f"html: {html}; text: {letter.text.strip()}"


def _batch(*records: Record) -> Answers:
    """The result of a batch: its dead letters, or the counted outcomes."""
    bench = Bench()
    progress = asyncio.run(bench.carry(*records))
    if progress.malformed:
        return only(WORKER, *(problem for one in progress.malformed for problem in one.problems))
    metrics = WorkerMetrics(dict, dict)
    Reporter(metrics, bench.clock).take(progress)
    samples = [sample for family in metrics.registry.collect() for sample in family.samples]
    counted = [one for one in samples if one.name == "postroom_records_total" and one.value]
    lines = (f'{one.name}{{kind="{one.labels["kind"]}"}} {one.value:.0f}' for one in counted)
    return only("worker, metric", *lines)


NUL = b'{"data": {"name": "a\\u0000b"}}'
TOMBSTONE = Record(letters.TOPIC, 0, 0, letters.NOON, b"k", None)
SECOND = letters.record("a", 1, data={"name": "Mallory"})
NAMESPACED = {"namespace": "payments"}

RECORDS = (
    BadInput("tombstone", "Record", "a tombstone (null value): skipped", lambda: _batch(TOMBSTONE), (DEAD,)),
    _value("empty", "an empty value", b"", UNREAD, DEAD),
    _value("no-utf-8", "`\\xff\\xfe`", b"\xff\xfe", UNREAD, DEAD),
    _value("byte-order-mark", "a byte order mark, then JSON", b"\xef\xbb\xbf{}", UNREAD),
    _value("hundred-thousand-brackets", "`[`, 100,000 times", b"[" * 100_000, UNREAD, DEAD),
    _value("nan", '`{"data": NaN}`', b'{"data": NaN}', UNREAD),
    _value("endless-number", '`{"data": 1e999}`', b'{"data": 1e999}', UNREAD),
    _value("duplicate-key", "`recipient` twice", b'{"recipient": "a@x.org", "recipient": "b@x.org"}', UNREAD),
    _value("long-integer", "an integer of 5,000 digits", b'{"data": ' + b"1" * 5000 + b"}", UNREAD),
    _value("lone-surrogate", "`\\ud800` in a name", b'{"data": {"name": "\\ud800"}}', UNREAD),
    _value("thirty-megabytes", "a value of 30 MB", b'"' + b"a" * 30_000_000 + b'"', UNREAD,
           "faults/test_fault_brokers.py::test_an_event_of_30_mb_is_a_dead_letter_and_no_flood"),
    BadInput("other-payload", "Record", "the same id, another payload",
        lambda: _batch(letters.record("a"), SECOND),
        (f"{PIPELINE}::test_another_letter_under_a_known_id_is_a_dead_letter",)),
    BadInput("forged-namespace", "Record", "a `namespace` in the event: ignored, the topic decides",
        lambda: only(TAKEN, "the same event" if plain(**NAMESPACED) == plain() else "another event"),
        (f"{RULES}::test_a_namespace_in_the_event_is_ignored",)),
)  # fmt: skip

EVENTS = (
    _member("no-recipients", "`recipient: []`", ONE, recipient=[]),
    _member("null-recipient", "`recipient: null`", ONE, recipient=None),
    _member("many-recipients", "a list of 10,000 addresses", ONE, recipient=["a@x.org"] * 10_000),
    _member("two-in-one-text", "`a@x.org,b@y.org`", ONE, recipient="a@x.org,b@y.org"),
    _member("address-line-end", "`a@x.org\\n`", ONE, recipient="a@x.org\n"),
    _member("address-bracket", "`alice@e.org)bob@evil.org`", ONE, recipient="alice@e.org)bob@evil.org"),
    _member("long-local-part", "a local part of 65 octets", ONE, recipient="a" * 65 + "@x.org"),
    _member("long-domain", "a domain of 257 octets", ONE, recipient="a@" + "b." * 127 + "org"),
    _stored("mixed-scripts", "`ada@pаypal.com`, one letter of it Cyrillic",
            lambda event: f"{event.recipient}, flagged {', '.join(event.flags)}",
            f"{RULES}::test_a_domain_that_mixes_scripts_is_stored_in_ascii_and_flagged",
            recipient="ada@pаypal.com"),
    _rendered("subject-line-feed", "a line feed in a variable of the subject",
              {"name": "a\nBcc: evil@x.org"}, _subject,
              f"{RENDER}::test_a_line_end_in_a_subject_is_rejected"),
    BadInput("nul", "Event", "NUL in a variable", lambda: _answers(lambda: parse_event(record(NUL))),
        (f"{STRICT}::test_a_nul_character_is_rejected_with_its_path",)),
    _rendered("subject-encoded", f"`{ENCODED}` in the subject: shown, not decoded",
              {"name": ENCODED}, _subject,
              "letter/test_compose.py::test_text_that_looks_encoded_is_encoded_again"),
    _rendered("variable-missing", "a variable is missing", {}, _subject,
              f"{RENDER}::test_data_that_breaks_the_schema_is_rejected_by_name"),
    _rendered("script-in-a-name", "`<script>` in a name: escaped in HTML, as it is in the text",
              {"name": "<script>"}, _parts,
              f"{RENDER}::test_a_script_in_a_name_is_escaped_in_html_and_raw_in_text"),
    _file("file-path", "an attachment called `../../etc/x`", filename="../../etc/x"),
    _file("file-line-end", "an attachment called `a\\r\\nb.pdf`", filename="a\r\nb.pdf"),
    _file("file-url", "an attachment with `url: http://169.254.169.254/`", url="http://169.254.169.254/"),
)  # fmt: skip
ROWS = RECORDS + EVENTS
