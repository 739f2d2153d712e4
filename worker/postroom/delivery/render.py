"""Render letters: Letter → content filled in, or the Outcome that is known without sending.

All letters of a batch use the catalog of the moment when rendering starts, and each letter uses one template
revision. A letter with an outcome from this step is claimed and settled like any other, so that it has a row
in the ledger.

Failure: an error in a template affects only its letter (Unrenderable).
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime

from postroom.delivery.context import DeliveryContext, DeliveryPolicy
from postroom.letter.address import normalize_address
from postroom.letter.catalog import RenderableTemplate, RenderedLetter, SenderMailbox, TemplateCatalog
from postroom.letter.event import is_late_replay
from postroom.letter.identity import message_id
from postroom.letter.mime.compose import compose_letter
from postroom.letter.problems import Code, Problem, Rejected, did_you_mean
from postroom.policy.outcomes import Expired, KeyUnavailable, NoTemplate, Outcome, Scheduled, Unrenderable
from postroom.ports.ledger import Letter
from postroom.ports.relay import Envelope

TURN_SECONDS = 0.02
"""How long a batch renders before it yields to the event loop."""

Verdicts = dict[Letter, Outcome]
"""The outcomes of letters that are decided before anything is sent."""


async def render(letters: Sequence[Letter], context: DeliveryContext) -> Verdicts:
    """Fill in the content of each letter or return its outcome; yields to the event loop regularly."""
    catalog, now = context.templates.current(), context.clock.now()
    verdicts: Verdicts = {}
    begun = context.clock.monotonic()
    for letter in letters:
        verdict = render_one(letter, catalog, context.policy, now)
        if verdict is not None:
            verdicts[letter] = verdict
        if context.clock.monotonic() - begun > TURN_SECONDS:
            await asyncio.sleep(0)
            begun = context.clock.monotonic()
    return verdicts


def render_one(
    letter: Letter, catalog: TemplateCatalog, policy: DeliveryPolicy, now: datetime
) -> Outcome | None:
    """Fill in the content of one letter; returns an outcome if the letter must not be sent now."""
    event = letter.event
    letter.expires = _effective_expiry(letter, event.expires)
    if letter.expires is not None and letter.expires <= now:
        return Expired(expired(letter))
    if event.not_before is not None and event.not_before > now:
        return Scheduled(event.not_before)
    template = catalog.find(event.type)
    if template is None or template.suspended:
        return NoTemplate(_no_template(letter, template, catalog))
    if event.revision is not None and event.revision != template.revision:
        return NoTemplate(_not_this_revision(letter, template))
    try:
        return _render_with(template, letter, policy, now)
    except Rejected as rejected:
        return Unrenderable(rejected.problems[0])
    except Exception as error:  # noqa: BLE001 - an error in one letter must not stop the worker
        return Unrenderable(_template_failure(template, error))


def _render_with(
    template: RenderableTemplate, letter: Letter, policy: DeliveryPolicy, now: datetime
) -> Outcome | None:
    letter.template, letter.revision = template.name, template.revision
    letter.category = template.category
    letter.expires = _effective_expiry(letter, template.expires(letter.event))
    if letter.expires is not None and letter.expires <= now:
        return Expired(expired(letter))
    path = policy.returns.return_path(letter.identity) if policy.returns else None
    if isinstance(path, Problem):
        return KeyUnavailable(path)
    sender = _fill(letter, template.render(letter.event), policy, path)
    if policy.signer is None:
        return None
    signed = policy.signer.sign(letter.content, sender.address, now)
    if isinstance(signed, Problem):
        return KeyUnavailable(signed)
    letter.content = signed
    return None


def _fill(
    letter: Letter, rendered: RenderedLetter, policy: DeliveryPolicy, path: str | None
) -> SenderMailbox:
    """Compose the message; `path` is the envelope sender if it differs from the From address."""
    sender = _sender(rendered, policy)
    recipient = normalize_address(letter.event.recipient)
    letter.message_id = message_id(letter.identity, sender.address.rpartition("@")[2])
    letter.envelope = Envelope(path or sender.address, letter.event.recipient, recipient.smtputf8)
    letter.content = compose_letter(
        rendered,
        to=letter.event.recipient,
        sender=sender,
        message_id=letter.message_id,
        date=letter.event.time,
    )
    return sender


def _sender(rendered: RenderedLetter, policy: DeliveryPolicy) -> SenderMailbox:
    if rendered.sender is None:
        return policy.sender
    domain = rendered.sender.address.rpartition("@")[2].lower()
    allowed = policy.from_domains or {policy.sender.address.rpartition("@")[2].lower()}
    if domain in allowed:
        return rendered.sender
    raise Rejected(
        Problem(
            Code.SENDER_NOT_ALLOWED,
            "spec.from",
            f"{domain} is not a domain that profile {policy.profile} sends from; add it to "
            "spec.allowedFromDomains of the SmtpProfile or take the profile's own sender",
        )
    )


def _effective_expiry(letter: Letter, expires: datetime | None) -> datetime | None:
    """Return `expires`, or None for a replay that was requested although the letter had expired."""
    return None if letter.replay and is_late_replay(letter.record) else expires


def expired(letter: Letter) -> Problem:
    """Build the problem of a letter that has expired."""
    assert letter.expires is not None
    return Problem(
        Code.EXPIRED,
        "expires",
        f"the letter expired at {letter.expires:%Y-%m-%d %H:%M:%S} UTC (expiresAfter or the event's "
        "own expiry), so it was not sent",
    )


def _not_this_revision(letter: Letter, template: RenderableTemplate) -> Problem:
    return Problem(
        Code.TEMPLATE_MISSING,
        "template_revision",
        f"the event asks for {template.name}@{letter.event.revision}, and {template.revision} is live; apply "
        "that revision again, or publish the event without template_revision",
    )


def _template_failure(template: RenderableTemplate, error: Exception) -> Problem:
    return Problem(
        Code.RENDER_FAILED,
        "spec.html",
        f"template {template.name}@{template.revision} failed on this event ({type(error).__name__}), which "
        "its validation did not detect; add the event's data as a sample and run postroom check",
    )


def _no_template(letter: Letter, template: RenderableTemplate | None, catalog: TemplateCatalog) -> Problem:
    kind = letter.event.type
    if template is not None:
        return Problem(
            Code.TEMPLATE_SUSPENDED,
            "event_type",
            f"template {template.name} for {kind} is suspended; the letter waits until that is lifted",
        )
    return Problem(
        Code.TEMPLATE_MISSING,
        "event_type",
        f"no live template serves {kind}{did_you_mean(kind, catalog.templates)}; apply an EmailTemplate with "
        "this event type for the same profile, and the letter is sent automatically within five minutes",
    )
