"""What a worker is to do, known before it has reached anything: its settings, its profile, its exit."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import structlog

from postroom.clock import SystemClock
from postroom.delivery.post import House
from postroom.delivery.programs.callbacks import Doorstep
from postroom.delivery.programs.relays import Exit, open_exit
from postroom.delivery.programs.returnpaths import ReturnPaths
from postroom.delivery.programs.rules import house_of, read_handed
from postroom.delivery.programs.signing import Signing
from postroom.delivery.programs.webhooksecrets import Secret
from postroom.delivery.settings import WorkerSettings
from postroom.letter.allowlist import read_allowlist
from postroom.letter.profile import SmtpProfile, topic_of
from postroom.ports.world import Clock

log = structlog.get_logger("postroom.worker")


@dataclass(frozen=True, slots=True)
class Job:
    """One profile's letters, and where they leave."""

    settings: WorkerSettings
    profile: SmtpProfile
    exit: Exit
    house: House
    clock: Clock
    signing: Signing | None = None
    callbacks: tuple[Doorstep, ...] = ()
    returns: ReturnPaths | None = None
    left_out: tuple[str, ...] = ()
    """The fields of its manifests that this release does not know, as `shop/orders: spec.retry.budget`."""

    @property
    def topic(self) -> str:
        """The topic that events come on."""
        return topic_of(self.profile)


def read_job(settings: WorkerSettings) -> Job:
    """Read the profile and choose the relay; raises Rejected."""
    handed = read_handed(settings.profile)
    profile = handed.profile
    exit_ = open_exit(profile, settings)
    strict = exit_.mode == "SMTP"
    signing = Signing(profile, settings.secrets, strict) if profile.spec.dkim else None
    returns = ReturnPaths(profile, settings.secrets, strict) if profile.spec.bounces else None
    house = replace(house_of(profile, exit_.accepted_as), signer=signing, returns=returns)
    callbacks = tuple(_doorsteps(profile, settings))
    left_out = handed.unknown_fields + exit_.fallback_left_out
    return Job(settings, profile, exit_, house, SystemClock(), signing, callbacks, returns, left_out)


def _doorsteps(profile: SmtpProfile, settings: WorkerSettings) -> Iterator[Doorstep]:
    allowed = read_allowlist(settings.callback_allow)
    for one in profile.spec.callbacks:
        doorstep = Doorstep(one, Secret(settings.secrets, profile.metadata.namespace), allowed)
        doorstep.look()
        yield doorstep


def announce(job: Job) -> None:
    """Say what this worker does."""
    log.info("profile", name=job.profile.metadata.name, mode=job.exit.mode, topic=job.topic)
    tell_left_out(job.left_out)
    if job.exit.guarded:
        log.warning(
            "mode SMTP is treated as Sandbox: delivery is not allowed here",
            setting="POSTROOM_DELIVERY_ALLOWED",
        )


def tell_left_out(fields: Sequence[str]) -> None:
    """Say what a later release wrote and this one does not do."""
    if fields:
        log.warning("fields that this release does not know are left out", fields=list(fields))
