"""A profile's manifest as the worker's rules."""

from pathlib import Path

from postroom.delivery.decide.retry import Policy
from postroom.delivery.post import House
from postroom.letter.duration import seconds
from postroom.letter.handover import Handed, profiles_in
from postroom.letter.problems import Code, Problem, Rejected
from postroom.letter.profile import SmtpProfile
from postroom.letter.render import Sender
from postroom.ports.ledger import State


def read_profile(path: Path, setting: str = "POSTROOM_PROFILE") -> SmtpProfile:
    """The one SmtpProfile of a manifest file, which `setting` names; raises Rejected."""
    return read_handed(path, setting).profile


def read_handed(path: Path, setting: str = "POSTROOM_PROFILE") -> Handed:
    """The same, with what was left out of it."""
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise Rejected(Problem(Code.SETTING_INVALID, setting, str(error))) from None
    found = profiles_in(text, path.name)
    if len(found) != 1:
        rule = f"{path} holds {len(found)} SmtpProfiles; a worker serves exactly one"
        raise Rejected(Problem(Code.SETTING_INVALID, setting, rule))
    return found[0]


def house_of(profile: SmtpProfile, accepted_as: State) -> House:
    """What the journey needs to know of the profile."""
    spec = profile.spec
    return House(
        profile=f"{profile.metadata.namespace}/{profile.metadata.name}",
        sender=Sender(spec.sender.address, spec.sender.name),
        policy=Policy(
            max_attempts=spec.retry.max_attempts,
            initial_delay=seconds(spec.retry.initial_delay),
            max_delay=seconds(spec.retry.max_delay),
            max_age=seconds(spec.retry.max_age),
            on_in_doubt=spec.on_in_doubt,
            accepted_as=accepted_as,
        ),
        window=seconds(spec.dedupe.window),
        parked_for=seconds(spec.parked_for),
        suppresses_bounces=accepted_as is State.ACCEPTED and spec.suppression.hard_bounces == "Suppress",
        from_domains=frozenset(spec.allowed_from_domains),
    )
