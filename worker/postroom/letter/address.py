"""E-mail addresses: one text in, one normalized address out, or Rejected with the rule and the way out.

The domain becomes its IDNA A-label in lower case; the local part stays as it was written (only its
owner may interpret it, RFC 5321 §2.4). Refused are lists, display names, comments, quoted local
parts, address literals, control characters and anything over the limits of RFC 5321 §4.5.3.1.
No DNS is asked. Test domains (`example.test`, `localhost`) are fine: sandboxes use them.

Nearly every address is plain ASCII, and one regular expression settles it; everything else takes
the slow path through email-validator. Both give the same answer.
"""

import re
import unicodedata
from dataclasses import dataclass
from typing import Annotated

import email_validator
import idna
from pydantic import AfterValidator, Field

from postroom.letter.problems import Code, Problem, Rejected

LOCAL_OCTETS = 64
"""RFC 5321 §4.5.3.1.1."""
DOMAIN_OCTETS = 253
"""RFC 1035 §2.3.4 as text; RFC 5321 §4.5.3.1.2 says 255 with its length octets."""
ADDRESS_OCTETS = 254
"""A path is at most 256 octets with its angle brackets (RFC 5321 §4.5.3.1.3)."""

MIXED_SCRIPT_DOMAIN = "mixed_script_domain"
"""Flag: one label of the domain mixes scripts that no language mixes, as forged names do."""

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"(?!..--)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_PLAIN = re.compile(rf"({_ATOM}(?:\.{_ATOM})*)@({_LABEL}(?:\.{_LABEL})*)")
_COMPATIBLE_SCRIPTS = (
    frozenset({"LATIN", "CJK", "HIRAGANA", "KATAKANA"}),
    frozenset({"LATIN", "CJK", "BOPOMOFO"}),
    frozenset({"LATIN", "CJK", "HANGUL"}),
)


# The library refuses special-use domains (`test`, `localhost`, `local`, …) unless told so here, as its manual
# says to do: this process sends to in-cluster relays and sandboxes, whose domains they are.
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
"""What looks like an address in running text."""


def normalize_address(
    text: str, field: str = "recipient", code: Code = Code.RECIPIENT_INVALID
) -> EmailAddress:
    """The one address that `text` is; raises Rejected(code), or `one_address_per_item` for a list."""
    plain = _PLAIN.fullmatch(text) if len(text) <= ADDRESS_OCTETS else None
    if plain:
        local, domain = plain.groups()
        if len(local) <= LOCAL_OCTETS and len(domain) <= DOMAIN_OCTETS:
            return EmailAddress(local, domain.lower())
    return normalize_address_fully(text, field, code)


def normalize_address_fully(
    text: str, field: str = "recipient", code: Code = Code.RECIPIENT_INVALID
) -> EmailAddress:
    """What `normalize` does, without the short cut for plain ASCII addresses."""
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
        said = str(error).rstrip(".")
        raise _refused(field, code, f"is not a valid address, local@domain: {said}") from None
    local = text.rpartition("@")[0] if found.local_part.isascii() else found.local_part
    flags = (MIXED_SCRIPT_DOMAIN,) if _mixes_scripts(found.domain) else ()
    return EmailAddress(local, found.ascii_domain.lower(), not local.isascii(), flags)


def _reject_non_address(text: str, field: str, code: Code) -> None:
    """Name the mistakes that people make, before the grammar would speak of characters."""
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
    """Whether a label mixes scripts beyond what UTS 39 calls highly restrictive."""
    for label in domain.split("."):
        scripts = {re.split(r"[ -]", unicodedata.name(char, "?"))[0] for char in label if char.isalpha()}
        if len(scripts) > 1 and not any(scripts <= together for together in _COMPATIBLE_SCRIPTS):
            return True
    return False


def _refused(field: str, code: Code, message: str) -> Rejected:
    return Rejected(Problem(code, field, message))


def _normalized(text: str) -> str:
    try:
        return str(normalize_address(text, "address", Code.FIELD_INVALID))
    except Rejected as rejected:
        raise ValueError(rejected.problems[0].message) from None


AddressText = Annotated[str, Field(min_length=3, max_length=320), AfterValidator(_normalized)]
"""A field of a manifest: one address; the model holds it normalized."""


def _normalized_domain(text: str) -> str:
    try:
        return normalize_address(f"a@{text}", "domain", Code.FIELD_INVALID).domain
    except Rejected:
        raise ValueError("is not a domain name; write it like example.org, without @ and wildcard") from None


DomainText = Annotated[str, Field(min_length=1, max_length=253), AfterValidator(_normalized_domain)]
"""A field of a manifest: one domain; the model holds it as a lower-case A-label."""


def mask_addresses(text: str) -> str:
    """A text in which every address is masked: relays quote recipients in their answers."""
    return _IN_TEXT.sub(lambda found: mask_address(found.group()), text)


def mask_address(address: str) -> str:
    """An address as logs may show it: `m…@example.com`."""
    local, _, domain = address.rpartition("@")
    return f"{local[:1]}…@{domain}"
