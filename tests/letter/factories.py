"""Factories of templates, events and letters for tests, and a parser of composed letters."""

import email
import email.policy
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Any

from postroom.letter.bundle import CompiledTemplate, pack_bundle
from postroom.letter.catalog import RenderedLetter, SenderMailbox
from postroom.letter.event import Attachment, Event
from postroom.letter.language.bounds import RenderBudget
from postroom.letter.language.environment import HTML, LetterEnvironment, Script
from postroom.letter.problems import Code, Problem, Rejected
from postroom.letter.renderer import TemplateRenderer, load_catalog
from postroom.letter.template import EmailLayout, EmailTemplate
from postroom.letter.validation.validate import TemplateValidation, validate_template

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
PROFILE_SENDER = SenderMailbox("post@larkfield.example", "Larkfield Supply")
MESSAGE_ID = "<5f2d0c8b9a7e6d5c4b3a29181706f5e4d3c2b1a0@larkfield.example>"


def template(html: str = "<p>Hello {{ name }}</p>", **spec: Any) -> EmailTemplate:
    """A template with one variable, `name`; `spec` (camelCase) overrides fields."""
    whole = {
        "smtpProfileRef": {"name": "shop"},
        "eventTypes": ["shop.test"],
        "subject": "Hello {{ name }}",
        "html": html,
        "variables": {
            "type": "object",
            "required": ["name"],
            "properties": {"name": {"type": "string"}},
        },
        "samples": [{"name": "zoe", "data": {"name": "Zoë"}}],
        **spec,
    }
    return EmailTemplate.model_validate(
        {
            "apiVersion": "postroom.dev/v1alpha1",
            "kind": "EmailTemplate",
            "metadata": {"name": "test"},
            "spec": {key: value for key, value in whole.items() if value is not None},
        }
    )


def layout(html: str, **spec: Any) -> EmailLayout:
    """A layout called `page`."""
    return EmailLayout.model_validate(
        {
            "apiVersion": "postroom.dev/v1alpha1",
            "kind": "EmailLayout",
            "metadata": {"name": "page"},
            "spec": {"html": html, **spec},
        }
    )


def variables(**properties: Any) -> dict[str, Any]:
    """A schema with these variables, all required."""
    return {"type": "object", "required": list(properties), "properties": properties}


def one_sample(**data: Any) -> list[dict[str, Any]]:
    return [{"name": "only", "data": data}]


def validated(
    html: str = "<p>Hello {{ name }}</p>", *, page: EmailLayout | None = None, **spec: Any
) -> TemplateValidation:
    """The validation of a template that must pass."""
    validation = validate_template(template(html, **spec), page)
    assert validation.passed, validation.problems
    return validation


def compiled(html: str = "<p>Hello {{ name }}</p>", **spec: Any) -> CompiledTemplate:
    found = validated(html, **spec).compiled
    assert found is not None
    return found


def live(html: str = "<p>Hello {{ name }}</p>", **spec: Any) -> TemplateRenderer:
    """The renderer of a template that went through a bundle."""
    found = load_catalog([pack_bundle([compiled(html, **spec)])]).find("shop.test")
    assert isinstance(found, TemplateRenderer)
    return found


def event(**data: Any) -> Event:
    return Event("e-1", "kafka://shop", "shop.test", "mira@example.org", NOON, data)


def problems_of(html: str, *, page: EmailLayout | None = None, **spec: Any) -> tuple[Problem, ...]:
    """The problems of a template."""
    validation = validate_template(template(html, **spec), page)
    assert not validation.passed
    return validation.problems


def problem_of(html: str, *, page: EmailLayout | None = None, **spec: Any) -> Problem:
    """The only problem of a template."""
    problems = problems_of(html, page=page, **spec)
    assert len(problems) == 1, problems
    return problems[0]


def render(source: str, environment: LetterEnvironment = HTML, **data: Any) -> str:
    """Render a template source."""
    letter = {"locale": "en"}
    return Script(environment, source, "spec.html").render({"letter": letter, **data}, RenderBudget())


def refusal(source: str, environment: LetterEnvironment = HTML, **data: Any) -> Problem:
    """The problem of a source that does not compile or render."""
    try:
        text = render(source, environment, **data)
    except Rejected as rejected:
        return rejected.problems[0]
    raise AssertionError(f"it rendered: {text[:80]!r}")


def rendered(**parts: Any) -> RenderedLetter:
    """A rendered letter; `parts` overrides fields."""
    whole: dict[str, Any] = {
        "template": "welcome",
        "revision": "0123456789ab",
        "subject": "Hello",
        "html": "<p>Hello</p>",
        "text": "Hello\n",
        "sender": None,
        "reply_to": None,
        "headers": (),
        "attachments": (),
        "language": "en",
        **parts,
    }
    return RenderedLetter(**whole)


def attachment(filename: str = "invoice.pdf", content: bytes = b"%PDF") -> Attachment:
    return Attachment(filename, "application/pdf", content)


def reopen(content: bytes) -> EmailMessage:
    """Parse a composed letter; fails when its bytes break a rule of SMTP."""
    assert content.endswith(b"\r\n")
    dotted = [line for line in content.split(b"\r\n") if line.startswith(b".")]
    assert all(line.startswith(b"..") for line in dotted), "a dot at a line's beginning is doubled"
    assert b"\n" not in content.replace(b"\r\n", b""), "no bare LF"
    assert b"\r" not in content.replace(b"\r\n", b""), "no bare CR"
    assert max(map(len, content.split(b"\r\n"))) <= 998
    unstuffed = content.replace(b"\r\n..", b"\r\n.")
    message = email.message_from_bytes(unstuffed, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


def parts_of(message: EmailMessage) -> tuple[str, str]:
    """The text and the HTML of a parsed letter."""
    text, html = message.get_body(("plain",)), message.get_body(("html",))
    assert text is not None
    assert html is not None
    return text.get_content(), html.get_content()


__all__ = ["Code", "Problem", "Rejected"]
