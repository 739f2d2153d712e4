"""Lists of mailboxes (RFC 5322 §3.4): parse and write the value of a Reply-To.

Input: a text. Output: pairs of name and address, or Rejected with the wrong part and the way out. `Support,
Larkfield <help@larkfield.example>, orders@larkfield.example` gives two mailboxes. The parser accepts more
than the grammar: a comma, a parenthesis or another special character in a name without quotes belongs to the
name. Groups (`Team: a@x.org, b@x.org;`) and comments are rejected. A problem shows the wrong part of a
manifest by its text, but of an event by its number, since event data must not appear in messages.
`write_mailboxes` writes the list with quotes where they are needed, in Unicode; `mime.headers` encodes it.

A template's `replyTo` may hold `{{ … }}` in names and addresses. `split_mailboxes` then parses the source of
the list, before values are filled in: a value becomes part of one name or address and can never add a
mailbox.
"""

import re
from collections.abc import Iterable, Iterator

from postroom.letter.address import normalize_address
from postroom.letter.manifest_fields import control_character
from postroom.letter.problems import Code, Problem, Rejected

NamedAddress = tuple[str, str]
"""A display name, which may be empty, and a bare address."""

MAX_MAILBOXES = 10
MAX_LIST_CHARACTERS = 2048
MAX_NAME_CHARACTERS = 200

_EXPRESSION = re.compile(r"\{\{.*?\}\}", re.DOTALL)
_PLACEHOLDER = "\ue000"
"""A private-use character that replaces each `{{ … }}` while the list is parsed."""
_QUOTED_OR_ANGLE = re.compile(r'"(?:[^"\\]|\\.)*"|<[^<>]*>', re.DOTALL)
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ENTRY = re.compile(r'((?:[^"<>]|"(?:[^"\\]|\\.)*")*)<([^<>]*)>', re.DOTALL)
_COMMENT = re.compile(r"([^()]*@[^()]*)\(([^()]*)\)")
_GROUP = re.compile(r'[^@"]+:\s*\S.*', re.DOTALL)
_UNBRACKETED = re.compile(rf"([^@]*\S)\s+(\S+@\S+|{_PLACEHOLDER})", re.DOTALL)
_FORM = "write Name <name@example.org>, with commas between mailboxes"


class _InvalidEntry(Exception):
    """An entry that cannot be parsed: its text, the broken rule, and the rule without the text."""

    def __init__(self, entry: str, rule: str, bare_rule: str | None = None) -> None:
        super().__init__(rule)
        self.entry = entry
        self.rule = rule
        self.bare_rule = bare_rule or rule


def read_mailboxes(
    text: str, field: str, code: Code = Code.FIELD_INVALID, *, quote: bool = True
) -> tuple[NamedAddress, ...]:
    """Parse a list and normalize its addresses. Raises Rejected(code).

    With `quote` the message holds the wrong part; without, it names the part by its number.
    """
    return _read(text, field, code, quote=quote)


def split_mailboxes(source: str, field: str, code: Code = Code.FIELD_INVALID) -> tuple[NamedAddress, ...]:
    """Parse a list that may hold `{{ … }}`: the results are template sources of names and addresses.

    An address without an expression is normalized. Raises Rejected(code).
    """
    if _PLACEHOLDER in source:
        raise _refused(field, code, "holds the private-use character U+E000; remove it")
    if "{%" in source or "{#" in source:
        raise _refused(field, code, "takes {{ variable }} alone; choose between values in the event's data")
    expressions = iter(_EXPRESSION.findall(source))
    found = _read(_EXPRESSION.sub(_PLACEHOLDER, source), field, code, quote=True)

    def restored(part: str) -> str:
        return re.sub(_PLACEHOLDER, lambda _: next(expressions), part)

    return tuple((restored(name), restored(address)) for name, address in found)


def filled_mailboxes(rendered: Iterable[NamedAddress], field: str) -> tuple[NamedAddress, ...]:
    """Check the rendered mailboxes of a template's list; mailboxes with an empty address are omitted.

    Raises Rejected (render_failed) unless each is one name and one bare address. No message holds a value.
    """
    found = []
    for number, (name, address) in enumerate(rendered, 1):
        if len(name) > MAX_NAME_CHARACTERS:
            rule = f"a name comes out {len(name)} characters long; at most {MAX_NAME_CHARACTERS} are allowed"
            raise _refused(field, Code.RENDER_FAILED, f"mailbox {number}: {rule}")
        if address:
            try:
                found.append((name, str(normalize_address(address))))
            except Rejected as rejected:
                rule = _rule_of(rejected, address)
                raise _refused(field, Code.RENDER_FAILED, f"mailbox {number}: the address {rule}") from None
    return tuple(found)


def write_mailboxes(mailboxes: Iterable[NamedAddress]) -> str:
    """Write the list as a text that `read_mailboxes` parses; a bare address is written without brackets."""
    return ", ".join(f"{_quoted(name)} <{address}>" if name else address for name, address in mailboxes)


def _quoted(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _read(text: str, field: str, code: Code, *, quote: bool) -> tuple[NamedAddress, ...]:
    if len(text) > MAX_LIST_CHARACTERS:
        raise _refused(field, code, f"has {len(text)} characters; at most {MAX_LIST_CHARACTERS} are allowed")
    if found := control_character(text):
        raise _refused(field, code, f"holds a control character or line end ({found}); remove it")
    mailboxes: list[NamedAddress] = []
    try:
        for entry in _entries(text):
            mailboxes.append(_mailbox(entry))  # noqa: PERF401  an error names the number of its entry
    except _InvalidEntry as wrong:
        if not quote:
            message = f"mailbox {len(mailboxes) + 1} {wrong.bare_rule}"
        else:
            message = f"`{wrong.entry[:80]}` {wrong.rule}".replace(_PLACEHOLDER, "{{ … }}")
        raise _refused(field, code, message) from None
    if not mailboxes:
        raise _refused(field, code, "is empty; give an address like help@example.org")
    if len(mailboxes) > MAX_MAILBOXES:
        raise _refused(field, code, f"holds {len(mailboxes)} mailboxes; at most {MAX_MAILBOXES} are allowed")
    return tuple(mailboxes)


def _entries(text: str) -> Iterator[str]:
    """Split a list into entries; a part without @ and brackets is the beginning of the next entry's name."""
    pending = ""
    for part in _parts(text):
        entry = f"{pending},{part}" if pending else part
        if not entry.strip():
            continue
        if any(character in entry for character in ("<", "@", _PLACEHOLDER)):
            yield entry.strip()
            pending = ""
        else:
            pending = entry
    if pending:
        raise _InvalidEntry(pending.strip(), f"has no address; {_FORM}")


def _parts(text: str) -> Iterator[str]:
    """Split at commas that are neither in quotes nor in angle brackets."""
    start = position = 0
    while position < len(text):
        if text[position] in '"<' and (skipped := _QUOTED_OR_ANGLE.match(text, position)):
            position = skipped.end()
            continue
        if text[position] == ",":
            yield text[start:position]
            start = position + 1
        position += 1
    yield text[start:]


def _mailbox(entry: str) -> NamedAddress:
    bare = _QUOTED.sub("", entry)
    if '"' in bare:
        raise _InvalidEntry(entry, f"has a quote that is not closed; {_FORM}")
    if "<" not in bare and ">" not in bare:
        _reject_non_address(entry)
        return "", _address(entry)
    found = _ENTRY.fullmatch(entry)
    if not found:
        raise _InvalidEntry(entry, f"is not one mailbox; {_FORM}")
    name = _name(found.group(1))
    if len(name) > MAX_NAME_CHARACTERS:
        raise _InvalidEntry(
            entry, f"has a name of {len(name)} characters; at most {MAX_NAME_CHARACTERS} are allowed"
        )
    if not found.group(2).strip():
        raise _InvalidEntry(entry, "has no address between its brackets")
    return name, _address(found.group(2).strip())


def _reject_non_address(entry: str) -> None:
    """Reject frequent mistakes in an entry without angle brackets by name."""
    if found := _COMMENT.fullmatch(entry):
        address, name = found.group(1).strip(), found.group(2).strip()
        raise _InvalidEntry(entry, f"has a comment; write {name} <{address}>", f"has a comment; {_FORM}")
    if entry.startswith("mailto:"):
        raise _InvalidEntry(entry, "is not a bare address; leave mailto: out")
    if _GROUP.fullmatch(entry):
        raise _InvalidEntry(entry, "begins a group; give the addresses alone")
    if found := _UNBRACKETED.fullmatch(entry):
        rule = f"has no angle brackets; write {found.group(1)} <{found.group(2)}>"
        raise _InvalidEntry(entry, rule, f"has no angle brackets; {_FORM}")


def _address(text: str) -> str:
    if _PLACEHOLDER in text:
        return text
    try:
        return str(normalize_address(text))
    except Rejected as rejected:
        rule = _rule_of(rejected, text)
        if re.search(r"\s", text) and "several" not in rule:
            rule += "; put a name in quotes when it has an @ in it"
        raise _InvalidEntry(text, rule) from None


def _rule_of(rejected: Rejected, text: str) -> str:
    """The broken rule of an address; the way out is that of a list and not that of a recipient."""
    if rejected.code is Code.ONE_ADDRESS_PER_ITEM or re.search(r"@[^@]*\s[^@]*@", text):
        return "holds several addresses; write commas between them"
    return rejected.problems[0].message


def _name(phrase: str) -> str:
    """A display name without its quotes."""
    whole = _QUOTED.fullmatch(phrase.strip())
    if whole:
        return re.sub(r"\\(.)", r"\1", whole.group(1))
    words = _QUOTED.sub(lambda found: re.sub(r"\\(.)", r"\1", found.group(1)), phrase)
    return " ".join(words.split())


def _refused(field: str, code: Code, message: str) -> Rejected:
    return Rejected(Problem(code, field, message))
