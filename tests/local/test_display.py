"""What a person sees: the live page, a letter's facts, the table of samples, at 80 columns and at 130."""

import io
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from rich.console import Console, RenderableType

from postroom.adapters.ledger.reader import AttemptView, LetterView, ReportView
from postroom.local import display, letters, send, session, terminal
from postroom.local.display import ProfileStatus, Rates, Snapshot
from postroom.local.manifests import Finding
from postroom.local.session import SampleDelivery

AT = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
LETTER = LetterView(
    row=1, profile="default/shop", source="kafka://postroom.default.shop", event_id="m-1",
    event_type="user.welcomed", recipient="mira.de.smet@example.org", state="deferred",
    in_doubt_count=1, due=AT,
    code="relay_deferred", reason="the relay answered not now", reply="451 4.3.0 later", template="welcome",
    revision="0123456789ab", message_id="<a@b>", topic="postroom.default.shop", partition=2, offset=7,
    user_id=None, request_id="r-9", received=AT, updated=AT,
    attempts=(
        AttemptView(AT, "deferred", "rcpt", 451, "4.3.0 later", "0123456789ab"),
        AttemptView(AT, "in_doubt", None, None, "the worker died", None),
        AttemptView(AT, "unreachable", "connect", None, "refused", "0123456789ab", "default/spare"),
    ),
    reports=(ReportView(AT, "failed", "5.1.1", "mx.example.org", "550 5.1.1 unknown"),),
)  # fmt: skip
PROFILE = ProfileStatus("shop", "postroom.default.shop", "Sandbox", (), 3, {"captured": 14, "deferred": 1}, 6)


def shown(what: RenderableType, width: int = 80, height: int = 24) -> str:
    console = Console(file=io.StringIO(), width=width, height=height)
    console.print(what)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def page(latest: Sequence[LetterView] = (), **changes: object) -> display.StatusPage:
    snapshot = Snapshot(0.0, (PROFILE,), tuple(latest))
    plain = display.StatusPage(
        [("inbox", "http://127.0.0.1:8025")], snapshot, {"shop": 2.5}, "postroom send x"
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("width", [80, 120])
def test_the_page_fits_its_terminal(width: int) -> None:
    text = shown(display.draw_page(page([LETTER] * 20)), width)
    assert max(map(len, text.splitlines())) <= width
    for word in ("http://127.0.0.1:8025", "14 captured, 1 deferred", "2.5", "welcome@0123456789ab"):
        assert word in text


@pytest.mark.parametrize("height", [24, 50])
def test_problems_come_before_the_letters_which_fill_the_remaining_lines(height: int) -> None:
    findings = [Finding(f"m/{number}.yaml", 1, "css_invalid", "no " * 30) for number in range(9)]
    lines = shown(display.draw_page(page([LETTER] * 90, findings=findings)), height=height).splitlines()
    places = {
        word: next(n for n, line in enumerate(lines) if word in line) for word in ("m/0.y", "Ctrl-C", "@")
    }
    assert places["m/0.y"] < places["Ctrl-C"] < places["@"]
    assert len(lines) == height


def test_many_findings_leave_the_last_line_visible_on_a_small_terminal() -> None:
    findings = [Finding(f"m/{number}.yaml", 1, "css_invalid", "no " * 60) for number in range(9)]
    lines = shown(display.draw_page(page([LETTER], findings=findings)), height=16).splitlines()
    assert len(lines) <= 16
    assert any("Ctrl-C" in line for line in lines)
    assert any("more: postroom check" in line for line in lines)


def test_rejected_records_are_counted_with_the_last_reason() -> None:
    rejecting = replace(
        PROFILE, rejected=3, last_rejection="postroom.default.shop/0/7: recipient: no address"
    )
    text = " ".join(shown(display.draw_page(page(snapshot=Snapshot(0.0, (rejecting,))))).split())
    assert "3 records are rejected, on postroom.default.shop.dlq" in text
    assert "recipient: no address" in text


def test_a_long_example_can_be_copied_from_a_narrow_page() -> None:
    lines = shown(
        display.draw_page(page(example="postroom send x --to mira@example.com 'name=Mira de Smet'")), 40
    )
    (first,) = (line for line in lines.splitlines() if line.startswith("postroom send"))
    assert first.endswith("\\")


def test_recipients_are_masked_on_the_page_and_shown_by_postroom_letter() -> None:
    assert "mira.de.smet" not in shown(display.draw_page(page([LETTER])))
    assert "mira.de.smet@example.org" in shown(letters.draw_letters([LETTER]))


def test_reports_about_a_letter_follow_its_attempts() -> None:
    lines = shown(letters.draw_letters([LETTER]), width=120).splitlines()
    [line] = [line for line in lines if "mx.example.org" in line]
    assert line.split() == [
        "failed",
        "2026-05-04T12:00:00Z",
        "5.1.1",
        "mx.example.org",
        "550",
        "5.1.1",
        "unknown",
    ]


def test_an_empty_page_has_a_command_that_sends_a_letter() -> None:
    assert "postroom send x" in shown(display.draw_page(page()))


def test_current_findings_are_on_the_page_and_the_rest_is_counted() -> None:
    findings = [Finding(f"m/{number}.yaml", 1, "css_invalid", "no") for number in range(9)]
    text = shown(display.draw_page(page(findings=findings, notes=["the broker exited; restarting"])))
    assert "m/0.yaml:1:1: css_invalid" in text
    assert "and 3 more" in text
    assert "the broker exited" in text


def test_an_unhealthy_worker_and_a_held_back_template_are_shown() -> None:
    unhealthy = replace(PROFILE, problems=("kafka: no broker answers",), held_back=("welcome",), lag=None)
    text = shown(display.draw_page(page(snapshot=Snapshot(0.0, (unhealthy,)))))
    assert "shop: kafka: no broker answers" in text
    assert "welcome serves its last good revision" in text


def test_values_that_a_worker_does_not_report_are_shown_as_unknown() -> None:
    silent = replace(PROFILE, mode="", lag=None)
    lines = shown(display.draw_page(page(snapshot=Snapshot(0.0, (silent,))))).splitlines()
    [row] = [line for line in lines if line.strip().startswith("shop")]
    assert row.split()[:4] == ["shop", "–", "6", "–"]
    assert [display.total_lag(each) for each in ([PROFILE], [PROFILE, silent], [])] == ["3", "–", "0"]


def test_a_run_without_a_profile_says_so() -> None:
    assert "No SmtpProfile yet" in shown(display.draw_page(page(snapshot=Snapshot(0.0))))


def test_every_state_of_the_ledger_has_a_colour() -> None:
    from postroom.ports.ledger import State

    assert set(terminal.STATE_COLOURS) == {str(state) for state in State}


def test_a_letter_is_shown_with_all_facts() -> None:
    text = shown(letters.draw_letters([LETTER]), 120)
    for word in (
        "deferred",
        "m-1",
        "451 4.3.0 later",
        "relay_deferred",
        "<a@b>",
        "due",
        "partition 2 offset 7",
    ):
        assert word in text
    assert "copies may have arrived" in text
    assert "2026-05-04T12:00:00Z" in text
    assert "rcpt" in text


def test_each_attempt_names_the_profile_of_its_relay() -> None:
    lines = shown(letters.draw_letters([LETTER]), 140).splitlines()
    first, second, third = (line for line in lines if line.strip()[:1].isdigit())
    assert "default/shop" in first
    assert "fallback" not in first
    assert "default/" not in second
    assert "default/spare (fallback)" in third


def test_a_problem_code_is_not_repeated() -> None:
    letter = replace(LETTER, reason="relay: the relay answered not now (relay_deferred)")
    assert shown(letters.draw_letters([letter]), 120).count("relay_deferred") == 1
    assert send.letter_reason(LETTER) == "relay_deferred: the relay answered not now"


@pytest.mark.parametrize("width", [80, 130])
def test_the_samples_table_keeps_state_and_time_at_every_width(width: int) -> None:
    sent = SampleDelivery(
        "user.welcomed", "mira@example.org", "ada", "shop", "m-1", "captured", "Welcome", "w@1", 12
    )
    text = shown(
        session.results_table([sent, replace(sent, state="failed", milliseconds=None)], width), width
    )
    assert max(map(len, text.splitlines())) <= width
    for word in ("captured", "failed", "12", "mira@example.org", "Welcome", "w@1"):
        assert word in text


def test_a_rate_is_averaged_over_the_last_snapshots() -> None:
    rates = Rates()
    assert rates.update(Snapshot(0.0, (PROFILE,))) == {"shop": 0.0}
    assert rates.update(Snapshot(2.0, (replace(PROFILE, letters={"captured": 24, "claimed": 9}),))) == {
        "shop": 4.5
    }
