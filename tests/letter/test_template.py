"""EmailTemplates and EmailLayouts: the rules that need only the manifest."""

import base64
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from postroom.letter.manifest import explain_validation_error
from postroom.letter.mime.headers import header_rule
from postroom.letter.problems import Code
from postroom.letter.template import HTML_CHARACTERS, EmailLayout, EmailTemplate

FILE = {"filename": "terms.pdf", "contentType": "application/pdf", "content": "aGVsbG8="}
SPEC: dict[str, Any] = {
    "smtpProfileRef": {"name": "shop"},
    "eventTypes": ["shop.user.welcomed"],
    "subject": "Welcome, {{ name }}",
    "html": "<p>Hello {{ name }}</p>",
    "samples": [{"name": "ada", "data": {"name": "Ada"}}],
}


def build(model: type[BaseModel], spec: dict[str, Any]) -> Any:
    manifest = {
        "apiVersion": "postroom.dev/v1alpha1",
        "kind": model.__name__,
        "metadata": {"name": "welcome", "labels": {"team": "shop"}},
        "spec": spec,
    }
    return model.model_validate(manifest, strict=True, by_alias=True, by_name=False)


def template(**changes: Any) -> EmailTemplate:
    found: EmailTemplate = build(EmailTemplate, {**SPEC, **changes})
    return found


def refused(model: type[BaseModel], spec: dict[str, Any]) -> list[tuple[Code, str]]:
    with pytest.raises(ValidationError) as caught:
        build(model, spec)
    return [(problem.code, problem.field) for problem in explain_validation_error(model, caught.value)]


def broken(**changes: Any) -> list[tuple[Code, str]]:
    return refused(EmailTemplate, {**SPEC, **changes})


def test_a_minimal_template_has_all_defaults() -> None:
    spec = template().spec
    assert (spec.category, spec.default_locale, spec.suspend) == ("Transactional", "en", False)
    assert spec.variables == {"type": "object", "properties": {}}


def test_addresses_are_stored_normalized() -> None:
    spec = template(
        **{"from": {"name": "Zoë", "address": "Post@BÜCHER.example"}, "replyTo": "Help@X.org"}
    ).spec
    assert spec.sender is not None
    assert spec.sender.address == "Post@xn--bcher-kva.example"
    assert spec.reply_to == "Help@x.org"


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"eventTypes": []}, Code.MANIFEST_INVALID, "spec.eventTypes"),
        ({"eventTypes": ["a b"]}, Code.MANIFEST_INVALID, "spec.eventTypes[0]"),
        ({"eventTypes": ["a", "b", "a"]}, Code.MANIFEST_INVALID, "spec.eventTypes[2]"),
        ({"subject": ""}, Code.MANIFEST_INVALID, "spec.subject"),
        ({"subject": "two\nlines"}, Code.CONTROL_CHARACTER, "spec.subject"),
        ({"subject": "a\x00"}, Code.CONTROL_CHARACTER, "spec.subject"),
        ({"subject": "x" * 1025}, Code.MANIFEST_INVALID, "spec.subject"),
        ({"preheader": "a\rb"}, Code.CONTROL_CHARACTER, "spec.preheader"),
        ({"html": "<p>\x07</p>"}, Code.CONTROL_CHARACTER, "spec.html"),
        ({"html": "x" * (HTML_CHARACTERS + 1)}, Code.MANIFEST_INVALID, "spec.html"),
        ({"html": 5}, Code.MANIFEST_INVALID, "spec.html"),
        ({"samples": []}, Code.MANIFEST_INVALID, "spec.samples"),
        ({"samples": SPEC["samples"] * 2}, Code.MANIFEST_INVALID, "spec.samples[1].name"),
        (
            {"samples": [{"name": "a", "data": {}, "locale": "en_US"}]},
            Code.MANIFEST_INVALID,
            "spec.samples[0].locale",
        ),
        (
            {"samples": [{"name": "a", "data": {}, "recipient": "x"}]},
            Code.MANIFEST_INVALID,
            "spec.samples[0].recipient",
        ),
        ({"locales": [{"tag": "de_AT"}]}, Code.MANIFEST_INVALID, "spec.locales[0].tag"),
        ({"locales": [{"tag": "de"}, {"tag": "DE"}]}, Code.MANIFEST_INVALID, "spec.locales[1].tag"),
        ({"variables": {"type": "array"}}, Code.SCHEMA_INVALID, "spec.variables"),
        ({"variables": {}}, Code.SCHEMA_INVALID, "spec.variables"),
        ({"variables": {"type": "object", "properties": []}}, Code.SCHEMA_INVALID, "spec.variables"),
        ({"category": "Subscription"}, Code.MANIFEST_INVALID, "spec.unsubscribeUrl"),
        ({"unsubscribeUrl": "http://x.org/u"}, Code.MANIFEST_INVALID, "spec.unsubscribeUrl"),
        ({"unsubscribeUrl": "https://x.org/\r\nX: y"}, Code.CONTROL_CHARACTER, "spec.unsubscribeUrl"),
        ({"expiresAfter": "5 min"}, Code.MANIFEST_INVALID, "spec.expiresAfter"),
        ({"replyTo": "a@x.org; b@y.org"}, Code.MANIFEST_INVALID, "spec.replyTo"),
        (
            {"subjectVariants": [{"name": "a", "subject": "A", "weight": 0}]},
            Code.MANIFEST_INVALID,
            "spec.subjectVariants[0].weight",
        ),
        ({"layoutRef": {"name": "x", "namespace": "y"}}, Code.FIELD_UNKNOWN, "spec.layoutRef.namespace"),
        ({"subjet": "x"}, Code.FIELD_UNKNOWN, "spec.subjet"),
        (
            {"attachments": [{**FILE, "filename": "../x"}]},
            Code.ATTACHMENT_INVALID,
            "spec.attachments[0].filename",
        ),
        (
            {"attachments": [{**FILE, "contentType": "x"}]},
            Code.ATTACHMENT_INVALID,
            "spec.attachments[0].contentType",
        ),
        ({"attachments": [{**FILE, "content": "%"}]}, Code.MANIFEST_INVALID, "spec.attachments[0].content"),
        ({"attachments": [FILE, FILE]}, Code.MANIFEST_INVALID, "spec.attachments[1].filename"),
    ],
)
def test_a_broken_rule_has_its_code_and_field(changes: dict[str, Any], code: Code, field: str) -> None:
    assert broken(**changes) == [(code, field)]


def test_a_subscription_requires_an_unsubscribe_url() -> None:
    for url in ("{{ unsubscribe_url }}", "https://x.org/u?t={{ token }}"):
        assert template(category="Subscription", unsubscribeUrl=url).spec.unsubscribe_url == url


@pytest.mark.parametrize(
    "name", ["X-Campaign", "x-a", "List-Id", "Feedback-ID", "Precedence", "Organization"]
)
def test_harmless_headers_are_allowed(name: str) -> None:
    assert header_rule(name) is None
    assert template(headers=[{"name": name, "value": "{{ name }}"}]).spec.headers[0].name == name


@pytest.mark.parametrize(
    "name",
    [
        *(
            "Bcc",
            "To",
            "cc",
            "From",
            "Sender",
            "Subject",
            "Date",
            "Message-ID",
            "MIME-Version",
            "Content-Type",
        ),
        *("Received", "DKIM-Signature", "Return-Path", "Reply-To", "List-Unsubscribe", "Auto-Submitted"),
        *("X-Postroom-Template", "X-Original-To", "X-A\r\nBcc", "X A", "X-A:", "X-", "", "X-Ünï"),
    ],
)
def test_headers_that_address_route_or_describe_are_rejected(name: str) -> None:
    ((code, field),) = broken(headers=[{"name": name, "value": "x"}])
    assert field == "spec.headers[0].name"
    assert code is Code.HEADER_NOT_ALLOWED or not name


def test_a_header_is_one_line_and_occurs_once() -> None:
    assert broken(headers=[{"name": "X-A", "value": "a\r\nBcc: b"}]) == [
        (Code.CONTROL_CHARACTER, "spec.headers[0].value")
    ]
    twice = [{"name": "X-A", "value": "1"}, {"name": "x-a", "value": "2"}]
    assert broken(headers=twice) == [(Code.MANIFEST_INVALID, "spec.headers[1].name")]


def test_files_are_limited_together() -> None:
    large = base64.b64encode(b"x" * 300_000).decode()
    files = [{**FILE, "filename": name, "content": large} for name in ("a.pdf", "b.pdf")]
    assert broken(attachments=files) == [(Code.MANIFEST_INVALID, "spec.attachments")]


def test_a_yaml_block_in_the_subject_is_explained() -> None:
    with pytest.raises(ValidationError) as caught:
        template(subject="Welcome\n")
    assert "without the YAML sign" in next(explain_validation_error(EmailTemplate, caught.value)).message


def test_a_layout_names_each_partial_once() -> None:
    partial = {"name": "footer", "html": "<p>"}
    assert build(EmailLayout, {"html": "<html>", "partials": [partial]})
    assert refused(EmailLayout, {"html": "<html>", "partials": [partial, partial]}) == [
        (Code.MANIFEST_INVALID, "spec.partials[1].name")
    ]
    for name in ("/etc/passwd", "../x", "", "a b"):
        assert refused(EmailLayout, {"html": "x", "partials": [{"name": name, "html": "x"}]})[0][1] == (
            "spec.partials[0].name"
        )


@pytest.mark.parametrize(
    "tag", ["de", "pt-BR", "zh-Hant-TW", "es-419", "sl-rozaj-biske", "de-DE-1996", "en-US-u-hc-h12", "en-x-a"]
)
def test_a_language_tag_may_have_every_part_of_its_grammar(tag: str) -> None:
    assert template(defaultLocale=tag).spec.default_locale == tag
