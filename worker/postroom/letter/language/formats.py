"""Filters for letters: dates, money, numbers and plurals in the letter's own language.

Each takes a value of the event's data and gives text, with the locale read from `letter.locale`. What
cannot be formatted raises `Unsuitable`, whose message names the filter and never the value.
"""

from datetime import date, datetime, tzinfo
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any

from babel import Locale, UnknownLocaleError, dates, numbers
from jinja2 import pass_context
from jinja2.runtime import Context

from postroom.letter.language.bounds import Unsuitable

LARGEST = Decimal(10) ** 15
STYLES = ("short", "medium", "long", "full")


@lru_cache(maxsize=256)
def locale_of(tag: str) -> Locale:
    """The nearest locale there is data for: `de-AT`, else `de`, else English."""
    for candidate in (tag, tag.partition("-")[0]):
        try:
            return Locale.parse(candidate, sep="-")
        except (ValueError, UnknownLocaleError):
            continue
    return Locale("en")


@lru_cache(maxsize=256)
def _zone(name: str) -> tzinfo:
    try:
        return dates.get_timezone(name)
    except (LookupError, ValueError, TypeError):
        raise Unsuitable(f"`{name[:40]}` is not a time zone; write one like Europe/Berlin") from None


def _moment(value: Any, name: str) -> datetime | date:
    if isinstance(value, date):
        return value
    if isinstance(value, str) and len(value) <= 40:
        try:
            return date.fromisoformat(value) if len(value) == 10 else datetime.fromisoformat(value)
        except ValueError:
            pass
    raise Unsuitable(f"`{name}` needs an ISO 8601 date or time, such as 2026-11-23T09:30:00Z")


def _style(style: str, name: str) -> Any:
    if style not in STYLES:
        raise Unsuitable(f"`{name}` takes the style {', '.join(STYLES)}")
    return style


def _number(value: Any, name: str) -> Decimal:
    try:
        if isinstance(value, bool):
            raise TypeError
        number = Decimal(value if isinstance(value, int) else str(value)[:40])
        if number.is_finite() and abs(number) < LARGEST and number.as_tuple().exponent >= -15:  # type: ignore[operator]
            return number
    except (InvalidOperation, ValueError, TypeError):
        pass
    raise Unsuitable(f"`{name}` needs a number below a thousand million millions")


def _hashable(value: Any) -> Any:
    return value if isinstance(value, str | int | float | date) else None


def _tag(context: Context) -> str:
    tag: str = context.parent["letter"]["locale"]
    return tag


# The same prices and days come again and again, and CLDR's patterns take ten microseconds each.
# Typed, since 1 and true are equal and not the same.
cached = lru_cache(maxsize=4096, typed=True)


@cached
def write_day(tag: str, value: Any, style: str, zone: str) -> str:
    """A date, in a zone when it has an hour."""
    moment = _moment(value, "date")
    if isinstance(moment, datetime) and moment.tzinfo:
        moment = moment.astimezone(_zone(zone))
    return dates.format_date(moment, _style(style, "date"), locale=locale_of(tag))


@cached
def write_hour(tag: str, value: Any, style: str, zone: str) -> str:
    """A time of day."""
    moment = _moment(value, "time")
    if not isinstance(moment, datetime):
        raise Unsuitable("`time` needs a time of day, and this is a date alone")
    return dates.format_time(moment, _style(style, "time"), tzinfo=_zone(zone), locale=locale_of(tag))


@cached
def write_moment(tag: str, value: Any, style: str, zone: str) -> str:
    """Date and time of day."""
    moment, locale = _moment(value, "datetime"), locale_of(tag)
    return dates.format_datetime(moment, _style(style, "datetime"), tzinfo=_zone(zone), locale=locale)


@cached
def write_money(tag: str, value: Any, currency: str) -> str:
    """An amount."""
    number = _number(value, "money")
    if not (len(currency) == 3 and currency.isascii() and currency.isupper()):
        raise Unsuitable("`money` needs a currency code of three capitals, such as EUR")
    return numbers.format_currency(number, currency, locale=locale_of(tag))


@pass_context
def format_day(context: Context, value: Any, style: str = "medium", zone: str = "UTC") -> str:
    """`{{ at|date }}`, `{{ at|date("long", "Europe/Berlin") }}`."""
    return write_day(_tag(context), _hashable(value), str(style), str(zone))


@pass_context
def format_hour(context: Context, value: Any, style: str = "short", zone: str = "UTC") -> str:
    """`{{ at|time }}`: the hour of a time, in a zone."""
    return write_hour(_tag(context), _hashable(value), str(style), str(zone))


@pass_context
def format_moment(context: Context, value: Any, style: str = "medium", zone: str = "UTC") -> str:
    """`{{ at|datetime }}`: date and hour, in a zone."""
    return write_moment(_tag(context), _hashable(value), str(style), str(zone))


@pass_context
def format_money(context: Context, value: Any, currency: str) -> str:
    """`{{ total|money("EUR") }}`: an ISO 4217 code, the locale's way of writing it."""
    return write_money(_tag(context), _hashable(value), str(currency))


@pass_context
def format_number(context: Context, value: Any) -> str:
    """`{{ count|number }}`: grouped digits."""
    return numbers.format_decimal(_number(value, "number"), locale=locale_of(_tag(context)))


@pass_context
def format_share(context: Context, value: Any) -> str:
    """`{{ 0.25|percent }}`: a quarter is 25%."""
    return numbers.format_percent(_number(value, "percent"), locale=locale_of(_tag(context)))


@pass_context
def choose_plural(context: Context, value: Any, **forms: Any) -> str:
    """`{{ n|plural(one="item", other="items") }}`: the CLDR category of the number in this language."""
    if "other" not in forms or not all(isinstance(form, str) for form in forms.values()):
        raise Unsuitable('`plural` needs at least other="…"; the forms are zero, one, two, few, many, other')
    category = locale_of(_tag(context)).plural_form(abs(_number(value, "plural")))
    return str(forms.get(category, forms["other"]))


FORMATS = {
    "date": format_day,
    "time": format_hour,
    "datetime": format_moment,
    "money": format_money,
    "number": format_number,
    "percent": format_share,
    "plural": choose_plural,
}
