"""Reply-To lists: parsed leniently, quoted where needed, and never two headers."""

import email
import email.policy
from dataclasses import replace
from email.utils import getaddresses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.letter.catalog import RenderedLetter
from postroom.letter.mailboxes import (
    MAX_NAME_CHARACTERS,
    filled_mailboxes,
    read_mailboxes,
    split_mailboxes,
    write_mailboxes,
)
from postroom.letter.mime.compose import compose_letter
from postroom.letter.problems import Code, Rejected
from tests.letter.factories import (
    MESSAGE_ID,
    NOON,
    PROFILE_SENDER,
    event,
    live,
    problem_of,
    rendered,
    reopen,
    variables,
)

READ = {
    "help@larkfield.example": [("", "help@larkfield.example")],
    "<help@x.org>": [("", "help@x.org")],
    "Help@BÜCHER.example": [("", "Help@xn--bcher-kva.example")],
    "Ada <ada@x.org>": [("Ada", "ada@x.org")],
    "Support, Larkfield <help@x.org>": [("Support, Larkfield", "help@x.org")],
    '"A, B" <a@x.org>, c@y.org': [("A, B", "a@x.org"), ("", "c@y.org")],
    "a@x.org,b@y.org": [("", "a@x.org"), ("", "b@y.org")],
    "Larkfield, Inc. (EU) <a@x.org>, b@y.org": [("Larkfield, Inc. (EU)", "a@x.org"), ("", "b@y.org")],
    "Zoë 🌿 <zoe@x.org>": [("Zoë 🌿", "zoe@x.org")],
    "O'Brien <o'b@x.org>": [("O'Brien", "o'b@x.org")],
    '"a\\"b\\\\, c" <a@x.org>': [('a"b\\, c', "a@x.org")],
    '"A" B <a@x.org>': [("A B", "a@x.org")],
    '"" <a@x.org>': [("", "a@x.org")],
    "help@x.org <help@x.org>": [("help@x.org", "help@x.org")],
    "a@x.org, ,": [("", "a@x.org")],
    "=?utf-8?q?x=0ABcc?= <a@x.org>": [("=?utf-8?q?x=0ABcc?=", "a@x.org")],
}

REFUSED = {
    "": "is empty; give an address like help@example.org",
    " , ": "is empty; give an address like help@example.org",
    "Support": "`Support` has no address; write Name <name@example.org>, with commas between mailboxes",
    "a@x.org, Support": "`Support` has no address",
    "Support <>": "`Support <>` has no address between its brackets",
    "help@x.org (Support)": "`help@x.org (Support)` has a comment; write Support <help@x.org>",
    "Ada L. ada@x.org": "`Ada L. ada@x.org` has no angle brackets; write Ada L. <ada@x.org>",
    "a@x.org; b@y.org": "`a@x.org; b@y.org` holds several addresses; write commas between them",
    "a@x.org b@y.org": "holds several addresses; write commas between them",
    "Team: a@x.org, b@y.org;": "`Team: a@x.org` begins a group; give the addresses alone",
    "mailto:a@x.org": "leave mailto: out",
    '"Ada <ada@x.org>': "has a quote that is not closed",
    "Ada <ada@x.org": "is not one mailbox",
    "Ada <ada@x.org> <b@y.org>": "is not one mailbox",
    "a@x.org> b@y.org": "is not one mailbox",
    "ok@x.org, ada..l@x.org": "`ada..l@x.org` has a dot at an end",
    "Team @ Larkfield, Inc <a@x.org>": "put a name in quotes when it has an @ in it",
    "A\r\nBcc: evil@x.org <a@x.org>": "holds a control character or line end (U+000D)",
    "A\u2028 <a@x.org>": "holds a control character or line end (U+2028)",
    ",".join(["a@x.org"] * 11): "holds 11 mailboxes; at most 10 are allowed",
    "x" * (MAX_NAME_CHARACTERS + 1) + " <a@x.org>": "has a name of 201 characters; at most 200 are allowed",
    "a@x.org," * 300: "characters; at most 2048 are allowed",
}


def finish(letter: RenderedLetter) -> bytes:
    return compose_letter(
        letter, to="mira@example.org", sender=PROFILE_SENDER, message_id=MESSAGE_ID, date=NOON
    )


@pytest.mark.parametrize("text", READ)
def test_a_list_is_parsed_and_written_back(text: str) -> None:
    found = read_mailboxes(text, "replyTo")
    assert list(found) == READ[text]
    assert read_mailboxes(write_mailboxes(found), "replyTo") == found


@pytest.mark.parametrize("text", REFUSED)
def test_an_invalid_list_is_rejected_with_the_part_and_the_way_out(text: str) -> None:
    with pytest.raises(Rejected) as caught:
        read_mailboxes(text, "spec.replyTo")
    (problem,) = caught.value.problems
    assert (problem.code, problem.field) == (Code.FIELD_INVALID, "spec.replyTo")
    assert REFUSED[text] in problem.message
    assert "one event" not in problem.message


@pytest.mark.parametrize("text", [each for each in REFUSED if "@" in each])
def test_the_problem_of_an_events_list_holds_no_data(text: str) -> None:
    with pytest.raises(Rejected) as caught:
        read_mailboxes(f"fine@x.org,{text}", "reply_to", quote=False)
    message = caught.value.problems[0].message
    assert not any(word in message for word in ("x.org", "y.org", "Ada L", "Support", "Larkfield", "Team"))


def test_the_invalid_mailbox_of_an_event_is_named_by_its_number() -> None:
    with pytest.raises(Rejected, match=r"mailbox 3 has no angle brackets; write Name <name@example\.org>"):
        read_mailboxes("a@x.org, B <b@x.org>, Carl carl@x.org", "reply_to", quote=False)


@pytest.mark.parametrize("text", READ)
def test_a_parser_reads_the_same_mailboxes_from_the_reply_to_header(text: str) -> None:
    content = finish(rendered(reply_to=write_mailboxes(read_mailboxes(text, "replyTo"))))
    head = content.partition(b"\r\n\r\n")[0]
    assert all(len(line) <= 998 for line in head.split(b"\r\n"))
    assert [line[:9] for line in head.split(b"\r\n")].count(b"Reply-To:") == 1
    assert b"\nBcc" not in head
    found = reopen(content)["Reply-To"]
    assert [(each.display_name, each.addr_spec) for each in found.addresses] == READ[text]


def test_one_bare_address_is_written_without_brackets() -> None:
    assert b"\r\nReply-To: help@x.org\r\n" in finish(rendered(reply_to="help@x.org"))


NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=60)


@given(st.lists(NAMES, min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_any_names_give_one_header_with_these_mailboxes(names: list[str]) -> None:
    listed = [(name.strip(), f"a{number}@x.org") for number, name in enumerate(names)]
    text = write_mailboxes(listed)
    assert list(read_mailboxes(text, "replyTo")) == listed
    raw = email.message_from_bytes(finish(rendered(reply_to=text)), policy=email.policy.compat32)
    found = getaddresses([str(raw["Reply-To"]).replace("\r\n", "")])
    assert [address for _, address in found] == [address for _, address in listed]
    assert raw["Bcc"] is None


AGENT: dict[str, Any] = {
    "variables": variables(name={"type": "string"}, agent={"type": "string"}, mail={"type": "string"}),
    "samples": [{"name": "only", "data": {"name": "Zoë", "agent": "Ada", "mail": "ada@x.org"}}],
}


def test_a_template_takes_names_and_addresses_from_the_data() -> None:
    template = live(replyTo='"{{ agent }}, Larkfield" <{{ mail }}>, help@x.org', **AGENT)
    letter = template.render(event(name="x", agent="Ada <B>, C", mail="ada@BÜCHER.example"))
    assert letter.reply_to == '"Ada <B>, C, Larkfield" <ada@xn--bcher-kva.example>, help@x.org'
    (first, second) = reopen(finish(letter))["Reply-To"].addresses
    assert (first.display_name, second.addr_spec) == ("Ada <B>, C, Larkfield", "help@x.org")


def test_a_value_never_adds_a_mailbox() -> None:
    template = live(replyTo="{{ agent }} <{{ mail }}>", **AGENT)
    for mail in ("ada@x.org, evil@x.org", "ada@x.org>, <evil@x.org", "Ada <ada@x.org>"):
        with pytest.raises(Rejected) as caught:
            template.render(event(name="x", agent="evil@x.org, ", mail=mail))
        (problem,) = caught.value.problems
        assert (problem.code, problem.field) == (Code.RENDER_FAILED, "spec.replyTo")
        assert "x.org" not in problem.message
    letter = template.render(event(name="x", agent="evil@x.org, ", mail="ada@x.org"))
    assert len(reopen(finish(letter))["Reply-To"].addresses) == 1


def test_a_mailbox_with_an_empty_address_is_omitted() -> None:
    template = live(replyTo="{{ agent }} <{{ mail }}>", **AGENT)
    assert template.render(event(name="x", agent="Ada", mail="")).reply_to is None


def test_a_line_end_in_a_value_is_rejected() -> None:
    template = live(replyTo="{{ agent }} <{{ mail }}>", **AGENT)
    with pytest.raises(Rejected) as caught:
        template.render(event(name="x", agent="A\r\nBcc: b@x.org", mail="ada@x.org"))
    assert caught.value.code is Code.CONTROL_CHARACTER


def test_an_undeclared_variable_in_a_reply_address_fails_validation() -> None:
    problem = problem_of("<p>{{ name }}</p>", replyTo="{{ agnt }} <help@x.org>")
    assert (problem.code, problem.field) == (Code.VARIABLE_UNDECLARED, "spec.replyTo")


def test_a_sample_with_an_invalid_reply_address_fails_validation() -> None:
    broken = {**AGENT, "samples": [{"name": "only", "data": {"name": "Z", "agent": "A", "mail": "none"}}]}
    problem = problem_of("<p>{{ name }}{{ agent }}</p>", replyTo="<{{ mail }}>", **broken)
    assert (problem.code, problem.field) == (Code.RENDER_FAILED, "spec.replyTo")
    assert "mailbox 1: the address is not a valid address" in problem.message


@pytest.mark.parametrize(
    ("source", "rule"),
    [
        ("{% if a %}a@x.org{% endif %}", "takes {{ variable }} alone"),
        ("{# to #}a@x.org", "takes {{ variable }} alone"),
        ("Ada {{ mail }}", "`Ada {{ … }}` has no angle brackets; write Ada <{{ … }}>"),
        ("\ue000@x.org", "private-use character"),
    ],
)
def test_a_source_that_is_not_a_list_is_rejected(source: str, rule: str) -> None:
    with pytest.raises(Rejected) as caught:
        split_mailboxes(source, "spec.replyTo")
    assert rule in caught.value.problems[0].message


def test_expressions_may_hold_commas_quotes_and_brackets() -> None:
    source = '"{{ a|default("x, y") }}" <{{ b.replace("<", ">") }}>, c@x.org'
    assert split_mailboxes(source, "spec.replyTo") == (
        ('{{ a|default("x, y") }}', '{{ b.replace("<", ">") }}'),
        ("", "c@x.org"),
    )


def test_a_rendered_name_has_its_limit() -> None:
    with pytest.raises(Rejected, match="mailbox 1: a name comes out 201 characters long"):
        filled_mailboxes([("x" * 201, "a@x.org")], "spec.replyTo")


def test_the_events_reply_address_takes_precedence() -> None:
    template = live(replyTo="Help <help@x.org>, orders@x.org")
    assert template.render(event(name="x")).reply_to == '"Help" <help@x.org>, orders@x.org'
    answered = template.render(replace(event(name="x"), reply_to="me@x.org"))
    assert answered.reply_to == "me@x.org"


def test_one_bare_address_is_kept_as_it_is_and_a_list_as_template_sources() -> None:
    single = live(replyTo="help@x.org").compiled
    assert (single.reply_to, single.reply_to_list) == ("help@x.org", ())
    listed = live(replyTo="{{ name }} <{{ name }}@x.org>, Help <help@x.org>").compiled
    assert listed.reply_to is None
    assert listed.reply_to_list == (("{{ name }}", "{{ name }}@x.org"), ("Help", "help@x.org"))
