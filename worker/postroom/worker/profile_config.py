"""Read an SmtpProfile manifest and convert it to the worker's delivery policy."""

from collections.abc import Collection, Mapping
from pathlib import Path

from postroom.delivery.context import DeliveryPolicy
from postroom.letter.catalog import SenderMailbox
from postroom.letter.manifest_fields import duration_seconds
from postroom.letter.problems import Code, Problem, Rejected
from postroom.letter.profile import SmtpProfile, SmtpProfileSpec
from postroom.letter.profile_format import ParsedProfile, parse_profiles
from postroom.letter.status_events import ledger_states
from postroom.policy.retry import RetryPolicy
from postroom.ports.ledger import State
from postroom.ports.notifications import TOPIC


def read_profile(path: Path, setting: str = "POSTROOM_PROFILE") -> SmtpProfile:
    """Read the only SmtpProfile of a file; `setting` is named in errors. Raises Rejected."""
    return read_profile_file(path, setting).profile


def read_profile_file(path: Path, setting: str = "POSTROOM_PROFILE") -> ParsedProfile:
    """Read the only SmtpProfile of a file with its unknown fields; raises Rejected."""
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise Rejected(Problem(Code.SETTING_INVALID, setting, str(error))) from None
    found = parse_profiles(text, path.name)
    if len(found) != 1:
        rule = f"{path} contains {len(found)} SmtpProfiles; a worker serves exactly one"
        raise Rejected(Problem(Code.SETTING_INVALID, setting, rule))
    return found[0]


def delivery_policy(profile: SmtpProfile, accepted_as: State) -> DeliveryPolicy:
    """Convert the profile to the settings of the pipeline."""
    spec = profile.spec
    return DeliveryPolicy(
        profile=f"{profile.metadata.namespace}/{profile.metadata.name}",
        sender=SenderMailbox(spec.sender.address, spec.sender.name),
        retry=RetryPolicy(
            max_attempts=spec.retry.max_attempts,
            initial_delay=duration_seconds(spec.retry.initial_delay),
            max_delay=duration_seconds(spec.retry.max_delay),
            max_age=duration_seconds(spec.retry.max_age),
            on_in_doubt=spec.on_in_doubt,
            accepted_as=accepted_as,
        ),
        window=duration_seconds(spec.dedupe.window),
        parked_for=duration_seconds(spec.parked_for),
        suppresses_bounces=accepted_as is State.ACCEPTED and spec.suppression.hard_bounces == "Suppress",
        from_domains=frozenset(spec.allowed_from_domains),
    )


def wanted_transitions(spec: SmtpProfileSpec) -> Mapping[str, Collection[str]]:
    """Return each notification destination with the ledger states that it subscribes to."""
    wanted = {TOPIC: ledger_states(spec.kafka.status_events)} if spec.kafka.status_events else {}
    return wanted | {callback.name: ledger_states(callback.events) for callback in spec.callbacks}
