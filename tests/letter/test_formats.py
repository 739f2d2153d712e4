"""Dates, money and numbers in the reader's language: one moment, and nothing rounded away in silence."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.letter.language.bounds import RenderBudget
from postroom.letter.language.environment import TEXT, Script
from postroom.letter.problems import Code
from tests.letter.factories import refusal


def written(source: str, locale: str = "en", **data: object) -> str:
    return Script(TEXT, source, "x").render({"letter": {"locale": locale}, **data}, RenderBudget())


@pytest.mark.parametrize(
    ("locale", "source", "expected"),
    [
        ("en", "{{ 0.081|percent }} {{ 0.055|percent }} {{ 0.08875|percent }}", "8.1% 5.5% 8.875%"),
        ("en", "{{ 0.0000123|percent }} {{ 1.5|percent }} {{ 0|percent }}", "0.00123% 150% 0%"),
        ("en", "{{ (1 / 3)|percent }} {{ (2 / 3)|percent }}", "33.33% 66.67%"),
        ("en", "{{ (0.07 * 1.1)|percent }}", "7.7%"),
        ("en", "{{ 0.081|percent(0) }} {{ 0.085|percent(0) }} {{ 0.5|percent(2) }}", "8% 9% 50.00%"),
        ("de", "{{ 0.081|percent }} {{ 0.081|percent(locale='en') }}", "8,1\xa0% 8.1%"),
        ("de-CH", "{{ 1234567.5|number }} {{ 1234.5|number(2) }}", "1’234’567.5 1’234.50"),
        ("en", "{{ 0.0005|number }} {{ 0.123456|number }} {{ (10 / 3)|number }}", "0.0005 0.123456 3.333"),
        ("en", "{{ 2.5|number(0) }} {{ -2.5|number(0) }} {{ 2.675|number(2) }}", "3 -3 2.68"),
        ("en", "{{ '1234.5'|number(digits=1) }}", "1,234.5"),
        ("en", "{{ 0.125|money('USD') }} {{ 2.345|money('EUR') }}", "$0.13 €2.35"),
        ("en", "{{ 0.0035|money('EUR', 4) }} {{ 5|money('EUR', 0) }}", "€0.0035 €5"),
        ("en", "{{ 1000.4|money('JPY') }} {{ 1|money('KWD') }}", "¥1,000 KWD\xa01.000"),
        ("en", "{{ 1.5|money('EUR', locale='fr') }}", "1,50\xa0€"),
        ("en-IN", "{{ 12345678.9|money('INR') }}", "₹1,23,45,678.90"),
        ("en", "{{ -1.5|money('EUR') }}", "-€1.50"),
        ("en", "{{ '2026-11-23'|date('EEEE d MMMM') }}", "Monday 23 November"),
        ("de", "{{ '2026-11-23'|date(\"d. MMMM 'im Jahr' y\") }}", "23. November im Jahr 2026"),
        ("en", "{{ '2026-11-23T09:05:00Z'|time('HH:mm') }}", "09:05"),
        ("en", "{{ '2026-11-23T09:05:00Z'|datetime('d MMM, HH:mm') }}", "23 Nov, 09:05"),
        ("en", "{{ '2026-11-23'|date(locale='fr') }}", "23 nov. 2026"),
        ("en", "{{ '19:30'|time }} {{ '19:30:05'|time('HH:mm:ss', 'Asia/Tokyo') }}", "7:30\u202fPM 19:30:05"),
        ("en", "{{ 0|plural(one='item', other='items') }}", "items"),
    ],
)
def test_values_are_written_as_the_language_writes_them(locale: str, source: str, expected: str) -> None:
    assert written(source, locale) == expected


@pytest.mark.parametrize(
    "value",
    [
        "2026-11-23T23:30:00",
        "2026-11-23T23:30:00Z",
        "2026-11-23t23:30:00z",
        "2026-11-23 23:30:00",
        "2026-11-23 23:30:00 UTC",
        "2026-11-23 23:30:00 +0000",
        "2026-11-23T23:30:00.123456789Z",
        "2026-11-24T00:30:00+01:00",
        "20261123T233000Z",
        datetime(2026, 11, 23, 23, 30),  # noqa: DTZ001  a time without a zone is what is tried
        datetime(2026, 11, 23, 23, 30, tzinfo=UTC),
    ],
)
def test_a_time_is_one_moment_in_every_filter(value: object) -> None:
    source = (
        "{{ x|date('medium', 'Europe/Berlin') }}; {{ x|time('HH:mm', 'Europe/Berlin') }};"
        " {{ x|datetime('d MMM HH:mm', 'Europe/Berlin') }}; {{ x|date }} {{ x|time('HH:mm') }}"
    )
    assert written(source, x=value) == "Nov 24, 2026; 00:30; 24 Nov 00:30; Nov 23, 2026 23:30"


@given(
    st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)),  # noqa: DTZ001  naive on purpose
    st.sampled_from(["UTC", "Europe/Berlin", "America/Los_Angeles", "Pacific/Kiritimati", "Asia/Kolkata"]),
)
@settings(max_examples=100, deadline=None)
def test_date_and_time_are_the_parts_of_datetime(moment: datetime, zone: str) -> None:
    source = "{{ x|date('y-MM-dd', z) }} {{ x|time('HH:mm:ss', z) }}|{{ x|datetime('y-MM-dd HH:mm:ss', z) }}"
    apart, together = written(source, x=moment.isoformat(), z=zone).split("|")
    assert apart == together


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{{ '2026-11-23'|datetime }}", "this is a date alone; write it with `date`"),
        ("{{ '2026-11-23'|time }}", "this is a date alone; write it with `date`"),
        ("{{ '20261123'|time }}", "this is a date alone"),
        ("{{ 1764000000|date }}", "a number could be seconds or milliseconds"),
        ("{{ true|date }}", "`date` needs an ISO 8601 date or time"),
        ("{{ [1]|date }}", "`date` needs an ISO 8601 date or time"),
        ("{{ 'hunter2'|date }}", "`date` needs an ISO 8601 date or time"),
        ("{{ '25:00'|time }}", "`time` needs a time of day, such as 09:30"),
        ("{{ '2026-11-23'|date('%d.%m.%Y') }}", "the fields are CLDR's, not those of strftime"),
        ("{{ '2026-11-23'|date('DD.MM.y') }}", "`D` is the day of the year; write `d`"),
        ("{{ '2026-11-23'|date('d.M.YYYY') }}", "`Y` is the year of the week; write `y`"),
        ("{{ '2026-11-23'|date('d MMM HH:mm') }}", "`HH` is for `datetime`"),
        ("{{ '2026-11-23T10:00:00Z'|time('d. HH:mm') }}", "`d` is for `datetime`"),
        ("{{ '2026-11-23'|date('d. of MMMM') }}", "write words in single quotes"),
        ("{{ '2026-11-23'|date('dddddddd') }}", "`date` takes the style"),
        ("{{ '2026-11-23'|date(\"d 'of\") }}", "write words in single quotes"),
        ("{{ '2026-11-23'|date('') }}", "`date` takes the style"),
        ("{{ '2026-11-23'|date('...') }}", "`date` takes the style"),
        ("{{ '2026-11-23'|date('d' * 99) }}", "`*` needs numbers"),
        ("{{ '0001-01-01T00:00:00Z'|date('short', 'America/New_York') }}", "within the calendar"),
        ("{{ 1|number(16) }}", "`number` takes digits from 0 to 15"),
        ("{{ 1|percent(-1) }}", "`percent` takes digits"),
        ("{{ 1|percent('a') }}", "`percent` takes digits"),
        ("{{ 1|money('EUR', true) }}", "`money` takes digits"),
        ("{{ 1|number(locale=5) }}", "`locale` takes a language tag"),
        ("{{ 1|money('eur') }}", "three capitals"),
        ("{{ 'hunter2'|percent }}", "`percent` needs a number"),
    ],
)
def test_what_cannot_be_formatted_says_what_is_needed(source: str, words: str) -> None:
    problem = refusal(source)
    assert problem.code is Code.RENDER_FAILED
    assert words in problem.message
    assert "hunter2" not in problem.message


@given(st.decimals(-10_000, 10_000, places=6))
@settings(max_examples=100, deadline=None)
def test_six_decimals_are_never_rounded_away(value: object) -> None:
    number = float(str(value))
    assert float(written("{{ x|number }}", x=number).replace(",", "")) == number
