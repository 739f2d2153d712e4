"""E-mail addresses: normalize one address, and mask addresses for logs.

Input: a text. Output: an `EmailAddress`, or Rejected with the rule and the way out. The domain becomes its
IDNA A-label in lower case; the local part stays as it was written (only its domain may interpret it, RFC 5321
§2.4). Lists, display names, comments, quoted local parts, address literals, control characters and everything
over the limits of RFC 5321 §4.5.3.1 are rejected. No DNS query is made. Test domains (`example.test`,
`localhost`) are accepted: sandboxes use them.

Nearly every address is plain ASCII, and one regular expression accepts it. Every other text goes through
email-validator. Both paths give the same result.
"""

import re
import unicodedata
from dataclasses import dataclass

import email_validator
import idna

from postroom.letter.problems import Code, Problem, Rejected

LOCAL_OCTETS = 64
"""RFC 5321 §4.5.3.1.1."""
DOMAIN_OCTETS = 253
"""RFC 1035 §2.3.4 as text; RFC 5321 §4.5.3.1.2 says 255 with its length octets."""
ADDRESS_OCTETS = 254
"""A path is at most 256 octets with its angle brackets (RFC 5321 §4.5.3.1.3)."""

MIXED_SCRIPT_DOMAIN = "mixed_script_domain"
"""Flag: a label of the domain mixes scripts that no language mixes, as forged names do."""

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"(?!..--)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_PLAIN = re.compile(rf"({_ATOM}(?:\.{_ATOM})*)@({_LABEL}(?:\.{_LABEL})*)")
_COMPATIBLE_SCRIPTS = (
    frozenset({"LATIN", "CJK", "HIRAGANA", "KATAKANA"}),
    frozenset({"LATIN", "CJK", "BOPOMOFO"}),
    frozenset({"LATIN", "CJK", "HANGUL"}),
)


# email-validator rejects special-use domains (`test`, `localhost`, …) by default; its manual documents
# this switch. In-cluster relays and sandboxes use such domains.
email_validator.SPECIAL_USE_DOMAIN_NAMES.clear()


_DOTS = "has a dot at an end of the part before the @, or two in a row, which RFC 5321 section 4.1.2 forbids"
_NO_QUOTES = (
    "such a part could only be sent in quotes, which many servers refuse and Postroom does not send; "
    "use another address"
)


@dataclass(frozen=True, slots=True)
class EmailAddress:
    """A normalized address; `str()` gives `local@domain`."""

    local: str
    domain: str
    """Lower-case A-label."""
    smtputf8: bool = False
    """The local part is not ASCII, so that the relay must offer SMTPUTF8 (RFC 6531)."""
    flags: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.local}@{self.domain}"


_IN_TEXT = re.compile(r"[^\s<>()\[\]\"',;:]+@[^\s<>()\[\]\"',;:]+")
"""An address in running text, by its looks."""


def normalize_address(
    text: str, field: str = "recipient", code: Code = Code.RECIPIENT_INVALID
) -> EmailAddress:
    """Normalize one address; raises Rejected(code), or Rejected(`one_address_per_item`) for a list."""
    plain = _PLAIN.fullmatch(text) if len(text) <= ADDRESS_OCTETS else None
    if plain:
        local, domain = plain.groups()
        if len(local) <= LOCAL_OCTETS and len(domain) <= DOMAIN_OCTETS:
            return EmailAddress(local, domain.lower())
    return normalize_address_fully(text, field, code)


def normalize_address_fully(
    text: str, field: str = "recipient", code: Code = Code.RECIPIENT_INVALID
) -> EmailAddress:
    """Normalize one address without the fast path for plain ASCII addresses."""
    _reject_non_address(text, field, code)
    _check_octets(text, field, code)
    try:
        found = email_validator.validate_email(
            text,
            allow_smtputf8=True,
            allow_quoted_local=False,
            allow_domain_literal=False,
            allow_display_name=False,
            check_deliverability=False,
            globally_deliverable=False,
            strict=True,
        )
    except (email_validator.EmailNotValidError, idna.IDNAError, UnicodeError) as error:
        reason = str(error).rstrip(".")
        raise _refused(field, code, f"is not a valid address, local@domain: {reason}") from None
    local = text.rpartition("@")[0] if found.local_part.isascii() else found.local_part
    flags = (MIXED_SCRIPT_DOMAIN,) if _mixes_scripts(found.domain) else ()
    return EmailAddress(local, found.ascii_domain.lower(), not local.isascii(), flags)


def _reject_non_address(text: str, field: str, code: Code) -> None:
    """Reject frequent mistakes by name; the grammar alone would report a wrong character."""
    if not text:
        raise _refused(field, code, "is empty; give one address like ada@example.org")
    if len(text) > 4 * ADDRESS_OCTETS:
        raise _refused(
            field, code, f"is {len(text)} characters long; an address has at most {ADDRESS_OCTETS}"
        )
    if any(unicodedata.category(char) in ("Cc", "Zl", "Zp") for char in text):
        raise _refused(field, code, "holds a control character or line end; remove it")
    if ("," in text or ";" in text) and text.count("@") > 1:
        raise _refused(
            field, Code.ONE_ADDRESS_PER_ITEM, "holds several addresses; publish one event for each"
        )
    if "<" in text or ">" in text:
        raise _refused(field, code, "holds a name or brackets; give the bare address only")
    local = text.rpartition("@")[0]
    if local.startswith(".") or local.endswith(".") or (".." in local and "@" not in local):
        raise _refused(field, code, f"{_DOTS}; {_NO_QUOTES}")
    if local.startswith('"') and local.endswith('"'):
        raise _refused(field, code, f"has the part before the @ in quotes; {_NO_QUOTES}")


def _check_octets(text: str, field: str, code: Code) -> None:
    local, _, domain = text.rpartition("@")
    for part, octets, limit in (
        ("the part before the @", len(local.encode("utf-8", "replace")), LOCAL_OCTETS),
        ("the domain", len(domain), DOMAIN_OCTETS),
    ):
        if octets > limit:
            rule = f"{part} has {octets} octets, at most {limit} are allowed (RFC 5321 section 4.5.3.1)"
            raise _refused(field, code, rule)


def _mixes_scripts(domain: str) -> bool:
    """Whether a label mixes scripts beyond the level that UTS 39 calls highly restrictive."""
    for label in domain.split("."):
        scripts = {re.split(r"[ -]", unicodedata.name(char, "?"))[0] for char in label if char.isalpha()}
        if len(scripts) > 1 and not any(scripts <= together for together in _COMPATIBLE_SCRIPTS):
            return True
    return False


def _refused(field: str, code: Code, message: str) -> Rejected:
    return Rejected(Problem(code, field, message))


def mask_addresses(text: str) -> str:
    """Mask every address in a text: relays quote recipients in their replies."""
    return _IN_TEXT.sub(lambda found: mask_address(found.group()), text)


def mask_address(address: str) -> str:
    """An address in the form that logs may hold: `m…@example.com`."""
    local, _, domain = address.rpartition("@")
    return f"{local[:1]}…@{domain}"
