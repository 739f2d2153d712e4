"""The configuration of a worker, read before it connects: settings, profile, relay selection, policy."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import structlog

from postroom.clock import SystemClock
from postroom.delivery.context import DeliveryPolicy
from postroom.letter.allowlist import read_allowlist
from postroom.letter.profile import SmtpProfile, topic_of
from postroom.ports.world import Clock
from postroom.worker.callbacks import CallbackDispatcher
from postroom.worker.profile_config import delivery_policy, read_profile_file
from postroom.worker.relays import RelaySelection, select_relay
from postroom.worker.secrets import CallbackSecret, DkimSigner, ReturnPathBuilder
from postroom.worker.settings import WorkerSettings

log = structlog.get_logger("postroom.worker")


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """The configuration of callback worker."""

    settings: WorkerSettings
    profile: SmtpProfile
    relay_selection: RelaySelection
    policy: DeliveryPolicy
    clock: Clock
    signing: DkimSigner | None = None
    callbacks: tuple[CallbackDispatcher, ...] = ()
    returns: ReturnPathBuilder | None = None
    unknown_fields: tuple[str, ...] = ()
    """The fields of its manifests that this release does not know, as `shop/orders: spec.retry.budget`."""

    @property
    def topic(self) -> str:
        """The topic of the profile's events."""
        return topic_of(self.profile)


def read_config(settings: WorkerSettings) -> WorkerConfig:
    """Read the profile and choose the relay; raises Rejected."""
    parsed = read_profile_file(settings.profile)
    profile = parsed.profile
    selection = select_relay(profile, settings)
    strict = selection.mode == "SMTP"
    signing = DkimSigner(profile, settings.secrets, strict) if profile.spec.dkim else None
    returns = ReturnPathBuilder(profile, settings.secrets, strict) if profile.spec.bounces else None
    policy = replace(delivery_policy(profile, selection.accepted_as), signer=signing, returns=returns)
    callbacks = tuple(_callback_dispatchers(profile, settings))
    unknown_fields = parsed.unknown_fields + selection.fallback_unknown_fields
    return WorkerConfig(
        settings, profile, selection, policy, SystemClock(), signing, callbacks, returns, unknown_fields
    )


def _callback_dispatchers(profile: SmtpProfile, settings: WorkerSettings) -> Iterator[CallbackDispatcher]:
    allowed = read_allowlist(settings.callback_allow)
    for callback in profile.spec.callbacks:
        dispatcher = CallbackDispatcher(
            callback, CallbackSecret(settings.secrets, profile.metadata.namespace), allowed
        )
        dispatcher.reload()
        yield dispatcher


def announce(config: WorkerConfig) -> None:
    """Log what this worker does."""
    log.info(
        "profile", name=config.profile.metadata.name, mode=config.relay_selection.mode, topic=config.topic
    )
    log_unknown_fields(config.unknown_fields)
    if config.relay_selection.guarded:
        log.warning(
            "mode SMTP is treated as Sandbox: delivery is not allowed here",
            setting="POSTROOM_DELIVERY_ALLOWED",
        )


def log_unknown_fields(fields: Sequence[str]) -> None:
    """Log fields of a later release, which this release ignores."""
    if fields:
        log.warning("unknown fields are ignored; a later release may define them", fields=list(fields))
