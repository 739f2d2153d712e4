"""Filters for letters: dates, money, numbers and plurals in the letter's own language.

Each takes a value of the event's data and gives text, with the locale read from `letter.locale` or given as
`locale=`. Null gives nothing. What cannot be formatted raises `Unsuitable`, whose message names the filter
and never the value. Rounding is half away from zero, and without digits nothing is rounded that a price or a
rate would have (`EXACT` decimals). A time without an offset is UTC.
"""

import re
from collections.abc import Callable
from copy import copy
from datetime import UTC, date, datetime, time, tzinfo
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation, localcontext
from functools import lru_cache
from typing import Any

from babel import Locale, UnknownLocaleError, dates, numbers
from jinja2 import pass_context
from jinja2.runtime import Context, Undefined

from postroom.letter.language.bounds import Unsuitable

LARGEST = Decimal(10) ** 15
STYLES = ("short", "medium", "long", "full")
MAX_DIGITS = 15
EXACT = 6
"""Decimals that a number is written with when no digits are asked for. More come out of a division."""
OF_DIVISION = {"number": 3, "percent": 2}
"""Decimals that such a number is rounded to."""
MAX_PATTERN = 64
FIELDS_OF_DATE = frozenset("GyMLdEecqQw")
FIELDS_OF_TIME = frozenset("hHkKmsSabBzZvVXxO")
_QUOTED = re.compile(r"'[^']*'")
_RUN = re.compile(r"([A-Za-z])\1*")
_TIME_OF_DAY = re.compile(r"\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?")
_ZONE_APART = re.compile(r" (?=[+-]\d)| ?UTC$")
_LETTER_AT_DIGIT = re.compile(r"(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])")
"""Where CLDR's currencySpacing has a space: `CHF 1.00` beside `$1.00`."""
_OTHER_FIELDS = {
    "Y": "`Y` is the year of the week; write `y`",
    "D": "`D` is the day of the year; write `d`",
    "u": "write `y` for the year",
    "A": "write `a` for am and pm",
}


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
    """An ISO 8601 date or time; as databases and languages write them too (`2026-11-23 09:30:00 UTC`)."""
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, date):
        return value
    if isinstance(value, str) and len(value) <= 40:
        text = _ZONE_APART.sub(lambda found: "Z" if "U" in found[0] else "", value.strip().upper())
        try:
            return date.fromisoformat(text)
        except ValueError:
            pass
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            pass
        else:
            return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    hint = ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        hint = "; a number could be seconds or milliseconds, so give the text"
    raise Unsuitable(f"`{name}` needs an ISO 8601 date or time, such as 2026-11-23T09:30:00Z{hint}")


def _in_zone(moment: datetime, zone: str, name: str) -> datetime:
    try:
        return moment.astimezone(_zone(zone))
    except OverflowError:
        raise Unsuitable(f"`{name}` needs a date within the calendar") from None


@lru_cache(maxsize=256)
def _style(style: str, name: str, fields: frozenset[str]) -> str:
    """A style, or a pattern of CLDR (UTS #35) with fields that the filter has."""
    if style in STYLES:
        return style
    known = f"`{name}` takes the style {', '.join(STYLES)}, or a pattern such as `d MMMM y`"
    if "%" in style:
        raise Unsuitable(f"{known}; the fields are CLDR's, not those of strftime")
    if not style or len(style) > MAX_PATTERN:
        raise Unsuitable(known)
    bare = _QUOTED.sub("", style)
    runs = list(_RUN.finditer(bare))
    for run in runs:
        if run[1] in _OTHER_FIELDS:
            raise Unsuitable(f"{known}; {_OTHER_FIELDS[run[1]]}")
        if run[1] not in fields or len(run[0]) > 6:
            other = FIELDS_OF_DATE | FIELDS_OF_TIME
            hint = f"; `{run[0]}` is for `datetime`" if run[1] in other and len(run[0]) <= 6 else ""
            raise Unsuitable(known + (hint or "; write words in single quotes, as in `'of' MMMM`"))
    if not runs or "'" in bare:
        raise Unsuitable(f"{known}; write words in single quotes, as in `'of' MMMM`")
    try:
        dates.parse_pattern(style)
    except ValueError:
        raise Unsuitable(known) from None
    return style


def _number(value: Any, name: str) -> Decimal:
    try:
        if isinstance(value, bool):
            raise TypeError
        number = Decimal(value if isinstance(value, int) else str(value)[:40])
        if number.is_finite() and abs(number) < LARGEST and number.as_tuple().exponent >= -MAX_DIGITS * 2:  # type: ignore[operator]
            return number
    except (InvalidOperation, ValueError, TypeError):
        pass
    raise Unsuitable(f"`{name}` needs a number below a thousand million millions")


def _digits(value: Any, name: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_DIGITS:
        return value
    raise Unsuitable(f"`{name}` takes digits from 0 to {MAX_DIGITS}, as in `{name}(2)`")


def _tag(context: Context, locale: Any) -> str:
    tag = context.parent["letter"]["locale"] if locale is None else locale
    if isinstance(tag, str):
        return tag
    raise Unsuitable('`locale` takes a language tag such as "de-AT"')


def _hashable(value: Any) -> Any:
    """The value as the caches can hold it. Raises UndefinedError for what is not there."""
    if isinstance(value, str | int | float | date):
        return value
    if isinstance(value, Undefined):
        str(value)
    return False


# The same prices and days come again and again, and CLDR's patterns take ten microseconds each.
# Typed, since 1 and true are equal and not the same.
cached = lru_cache(maxsize=4096, typed=True)


@cached
def write_day(tag: str, value: Any, style: str, zone: str) -> str:
    """A date; of a time, the date that it has in the zone."""
    moment = _moment(value, "date")
    if isinstance(moment, datetime):
        moment = _in_zone(moment, zone, "date")
    return _written(dates.format_date, moment, _style(style, "date", FIELDS_OF_DATE), tag)


@cached
def write_hour(tag: str, value: Any, style: str, zone: str) -> str:
    """A time of day; one that has no date is written as it is."""
    form = _style(style, "time", FIELDS_OF_TIME)
    if isinstance(value, str) and _TIME_OF_DAY.fullmatch(value):
        try:
            moment = datetime.combine(date(2000, 1, 1), time.fromisoformat(value), UTC)
        except ValueError:
            raise Unsuitable("`time` needs a time of day, such as 09:30") from None
        return _written(dates.format_time, moment, form, tag)
    found = _moment(value, "time")
    if not isinstance(found, datetime):
        raise Unsuitable("`time` needs a time of day, and this is a date alone; write it with `date`")
    found = _in_zone(found, zone, "time")
    return _written(dates.format_time, found, form, tag, tzinfo=found.tzinfo)


@cached
def write_moment(tag: str, value: Any, style: str, zone: str) -> str:
    """Date and time of day."""
    moment = _moment(value, "datetime")
    if not isinstance(moment, datetime):
        raise Unsuitable("`datetime` needs a time of day too, and this is a date alone; write it with `date`")
    moment = _in_zone(moment, zone, "datetime")
    form = _style(style, "datetime", FIELDS_OF_DATE | FIELDS_OF_TIME)
    return _written(dates.format_datetime, moment, form, tag, tzinfo=moment.tzinfo)


def _written(function: Callable[..., str], moment: date, form: str, tag: str, **zone: Any) -> str:
    try:
        return function(moment, form, locale=locale_of(tag), **zone)
    except (ValueError, KeyError, AttributeError, OverflowError):
        raise Unsuitable(f"the pattern `{form}` does not suit the value") from None


def _apply(pattern: numbers.NumberPattern, value: Decimal, least: int, most: int, **parts: Any) -> str:
    """A number in a locale's pattern, with so many decimals, rounded half away from zero."""
    own = copy(pattern)
    own.frac_prec = (least, most)
    with localcontext(rounding=ROUND_HALF_UP, prec=60):
        return str(own.apply(value, currency_digits=False, **parts))


def _decimals(value: Decimal, digits: int | None, name: str) -> tuple[int, int]:
    """At least and at most so many decimals."""
    if digits is not None:
        return digits, digits
    there = max(0, -int(value.normalize().as_tuple().exponent))
    return 0, (EXACT if there <= EXACT else OF_DIVISION[name])


@cached
def write_money(tag: str, value: Any, currency: str, digits: Any) -> str:
    """An amount, with the decimals that its currency has."""
    number, digits = _number(value, "money"), _digits(digits, "money")
    if not (len(currency) == 3 and currency.isascii() and currency.isupper()):
        raise Unsuitable("`money` needs a currency code of three capitals, such as EUR")
    places = numbers.get_currency_precision(currency) if digits is None else digits
    locale = locale_of(tag)
    pattern = locale.currency_formats["standard"]
    return _LETTER_AT_DIGIT.sub(
        "\xa0", _apply(pattern, number, places, places, locale=locale, currency=currency)
    )


@cached
def write_number(tag: str, value: Any, digits: Any) -> str:
    """Grouped digits."""
    number, locale = _number(value, "number"), locale_of(tag)
    least, most = _decimals(number, _digits(digits, "number"), "number")
    return _apply(locale.decimal_formats[None], number, least, most, locale=locale)


@cached
def write_share(tag: str, value: Any, digits: Any) -> str:
    """A hundred times the value, with the sign of percent."""
    number, locale = _number(value, "percent"), locale_of(tag)
    least, most = _decimals(number.scaleb(2), _digits(digits, "percent"), "percent")
    return _apply(locale.percent_formats[None], number, least, most, locale=locale)


@pass_context
def format_day(
    context: Context, value: Any, style: str = "medium", zone: str = "UTC", locale: Any = None
) -> str:
    """The date, in a style or a pattern; of a time, its date in the zone."""
    if value is None:
        return ""
    return write_day(_tag(context, locale), _hashable(value), str(style), str(zone))


@pass_context
def format_hour(
    context: Context, value: Any, style: str = "short", zone: str = "UTC", locale: Any = None
) -> str:
    """The time of day, in the zone."""
    if value is None:
        return ""
    return write_hour(_tag(context, locale), _hashable(value), str(style), str(zone))


@pass_context
def format_moment(
    context: Context, value: Any, style: str = "medium", zone: str = "UTC", locale: Any = None
) -> str:
    """Date and time of day, in the zone."""
    if value is None:
        return ""
    return write_moment(_tag(context, locale), _hashable(value), str(style), str(zone))


@pass_context
def format_money(context: Context, value: Any, currency: Any, digits: Any = None, locale: Any = None) -> str:
    """An amount, as the language writes it; the currency is an ISO 4217 code."""
    if isinstance(currency, Undefined):
        str(currency)  # raises, with its name
    if value is None:
        return ""
    return write_money(_tag(context, locale), _hashable(value), str(currency), digits)


@pass_context
def format_number(context: Context, value: Any, digits: Any = None, locale: Any = None) -> str:
    """Grouped digits; without `digits` as many decimals as the number has."""
    if value is None:
        return ""
    return write_number(_tag(context, locale), _hashable(value), digits)


@pass_context
def format_share(context: Context, value: Any, digits: Any = None, locale: Any = None) -> str:
    """A share as percent: 0.25 is 25%; without `digits` as many decimals as it has."""
    if value is None:
        return ""
    return write_share(_tag(context, locale), _hashable(value), digits)


@pass_context
def choose_plural(context: Context, value: Any, **forms: Any) -> str:
    """The form that the number takes in the language: zero, one, two, few, many or other."""
    if "other" not in forms or not all(isinstance(form, str) for form in forms.values()):
        raise Unsuitable('`plural` needs at least other="…"; the forms are zero, one, two, few, many, other')
    category = locale_of(_tag(context, None)).plural_form(abs(_number(_hashable(value), "plural")))
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
