"""Placeholders with little or no logic: `${x}`, `%%x%%`, `[[x]]`, `{$x}`, and Mailchimp's `*|X|*`."""

import re

from postroom.local.design_import.translation import Translation, path

_MERGE = re.compile(r"\*\|(?P<body>[^|*\n]{1,200}(?:\|(?!\*)[^|*\n]*)*)\|\*")
_PATTERNS = {
    "dollar": re.compile(r"\$\{\s*(?P<name>[A-Za-z_][\w.\-]*)(?:\s*(?P<more>[^{}]*))?\}"),
    "percent": re.compile(r"%%\s*(?P<name>[A-Za-z_][\w.\- ]*?)(?P<more>)\s*%%"),
    "square": re.compile(r"\[\[\s*(?P<name>[A-Za-z_][\w.:\-]*)(?P<more>)\s*\]\]"),
    "smarty": re.compile(r"\{\$(?P<name>[A-Za-z_][\w.\-]*)(?P<more>[^{}]*)\}"),
}
_MERGE_NAMES = {
    "FNAME": "first_name",
    "LNAME": "last_name",
    "MC_PREVIEW_TEXT": "letter.preheader",
    "MC:SUBJECT": "letter.subject",
    "UNSUB": "unsubscribe_url",
    "ARCHIVE": "archive_url",
    "UPDATE_PROFILE": "profile_url",
    "LIST:COMPANY": "company",
    "EMAIL": "letter.recipient",
}


def translate_merge_tags(source: str) -> Translation:
    """Merge tags of Mailchimp and Mandrill."""
    out = Translation(source)
    depth = 0
    for found in _MERGE.finditer(source):
        body = found["body"].strip()
        word, _, rest = body.partition(":")
        if word in ("IF", "IFNOT", "UNLESS") and rest:
            depth += 1
            compared = re.fullmatch(r"(\w+)\s*(!=|=|>|<)\s*(.*)", rest)
            if compared:
                sign = "==" if compared[2] == "=" else compared[2]
                value = compared[3].strip() or "''"
                shown = (
                    value if re.fullmatch(r"\d+(\.\d+)?|''", value) else f"'{value.strip(chr(34) + chr(39))}'"
                )
                test = f"{_merge_name(compared[1])} {sign} {shown}"
            else:
                test = _merge_name(rest)
            out.put(found, f"{{% if {f'not {test}' if word != 'IF' else test} %}}")
        elif word == "ELSEIF" and depth:
            out.put(found, f"{{% elif {_merge_name(rest)} %}}")
        elif word == "ELSE" and depth:
            out.put(found, "{% else %}")
        elif body.startswith("END") and depth:
            depth -= 1
            out.put(found, "{% endif %}")
        elif re.fullmatch(r"[\w:]+", body) and word not in (
            "RSS",
            "FEED",
            "RSSITEM",
            "DATE",
            "TRANSLATE",
            "MC",
        ):
            out.put(found, f"{{{{ {_merge_name(body)} }}}}")
        elif word == "MC" and body in _MERGE_NAMES:
            out.put(found, f"{{{{ {_MERGE_NAMES[body]} }}}}")
        else:
            out.leave(found, "a merge tag of that service alone; publish its value in the event's data")
    out.keep(len(source))
    return out


def _merge_name(name: str) -> str:
    return _MERGE_NAMES.get(name.strip().upper()) or path(name.strip().lower().replace(":", "_"))


def _translate(source: str, pattern: re.Pattern[str]) -> Translation:
    out = Translation(source)
    for found in pattern.finditer(source):
        more = (found["more"] or "").strip()
        if more:
            out.note(found, "what stands behind the name is not known; the value is shown as it is")
        out.put(found, f"{{{{ {path(found['name'].replace(':', '.'))} }}}}")
    out.keep(len(source))
    return out


def translate_dollar(source: str) -> Translation:
    """`${name}`."""
    return _translate(source, _PATTERNS["dollar"])


def translate_percent(source: str) -> Translation:
    """`%%name%%`."""
    return _translate(source, _PATTERNS["percent"])


def translate_square(source: str) -> Translation:
    """`[[name]]`."""
    return _translate(source, _PATTERNS["square"])


def translate_smarty(source: str) -> Translation:
    """`{$name}`."""
    return _translate(source, _PATTERNS["smarty"])


def translate_nothing(source: str) -> Translation:
    """A page without placeholders."""
    out = Translation(source)
    out.keep(len(source))
    return out
