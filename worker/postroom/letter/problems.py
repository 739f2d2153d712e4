"""The stable problem codes: one vocabulary for the ledger, the metric labels, the conditions and the docs.

A `Problem` names the field, the broken rule and the way out. `Rejected` carries one or more problems and is
the only exception that the domain raises on purpose. `did_you_mean` adds the nearest known name to an error
about an unknown one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from typing import Self


class Code(StrEnum):
    """Why a letter, an event or a manifest was rejected. Values are published: never rename one."""

    # an event that cannot be read
    NOT_UTF8_JSON = "not_utf8_json"
    DUPLICATE_KEY = "duplicate_key"
    NUMBER_OUT_OF_RANGE = "number_out_of_range"
    LONE_SURROGATE = "lone_surrogate"
    TOO_DEEP = "too_deep"
    TOO_LARGE = "too_large"
    CONTENT_TYPE_UNSUPPORTED = "content_type_unsupported"
    FIELD_MISSING = "field_missing"
    FIELD_UNKNOWN = "field_unknown"
    FIELD_INVALID = "field_invalid"
    CONTROL_CHARACTER = "control_character"
    RECIPIENT_INVALID = "recipient_invalid"
    RECIPIENT_MISSING = "recipient_missing"
    ONE_ADDRESS_PER_ITEM = "one_address_per_item"
    ATTACHMENT_INVALID = "attachment_invalid"

    # an event that cannot become a letter
    TEMPLATE_MISSING = "template_missing"
    TEMPLATE_SUSPENDED = "template_suspended"
    VARIABLE_MISSING = "variable_missing"
    VARIABLE_UNKNOWN = "variable_unknown"
    VARIABLE_INVALID = "variable_invalid"
    RENDER_FAILED = "render_failed"
    RENDER_LIMIT = "render_limit"
    SENDER_NOT_ALLOWED = "sender_not_allowed"
    POISON = "poison"

    # a letter that was not sent
    EXPIRED = "expired"
    SUPPRESSED = "suppressed"
    ERASED = "erased"
    IDEMPOTENCY_MISMATCH = "idempotency_mismatch"
    TOO_OLD_TO_DEDUPLICATE = "too_old_to_deduplicate"
    DATED_AHEAD = "dated_ahead"
    SMTPUTF8_REQUIRED = "smtputf8_required"
    RELAY_REFUSED = "relay_refused"
    RELAY_DEFERRED = "relay_deferred"
    RELAY_UNREACHABLE = "relay_unreachable"
    CIRCUIT_OPEN = "circuit_open"
    RATE_LIMITED = "rate_limited"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    CONNECTION_LOST_AT_END_OF_DATA = "connection_lost_at_end_of_data"
    UNDECIDED = "undecided"
    BOUNCED = "bounced"

    # a manifest that cannot be accepted
    MANIFEST_INVALID = "manifest_invalid"
    TEMPLATE_SYNTAX = "template_syntax"
    TEMPLATE_UNSAFE = "template_unsafe"
    FILTER_NOT_ALLOWED = "filter_not_allowed"
    VARIABLE_UNDECLARED = "variable_undeclared"
    PARTIAL_NOT_FOUND = "partial_not_found"
    BLOCK_NOT_FOUND = "block_not_found"
    LAYOUT_NOT_FOUND = "layout_not_found"
    PROFILE_NOT_FOUND = "profile_not_found"
    SCHEMA_INVALID = "schema_invalid"
    SAMPLE_FAILED = "sample_failed"
    HEADER_NOT_ALLOWED = "header_not_allowed"
    EVENT_TYPE_CONFLICT = "event_type_conflict"
    TOPIC_CONFLICT = "topic_conflict"
    CSS_INVALID = "css_invalid"
    CSS_IGNORED = "css_ignored"
    CSS_HOOK_OVERRIDDEN = "css_hook_overridden"
    VALIDATION_TIMED_OUT = "validation_timed_out"

    # a letter that could come out better
    IMAGE_WITHOUT_ALT = "image_without_alt"
    IMAGE_WITHOUT_WIDTH = "image_without_width"
    IMAGE_IS_SVG = "image_is_svg"
    SVG_NOT_SHOWN = "svg_not_shown"
    ELEMENT_REMOVED = "element_removed"
    FORM_UNRELIABLE = "form_unreliable"
    VIDEO_WITHOUT_FALLBACK = "video_without_fallback"
    STYLESHEET_NOT_LOADED = "stylesheet_not_loaded"
    LANGUAGE_MISSING = "language_missing"
    LINK_LEADS_NOWHERE = "link_leads_nowhere"
    LINK_INSECURE = "link_insecure"
    UNSUBSCRIBE_NOT_SHOWN = "unsubscribe_not_shown"
    SUBJECT_LONG = "subject_long"
    LETTER_CLIPPED = "letter_clipped"
    STYLES_TOO_LARGE = "styles_too_large"
    STYLE_IN_BODY = "style_in_body"
    STYLE_NESTED_AT_RULE = "style_nested_at_rule"
    CSS_VARIABLE_UNSUPPORTED = "css_variable_unsupported"
    POSITION_UNSUPPORTED = "position_unsupported"
    BACKGROUND_WITHOUT_FALLBACK = "background_without_fallback"
    VARIABLE_UNUSED = "variable_unused"
    VARIABLE_MAY_BE_ABSENT = "variable_may_be_absent"
    VARIABLES_NOT_REQUIRED = "variables_not_required"
    SAMPLE_WITHOUT_OPTIONAL_MISSING = "sample_without_optional_missing"
    PLACEHOLDER_FOREIGN = "placeholder_foreign"
    CSS_INLINED_PER_LETTER = "css_inlined_per_letter"
    PAGE_DIFFERS = "page_differs"
    IGNORE_INVALID = "ignore_invalid"
    CID_DANGLING = "cid_dangling"
    CID_UNUSED = "cid_unused"
    IMAGE_IS_DATA = "image_is_data"
    ADDRESS_RELATIVE = "address_relative"
    ENTITY_IN_TEXT = "entity_in_text"
    CALENDAR_METHOD = "calendar_method"
    MESSAGE_INVALID = "message_invalid"
    MESSAGE_NOT_FOUND = "message_not_found"
    MESSAGE_VALUE_MISSING = "message_value_missing"
    MESSAGE_UNTRANSLATED = "message_untranslated"
    MESSAGE_VALUE_UNUSED = "message_value_unused"
    MESSAGE_UNUSED = "message_unused"
    PLURAL_INCOMPLETE = "plural_incomplete"

    # a program that cannot start
    SETTING_MISSING = "setting_missing"
    SETTING_INVALID = "setting_invalid"
    LEDGER_IN_USE = "ledger_in_use"

    # a Secret that a program needs
    SECRET_MISSING = "secret_missing"
    SECRET_KEY_MISSING = "secret_key_missing"
    SECRET_INVALID = "secret_invalid"

    # a fallback that a profile cannot use
    FALLBACK_MISSING = "fallback_missing"
    FALLBACK_UNUSABLE = "fallback_unusable"


class Position(int):
    """A line number, 1-based, with the column and the length of the token at that place.

    Jinja keeps only the line of a token and a node. This class carries the column through its parser
    and compiler: `node.lineno` and `error.lineno` are Positions, and `Problem` splits them.
    """

    column: int
    length: int

    def __new__(cls, line: int, column: int, length: int = 1) -> Self:
        """The position of a token; column and length count Python characters."""
        position = super().__new__(cls, line)
        position.column = column
        position.length = length
        return position


def advance_position(line: int, text: str) -> int:
    """The position after `text`, which begins at `line`."""
    breaks = text.count("\n")
    if breaks:
        return Position(line + breaks, len(text) - text.rfind("\n"))
    return Position(line, line.column + len(text)) if isinstance(line, Position) else line


class Severity(StrEnum):
    """What a problem means for the object that has it."""

    ERROR = "error"
    """The object is rejected: a template keeps its last valid revision."""
    WARNING = "warning"
    """The object is accepted, and a reader may see something wrong; `--strict` rejects it."""
    INFO = "info"
    """The object is accepted, and nothing needs to be done; `--strict` accepts it too."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One broken rule: the place, the rule, and the way out.

    `field` is a dotted path as the author wrote it (`data.first_name`, `spec.smtp.port`); `line` is
    1-based in that field's own text, or None for a field without lines. `column` is 1-based in that line
    and `length` the number of characters to underline, both counted in Python characters.
    """

    code: Code
    field: str
    message: str
    line: int | None = None
    column: int | None = None
    length: int | None = None
    severity: Severity = Severity.ERROR

    def __post_init__(self) -> None:
        """Split a Position into line, column and length."""
        if isinstance(self.line, Position):
            if self.column is None:
                object.__setattr__(self, "column", self.line.column)
                object.__setattr__(self, "length", self.line.length)
            object.__setattr__(self, "line", int(self.line))

    def __str__(self) -> str:
        place = f"{self.field}, line {self.line}" if self.line else self.field
        return f"{place}: {self.message} ({self.code})"


class Rejected(Exception):
    """The input breaks at least one rule and can never be accepted as it is."""

    def __init__(self, *problems: Problem) -> None:
        if not problems:
            raise ValueError("Rejected needs at least one problem")
        super().__init__("; ".join(map(str, problems)))
        self.problems: tuple[Problem, ...] = problems

    @property
    def code(self) -> Code:
        """The first problem's code: the one that labels metrics and dead letters."""
        return self.problems[0].code


_MAX_NAME_CHARACTERS = 64
"""Longer names are not compared: the comparison is slow, and no known name is that long."""


def did_you_mean(word: str, known: Iterable[str], synonyms: Mapping[str, str] | None = None) -> str:
    """`; did you mean NAME?` for the nearest known name, or an empty text. Ignores case and separators."""
    found = nearest_name(word, known, synonyms)
    return f"; did you mean {found}?" if found else ""


def nearest_name(word: str, known: Iterable[str], synonyms: Mapping[str, str] | None = None) -> str | None:
    """The most similar known name, or None when no name is similar enough."""
    if len(word) > _MAX_NAME_CHARACTERS:
        return None
    folded = {_fold(name): name for name in known}
    if synonyms:
        folded = {_fold(wrong): right for wrong, right in synonyms.items()} | folded
    found = get_close_matches(_fold(word), folded, n=1, cutoff=0.7)
    return folded[found[0]] if found else None


def _fold(name: str) -> str:
    return name.casefold().replace("_", "").replace("-", "")
