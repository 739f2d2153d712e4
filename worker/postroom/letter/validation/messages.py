"""Check the `t(…)` calls of a template against its message catalogues, in every language.

Input: a template with its layout, and its locale drafts. Output: a `MessageCheck` with errors for calls that
would fail in a letter, warnings for languages that lack a text or a plural form, and the drafts with the
texts that they use. A problem of a text has the text's field, a problem of a call the call's position. It
never raises.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

from jinja2 import nodes
from jinja2.exceptions import TemplateSyntaxError

from postroom.letter.language.environment import HTML, TEXT
from postroom.letter.language.message_text import is_markup, placeholders, plural_base
from postroom.letter.language.messages import (
    NAME,
    OPTIONS,
    Catalogue,
    MessageCall,
    calls_in,
    needed_categories,
    put_in,
)
from postroom.letter.language.pieces import Source, split
from postroom.letter.problems import Code, Problem, Severity, did_you_mean
from postroom.letter.template import EmailLayout, EmailTemplateSpec
from postroom.letter.validation.drafts import LocaleDraft, SourcePart, locate_problem

_CALL = re.compile(rf"\b{NAME}\s*\(")
_LISTED = 6
"""The most keys that one message lists."""


@dataclass(slots=True)
class MessageCheck:
    """The result: drafts with the texts that they use, errors and warnings."""

    languages: list[LocaleDraft]
    """The drafts, each with only the texts that it uses."""
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _CallSite:
    """A call and its position."""

    call: MessageCall
    place: Problem
    """A problem without a message, at the position of the call."""
    is_text: bool
    """Whether it is in a plain text, where markup would be visible."""


def check_messages(
    spec: EmailTemplateSpec,
    layout: EmailLayout | None,
    languages: list[LocaleDraft],
    extra: Iterable[SourcePart] = (),
) -> MessageCheck:
    """Check every call. `extra` are the parts that all languages share, such as headers."""
    if NAME in spec.variables.get("properties", {}):
        return _shadowed(spec, layout, languages)
    check = MessageCheck([])
    shared = [site for part in extra for site in _call_sites_in_text(part)]
    by_draft = [(draft, [*_call_sites(draft), *shared]) for draft in languages]
    for draft, sites in by_draft:
        check.problems += _errors(draft, sites)
        used = _used_texts(draft, [site.call for site in sites])
        page = draft.page if check.problems else _with_markup(draft)
        check.languages.append(replace(draft, catalogue=used, page=page))
    if not check.problems:
        for draft, sites in by_draft:
            check.warnings += [
                *_incomplete_plurals(draft, sites),
                *_untranslated(spec, draft, sites),
                *_unused_values(by_draft[0][0], draft, sites),
            ]
        check.warnings += _unused(spec, [site.call for _, sites in by_draft for site in sites])
    check.problems = list(dict.fromkeys(check.problems))
    check.warnings = list(dict.fromkeys(check.warnings))
    return check


def _shadowed(
    spec: EmailTemplateSpec, layout: EmailLayout | None, languages: list[LocaleDraft]
) -> MessageCheck:
    """The result for a template with a variable `t`, which hides the function."""
    problems = []
    if spec.messages or (layout and layout.spec.messages):
        message = f"`{NAME}` is the function that gives messages; choose another name for the variable"
        problems.append(Problem(Code.SCHEMA_INVALID, f"spec.variables.properties.{NAME}", message))
    return MessageCheck([replace(each, catalogue=Catalogue()) for each in languages], problems)


def _call_sites(draft: LocaleDraft) -> Iterator[_CallSite]:
    for part in draft.parts():
        yield from _call_sites_in_text(part)
    for call in _calls(draft.page.text, HTML.parse):
        place = locate_problem(Problem(Code.MESSAGE_NOT_FOUND, draft.html.field, "", call.line), draft.page)
        yield _CallSite(call, place, is_text=False)


def _call_sites_in_text(part: SourcePart) -> Iterator[_CallSite]:
    for call in _calls(part.source, TEXT.parse):
        yield _CallSite(call, Problem(Code.MESSAGE_NOT_FOUND, part.field, "", call.line), is_text=True)


def _calls(source: str, parse: Callable[[str], nodes.Template]) -> Iterator[MessageCall]:
    if _CALL.search(source):
        with suppress(TemplateSyntaxError, RecursionError, ValueError):  # reported when the part is compiled
            yield from calls_in(parse(source))


def _used_texts(draft: LocaleDraft, calls: list[MessageCall]) -> Catalogue:
    """The texts that calls may use; all texts if a key is made of data."""
    whole = draft.catalogue
    if not calls or any(call.key is None for call in calls):
        return whole if calls else Catalogue()
    used = {key for call in calls for key in call.keys(whole)}
    return Catalogue(
        {key: text for key, text in whole.texts.items() if key in used},
        {key: tag for key, tag in whole.foreign.items() if key in used},
    )


def _with_markup(draft: LocaleDraft) -> Source:
    """The page with its markup messages filled in, so that CSS and the text part take account of their
    elements.
    """
    page = draft.page
    if not _CALL.search(page.text):
        return page
    edits: list[tuple[int, int, str]] = []
    position = 0
    for piece in split(page.text, "spec.html"):
        if piece.kind == "data":
            continue
        start = page.text.index(piece.text, position)
        position = start + len(piece.text)
        if piece.kind == "variable" and _CALL.search(piece.text):
            markup = put_in(piece.text, HTML.parse(piece.text), draft.catalogue)
            if markup is not None:
                edits.append((start, position, markup))
    return page.edited(edits) if edits else page


# --- errors ------------------------------------------------------------------------------------------------


def _errors(draft: LocaleDraft, sites: Iterable[_CallSite]) -> Iterator[Problem]:
    for site in sites:
        call = site.call
        if call.key is None:
            if not call.has_key:
                yield _at(
                    site, Code.MESSAGE_NOT_FOUND, f'`{NAME}` takes a message\'s key: {NAME}("order.title")'
                )
            continue
        keys = call.keys(draft.catalogue)
        if not keys:
            if "default" not in call.given:
                yield _at(site, Code.MESSAGE_NOT_FOUND, _not_found(call.key, draft.catalogue))
            continue
        if site.is_text and is_markup(keys[0]):
            message = f"message `{keys[0]}` is markup, and this is a text; use a key without _html"
            yield _at(site, Code.MESSAGE_INVALID, message)
        for key in keys:
            yield from _missing_values(draft, site, key)
        if keys != [call.key] and f"{call.key}_other" not in keys:
            message = (
                f"the plural `{call.key}` has no `{call.key}_other`, for numbers that no other form fits"
            )
            yield Problem(Code.MESSAGE_NOT_FOUND, draft.message_places[keys[0]], message)


def _not_found(key: str, catalogue: Catalogue) -> str:
    if catalogue.forms(key):
        return f"message `{key}` has plural forms; give count="
    known = {plural_base(each) or each for each in catalogue.texts} | set(catalogue.texts)
    hint = did_you_mean(key, known) or "; add it to spec.messages"
    return f"no message has the key `{key}`{hint}"


def _missing_values(draft: LocaleDraft, site: _CallSite, key: str) -> Iterator[Problem]:
    needed = placeholders(draft.catalogue.texts[key])
    for name in sorted(needed - site.call.given):
        if not site.call.is_open:
            hint = did_you_mean(name, site.call.given - {"default"})
            text = f"message `{key}` of {_tag_of(draft, key)}"
            message = f"{text} has {{{name}}}, and the call gives no {name}={hint}"
            yield _at(site, Code.MESSAGE_VALUE_MISSING, message)


def _tag_of(draft: LocaleDraft, key: str) -> str:
    return draft.catalogue.foreign.get(key, draft.tag)


def _at(site: _CallSite, code: Code, message: str, severity: Severity = Severity.ERROR) -> Problem:
    return replace(site.place, code=code, message=message, severity=severity)


# --- warnings ----------------------------------------------------------------------------------------------


def _incomplete_plurals(draft: LocaleDraft, sites: Iterable[_CallSite]) -> Iterator[Problem]:
    for site in sites:
        forms = site.call.keys(draft.catalogue)
        if not forms or forms == [site.call.key]:
            continue
        tag = _tag_of(draft, forms[0])
        lacking = [f"{site.call.key}_{name}" for name in needed_categories(tag)]
        lacking = [key for key in lacking if key not in forms]
        if lacking:
            message = (
                f"{tag} counts with more forms than the plural `{site.call.key}` has; add {_list(lacking)}"
            )
            yield _warning(Code.PLURAL_INCOMPLETE, draft.message_places[forms[0]], message)


def _untranslated(
    spec: EmailTemplateSpec, draft: LocaleDraft, sites: Iterable[_CallSite]
) -> Iterator[Problem]:
    calls = [site.call for site in sites]
    used = [key for call in calls for key in call.keys(draft.catalogue)]
    if any(call.key is None for call in calls):
        used = list(draft.catalogue.texts)
    foreign = [key for key in dict.fromkeys(used) if key in draft.catalogue.foreign]
    if foreign:
        tags = ", ".join(dict.fromkeys(draft.catalogue.foreign[key] for key in foreign))
        message = f"{draft.tag} has no text for {_list(foreign)}; letters in it show the one of {tags}"
        yield _warning(Code.MESSAGE_UNTRANSLATED, _catalogue_field(spec, draft.tag), message)


def _catalogue_field(spec: EmailTemplateSpec, tag: str) -> str:
    for index, locale in enumerate(spec.locales):
        if locale.tag == tag:
            return f"spec.locales[{index}].messages" if locale.messages else f"spec.locales[{index}]"
    return "spec.messages"


def _unused_values(first: LocaleDraft, draft: LocaleDraft, sites: Iterable[_CallSite]) -> Iterator[Problem]:
    """Values that a call gives and a text does not print. In a plural, one form that prints it suffices."""
    for site in sites:
        keys = site.call.keys(draft.catalogue)
        printed = {name for key in keys for name in placeholders(draft.catalogue.texts[key])}
        for name in sorted(site.call.given - printed - set(OPTIONS)) if keys else ():
            elsewhere = {
                known
                for key in site.call.keys(first.catalogue)
                for known in placeholders(first.catalogue.texts[key])
            }
            text = f"message `{keys[0]}` of {_tag_of(draft, keys[0])}"
            message = f"{text} does not print {{{name}}}, which the call gives"
            if name in elsewhere:
                yield _warning(Code.MESSAGE_VALUE_UNUSED, draft.message_places[keys[0]], message)
            else:
                yield _at(site, Code.MESSAGE_VALUE_UNUSED, message, Severity.WARNING)


def _unused(spec: EmailTemplateSpec, calls: list[MessageCall]) -> Iterator[Problem]:
    """Texts of the template that no call uses."""
    if any(call.key is None for call in calls):
        return
    called = {call.key for call in calls if call.key}
    catalogues: dict[str, Mapping[str, str]] = {"spec.messages": spec.messages}
    catalogues |= {f"spec.locales[{n}].messages": each.messages for n, each in enumerate(spec.locales)}
    for place, texts in catalogues.items():
        for key in texts:
            if key not in called and plural_base(key) not in called:
                message = f"no call uses the message `{key}`{did_you_mean(key, called)}"
                yield Problem(Code.MESSAGE_UNUSED, f"{place}.{key}", message, severity=Severity.INFO)


def _list(keys: list[str]) -> str:
    shown = ", ".join(f"`{key}`" for key in keys[:_LISTED])
    return shown + (f" and {len(keys) - _LISTED} more" if len(keys) > _LISTED else "")


def _warning(code: Code, place: str, message: str) -> Problem:
    return Problem(code, place, message, severity=Severity.WARNING)
